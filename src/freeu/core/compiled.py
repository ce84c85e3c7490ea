"""Whether a model has run as compiled code, which never looks at hooks that are added later."""

from __future__ import annotations

import gc
import sys
from typing import Any

from torch import nn

from freeu.errors import FreeURuntimeError


def is_compiled(model: nn.Module) -> bool:
    """True if calls of the model may run code compiled earlier, which never looks at new hooks.

    A model that was handed to torch.compile but has not run yet is fine: it will be traced with its hooks.
    """
    if "torch._dynamo.eval_frame" not in sys.modules:
        return False
    for module in model.modules():
        marked = getattr(module, "_compiled_call_impl", None) is not None
        if (marked or hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")) and _has_compiled_code(
            module
        ):
            return True
    return _has_compiled_code(model) and _is_wrapped(model)


def _is_wrapped(model: nn.Module) -> bool:
    """True if the result of torch.compile(model), which leaves no mark on the model itself, is alive."""
    from torch._dynamo.eval_frame import OptimizedModule

    for modules in gc.get_referrers(model):
        if not isinstance(modules, dict) or modules.get("_orig_mod") is not model:
            continue
        # The dictionary of submodules is held by the wrapper or by the wrapper's instance dictionary.
        holders = gc.get_referrers(modules)
        owners = [owner for holder in holders if isinstance(holder, dict) for owner in gc.get_referrers(holder)]
        if any(isinstance(holder, OptimizedModule) for holder in (*holders, *owners)):
            return True
    return False


def _has_compiled_code(model: nn.Module) -> bool:
    """True if the compiler holds code for the forward of the model's class (of any instance: it does not say)."""
    try:
        from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list as entries
    except ImportError:  # another torch: assume so and look closer
        return True
    function: Any = type(model).forward
    while function is not None:
        code = getattr(function, "__code__", None)
        if code is not None and entries(code):
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def refuse_compiled(model: nn.Module) -> None:
    if is_compiled(model):
        raise FreeURuntimeError(
            f"this {type(model).__name__} has run as compiled code, which never looks at hooks added later. Apply "
            "FreeU first and compile then (handle.update changes factors without recompiling), or forget the compiled "
            "code with torch._dynamo.reset()"
        )

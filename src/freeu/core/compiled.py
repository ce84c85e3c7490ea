"""Whether a model has run as compiled code, which never looks at hooks that are added later."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from freeu.errors import FreeURuntimeError


def is_compiled(model: nn.Module) -> bool:
    """True if calls of the model run code compiled earlier, which never looks at new hooks.

    A model that was handed to torch.compile but has not run yet is fine: it will be traced with its hooks.
    """
    if "torch._dynamo.eval_frame" not in sys.modules:
        return False
    for module in model.modules():
        marked = getattr(module, "_compiled_call_impl", None) is not None
        if (marked or hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")) and _entries(module):
            return True
        if _is_wrapper(module) and _has_run(module):
            return True
    return bool(_entries(model)) and any(_has_run(wrapper) for wrapper in _wrappers(model))


def _is_wrapper(module: Any) -> bool:
    return type(module).__name__ == "OptimizedModule" and "_orig_mod" in getattr(module, "_modules", ())


def _wrappers(model: nn.Module) -> Iterator[Any]:
    """The living results of torch.compile(model), which leaves no mark on the model itself."""
    for modules in gc.get_referrers(model):
        if not isinstance(modules, dict) or modules.get("_orig_mod") is not model:
            continue
        # The dictionary of submodules is held by the wrapper or by the wrapper's instance dictionary.
        holders = gc.get_referrers(modules)
        owners = [owner for holder in holders if isinstance(holder, dict) for owner in gc.get_referrers(holder)]
        yield from (owner for owner in (*holders, *owners) if _is_wrapper(owner))


def _has_run(wrapper: Any) -> bool:
    """True if the compiler holds code that was made for this result of torch.compile.

    Code is held by class, not by instance, but with the backend it was made by, and every torch.compile has its own.
    """
    entries = _entries(wrapper._orig_mod)
    try:
        own = _innermost(wrapper.dynamo_ctx.callback)
        return any(_innermost(entry.backend) is own for entry in entries)
    except AttributeError:  # another torch, which does not say: assume so
        return bool(entries)


def _innermost(backend: Any) -> Any:
    while hasattr(backend, "_torchdynamo_orig_backend"):
        backend = backend._torchdynamo_orig_backend
    return backend


def _entries(model: nn.Module) -> list[Any]:
    """What the compiler holds for the forward of the model's class, made for any instance."""
    # By attributes: torch 2.4 does not always enter this module of C++ among the importable ones.
    entries_of = torch._C._dynamo.eval_frame._debug_get_cache_entry_list
    return [entry for code in _codes(type(model)) for entry in entries_of(code)]


def _codes(cls: type[nn.Module]) -> Iterator[Any]:
    """The code of a class's forward and of what its decorators wrap."""
    function: Any = cls.forward
    while function is not None:
        code = getattr(function, "__code__", None)
        if code is not None:
            yield code
        function = getattr(function, "__wrapped__", None)


def refuse_compiled(model: nn.Module) -> None:
    """Raise if the model has run as compiled code."""
    if is_compiled(model):
        raise FreeURuntimeError(
            f"this {type(model).__name__} has run as compiled code, which never looks at hooks added later. Apply "
            "FreeU first and compile then (handle.update changes factors without recompiling), or forget the compiled "
            "code with torch._dynamo.reset()"
        )


def tell_instances_apart(model: nn.Module) -> None:
    """Keep a model with hooks from running code that was compiled for another instance of its class.

    The compiler shares code between instances and does not look at their hooks unless told to. From here on it does,
    in the whole process; what it compiled before for these classes is forgotten and compiled again when next called.
    """
    dynamo = sys.modules.get("torch._dynamo")
    config: Any = getattr(dynamo, "config", None)
    if not getattr(config, "skip_nnmodule_hook_guards", False):
        return
    reset_code = torch._C._dynamo.eval_frame.reset_code

    config.skip_nnmodule_hook_guards = False
    for cls in {type(module) for module in model.modules()}:
        for code in _codes(cls):
            reset_code(code)

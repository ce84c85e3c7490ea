"""Whether a model has run as compiled code, which never looks at hooks that are added later."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from freeu.errors import FreeURuntimeError


def compiled_part(model: nn.Module, modules: Iterable[nn.Module] | None = None, *, run: bool = True) -> str | None:
    """Where calls of the model run code compiled earlier, which never looks at new hooks.

    A model that was handed to torch.compile but has not run yet is fine: it will be traced with its hooks. So is a part
    that was compiled by itself (``compile_repeated_blocks`` of diffusers) where no hook is to go into it.

    Args:
        model: the U-Net.
        modules: parts of it that are to get hooks; None: any part may.
        run: False finds what was handed to torch.compile and has not run yet, too.

    Returns:
        the dotted path of the part, "" for the model itself; None where there is none.
    """
    if "torch._dynamo.eval_frame" not in sys.modules:
        return None
    for name, module in _around(model, modules):
        marked = getattr(module, "_compiled_call_impl", None) is not None
        replaced = hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")
        if (marked or replaced) and (not run or _entries(module)):
            return name
        if _is_wrapper(module) and (not run or _has_run(module)):
            return name
    return "" if _entries(model) and any(_has_run(wrapper) for wrapper in _wrappers(model)) else None


def _around(model: nn.Module, modules: Iterable[nn.Module] | None) -> list[tuple[str, nn.Module]]:
    """The model, these parts of it and what they lie in, each with its path; without ``modules`` every part."""
    parts = list(model.named_modules(remove_duplicate=False))
    if modules is None:
        return parts
    wanted = {id(module) for module in modules}
    inside = [f"{name}." for name, module in parts if id(module) in wanted]
    return [(name, module) for name, module in parts if not name or any(path.startswith(f"{name}.") for path in inside)]


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


def refuse_compiled(model: nn.Module, modules: Iterable[nn.Module] | None = None) -> None:
    """Raise if the model, or a part of it that hooks are to go into, has run as compiled code.

    Args:
        model: the U-Net.
        modules: parts of it that are to get hooks; None: any part may.

    Raises:
        FreeURuntimeError: it has; the message names the part.
    """
    part = compiled_part(model, modules)
    if part is not None:
        where = f"{part} of this {type(model).__name__}" if part else f"this {type(model).__name__}"
        raise FreeURuntimeError(
            f"{where} has run as compiled code, which never looks at hooks added later. Apply "
            "FreeU first and compile then (handle.update changes factors without recompiling), or forget the compiled "
            "code with torch._dynamo.reset()"
        )


def tell_instances_apart(model: nn.Module, modules: Iterable[nn.Module]) -> None:
    """Keep a model with hooks from running code that was compiled for another instance of its class.

    The compiler shares code between instances and does not look at their hooks unless told to. From here on it does,
    in the whole process; what it compiled before for classes that hooks lie within is forgotten and compiled again when
    next called. Code of other parts, such as blocks compiled one by one, stays.

    Args:
        model: the U-Net.
        modules: its parts with hooks.
    """
    dynamo = sys.modules.get("torch._dynamo")
    config: Any = getattr(dynamo, "config", None)
    if not getattr(config, "skip_nnmodule_hook_guards", False):
        return
    reset_code = torch._C._dynamo.eval_frame.reset_code

    config.skip_nnmodule_hook_guards = False
    for cls in {type(module) for _, module in _around(model, modules)}:
        for code in _codes(cls):
            reset_code(code)

"""Modules that stand around another one and hand its calls on: what is inside of them."""

from __future__ import annotations

from typing import Any

from torch import nn

# Class names, also of base classes, and where each keeps the module inside. Their packages are not imported for it.
_INSIDE = {
    "OptimizedModule": "_orig_mod",  # torch.compile(module)
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "AveragedModel": "module",  # torch.optim.swa_utils
    "DeepSpeedEngine": "module",
    "PeftModel": "base_model",
    "PeftMixedModel": "base_model",
    "BaseTuner": "model",  # PEFT's LoraModel, LoHaModel, LoKrModel ...
}


def unwrapped(module: Any) -> Any:
    """The module inside all wrappers; anything else is returned as it is.

    >>> from torch import nn
    >>> inside = nn.Linear(2, 2)
    >>> unwrapped(nn.DataParallel(inside)) is inside
    True
    """
    while isinstance(module, nn.Module):
        place = next((_INSIDE[c.__name__] for c in type(module).__mro__ if c.__name__ in _INSIDE), None)
        inside = getattr(module, place, None) if place is not None else None
        if not isinstance(inside, nn.Module):
            return module
        module = inside
    return module

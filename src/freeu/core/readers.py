"""Let one reader alone of a site's features see what FreeU changed, to tell by which way the change acts.

The resnet behind a concatenation reads it twice: ``norm1`` begins the residual path, and the 1x1 convolution
``conv_shortcut`` goes around it. GroupNorm takes out a gain that is the same over a whole group, the shortcut does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from freeu.config import READERS
from freeu.core.site import Site
from freeu.errors import FreeUValueError


def has_readers(site: Site) -> bool:
    """Whether the module behind a site reads its input by ``READERS``, both at the size of the input."""
    module: Any = site.module
    resizes = getattr(module, "up", False) or getattr(module, "down", False)
    return not resizes and all(isinstance(getattr(module, name, None), nn.Module) for name in READERS)


@contextlib.contextmanager
def one_reader(sites: Sequence[Site], reader: str) -> Iterator[None]:
    """Give every reader but one the features as they were before FreeU, for the length of a ``with`` block.

    FreeU may be put on before or after. The hooks are taken out at the end; nothing else of the model is touched.

    Args:
        sites: those that FreeU changes.
        reader: one of ``READERS``, the only one that sees the change.

    Raises:
        FreeUValueError: another name, or a module without these readers.
    """
    if reader not in READERS:
        raise FreeUValueError(f"the reader must be {' or '.join(READERS)}, got {reader!r}")
    without = [site.path for site in sites if not has_readers(site)]
    if without:
        raise FreeUValueError(
            f"{without[0]} does not read its input by {' and '.join(READERS)}: what they read cannot be told apart"
        )
    hooks = []
    try:
        for site in sites:
            undo = _Undo()
            module: Any = site.module
            # First of all hooks, because FreeU's may change the features where they lie.
            hooks.append(module.register_forward_pre_hook(undo.keep, prepend=True))
            hooks += [getattr(module, name).register_forward_pre_hook(undo) for name in READERS if name != reader]
            hooks.append(module.register_forward_hook(undo.forget, always_call=True))
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Undo:
    """The features of one site as they were, for the length of its module's call."""

    def __init__(self) -> None:
        self.original: Tensor | None = None

    def keep(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        self.original = args[0].clone()

    def __call__(self, _module: nn.Module, _args: tuple[Any, ...]) -> tuple[Tensor]:
        assert self.original is not None, "the readers run within the module"
        return (self.original,)

    def forget(self, *_: Any) -> None:
        self.original = None

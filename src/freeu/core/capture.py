"""Looking at the features of every concatenation while a U-Net runs, with FreeU or without it.

Nothing is kept here: an observer sees each tensor at its moment, and what it wants to keep it must copy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from freeu.core.compiled import refuse_compiled
from freeu.core.hooks import Host
from freeu.core.patch import active_handles
from freeu.core.site import Site

PARTS = ("backbone", "skip", "fused")


@dataclass(frozen=True)
class Features:
    """What is seen at a site in one call of the U-Net.

    Args:
        site: where.
        part: "backbone" and "skip" are the two halves of the concatenation, "fused" is what the module behind it
            makes of both.
        changed: whether FreeU has acted on it: a site that FreeU touches shows backbone and skip twice, as they came
            and as FreeU left them.
        tensor: the live features, shape (B, C, H, W). They change as soon as the observer returns: copy what is kept.
        timestep: of this call, or None where the U-Net is not given one.
        call: number of the call of the U-Net, from 0.
    """

    site: Site
    part: str
    changed: bool
    tensor: Tensor
    timestep: float | None
    call: int


Observer = Callable[[Features], None]


class _Thread(threading.local):
    """The call of the U-Net that is under way in a thread: its timestep, its number, what went into each site."""

    def __init__(self) -> None:
        self.timestep: float | None = None
        self.call = 0
        self.seen: dict[str, tuple[Tensor, int | None]] = {}


class Capture:
    """Shows an observer the features at the sites of a U-Net for the length of a ``with`` block.

    FreeU may be applied, changed and removed before or within the block. Calls of several threads are shown as they
    come, each with its own number and timestep.

    Args:
        model: the U-Net.
        sites: those to look at.
        host: how the U-Net is called.
        observe: called with each ``Features``.

    Raises:
        FreeURuntimeError: the model ran as compiled code before, which never looks at new hooks.
    """

    def __init__(self, model: nn.Module, sites: Sequence[Site], host: Host, observe: Observer) -> None:
        refuse_compiled(model, [site.module for site in sites])
        self._model, self._sites, self._host, self._observe = model, tuple(sites), host, observe
        self._calls = 0
        self._own = _Thread()
        self._registered: list[RemovableHandle] = []
        self._last: dict[str, RemovableHandle] = {}

    def __enter__(self) -> Capture:
        self._registered = [self._model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True)]
        for site in self._sites:
            self._registered += [
                site.module.register_forward_pre_hook(self._before(site), prepend=True),
                site.module.register_forward_hook(self._behind(site)),
            ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in (*self._registered, *self._last.values()):
            handle.remove()
        self._registered, self._last, self._own = [], {}, _Thread()

    @property
    def calls(self) -> int:
        """How often the U-Net was called so far."""
        return self._calls

    @property
    def _acting(self) -> bool:
        """Whether FreeU touches any site of the model."""
        handles = active_handles(self._model)
        return bool(handles) and bool(handles[-1].sites)

    def _begin(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        value = self._host.timestep(args, kwargs)
        self._own.timestep = None if value is None else float(torch.as_tensor(value).flatten()[0])
        self._own.seen = {}  # an exception may have left something there
        self._own.call = self._calls
        self._calls += 1
        for site in self._sites:
            # Hooks run in the order in which they came. FreeU may have come, or been updated, after this block began.
            if site.path in self._last:
                self._last[site.path].remove()
            self._last[site.path] = site.module.register_forward_pre_hook(self._after(site))

    def _show(self, site: Site, part: str, changed: bool, tensor: Tensor) -> None:
        self._observe(Features(site, part, changed, tensor.detach(), self._own.timestep, self._own.call))

    def _before(self, site: Site) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            self._own.seen[site.path] = (args[0], _version(args[0]))
            backbone, skip = site.split(args[0])
            self._show(site, "backbone", False, backbone)
            self._show(site, "skip", False, skip)

        return hook

    def _after(self, site: Site) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            tensor, version = self._own.seen.pop(site.path)
            same = args[0] is tensor and _version(tensor) == version
            if version is None:
                same = same and not self._acting
            if same:
                return
            backbone, skip = site.split(args[0])
            self._show(site, "backbone", True, backbone)
            self._show(site, "skip", True, skip)

        return hook

    def _behind(self, site: Site) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            self._show(site, "fused", self._acting, tensor)

        return hook


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was written to; None for those of ``torch.inference_mode``, which do not count."""
    return None if tensor.is_inference() else tensor._version

"""Looking at the features at the sites while a model runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from freeu.core.site import Site


@contextlib.contextmanager
def tap(sites: Sequence[Site], callback: Callable[[Site, Tensor, Tensor], None]) -> Iterator[None]:
    """Show the features at each site to a callback: callback(site, backbone, skip), views that must not be changed.

    Hooks run in the order of registration: a tap opened before ``apply`` sees the features before FreeU, one opened
    after it sees what FreeU made of them.
    """

    def hook_for(site: Site) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            callback(site, *site.split(args[0]))

        return hook

    registered = [site.module.register_forward_pre_hook(hook_for(site)) for site in sites]
    try:
        yield
    finally:
        for handle in registered:
            handle.remove()

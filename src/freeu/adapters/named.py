"""Families of U-Nets outside the main form of diffusers: what a row of their table says, and one adapter for all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from freeu.core.hooks import Host
from freeu.core.site import Site
from freeu.core.wrappers import unwrapped
from freeu.errors import NoSitesError


@dataclass(frozen=True)
class Join:
    """A concatenation as the layers of a decoder tell it.

    Args:
        path: of the module that receives it.
        module: that module, or what stands for it where the features are not its first argument.
        taken: channels of the whole concatenation.
        coming: channels that come up the decoder.
        block: index of the level, 0 at the lowest resolution.
        kind: class name of the block.
    """

    path: str
    module: nn.Module
    taken: int
    coming: int
    block: int
    kind: str


class CallHost(Host):
    """Calls as one family makes them.

    Args:
        sample: name of the noisy input, the first argument.
        time: name of the timestep or noise level.
        place: its position.
        continuous: whether it is a function of the noise level and no step of a schedule.
        centred: as of ``Host``.
    """

    stacked = False  # which rows are conditional is not known

    def __init__(self, sample: str, time: str, place: int = 1, continuous: bool = False, centred: bool = False) -> None:
        self._sample, self._time, self._place = sample, time, place
        self.continuous, self.centred = continuous, centred

    def sample(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value: Tensor = args[0] if args else kwargs[self._sample]
        return value

    def timestep(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[self._place] if len(args) > self._place else kwargs.get(self._time)

    def frames(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        # The video U-Nets of sgm and ComfyUI take the frames of a video as samples in a row, and say how many.
        return int(kwargs.get("num_video_frames") or 1)


@dataclass(frozen=True)
class Family:
    """U-Nets whose decoders are built alike.

    Args:
        label: for people, in the message that lists what is known.
        packages: first names of the modules where the classes are; empty where any class of this structure belongs to
            the family, because many forks carry it under other names.
        classes: names of the classes, also of base classes; empty for any.
        parts: attributes that must be there.
        joins: the concatenations in the order of execution.
        host: how it is called.
        base: the base width, which stages are multiples of; None: a quarter of the widest backbone, as for U-Nets of no
            known family.
    """

    label: str
    packages: tuple[str, ...]
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    joins: Callable[[Any], Iterable[Join]]
    host: Host
    base: Callable[[Any], int] | None = None


class NamedUNet:
    """The adapter of one family."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.host = family.host

    def matches(self, model: nn.Module) -> bool:
        """True for the family's classes and those derived from them, without importing their package."""
        family = self.family
        named = any(
            (not family.packages or cls.__module__.split(".")[0] in family.packages)
            and (not family.classes or cls.__name__ in family.classes)
            for cls in type(model).__mro__
        )
        return named and all(hasattr(model, part) for part in family.parts)

    def find_sites(self, model: nn.Module) -> list[Site]:
        """Every concatenation, from the lowest resolution up.

        Raises:
            NoSitesError: the layers are not as wide as this family's are.
        """
        joins = list(self.family.joins(model))
        for join in joins:
            if not 0 < join.coming < join.taken:
                raise NoSitesError(
                    f"{join.path} takes {join.taken} channels of which {join.coming} come up the decoder: nothing is "
                    "left for a skip connection"
                )
        if not joins:
            raise NoSitesError(f"{type(model).__name__} was built without skip connections")
        widest = max(join.coming for join in joins)
        base = self.family.base(model) if self.family.base else max(1, widest // 4)
        return [
            Site(join.path, join.module, join.coming, join.taken - join.coming, base, join.block, join.kind)
            for join in joins
        ]


def called_layer_by_layer(model: nn.Module) -> bool:
    """Whether the forward calls the layers of a block one by one: ComfyUI's does, by a function beside the class."""
    return any(hasattr(sys.modules.get(cls.__module__), "forward_timestep_embed") for cls in type(model).__mro__)


def taken_by(module: nn.Module) -> int:
    """Channels that a module takes: those of its first convolution."""
    return _convolutions(module)[0][0]


def given_by(module: nn.Module) -> int:
    """Channels that a module gives: those of its last convolution."""
    return _convolutions(module)[-1][1]


def _convolutions(module: nn.Module) -> list[tuple[int, int]]:
    """Channels in and out of every convolution, in the order in which they were made."""
    found = []
    for layer in unwrapped(module).modules():
        weight = getattr(layer, "weight", None)
        if isinstance(getattr(layer, "in_channels", None), int) and isinstance(weight, Tensor):
            found.append((int(layer.in_channels), int(layer.out_channels)))
        elif isinstance(weight, nn.Parameter) and weight.dim() > 2:  # classes of their own, as those of EDM2
            found.append((int(weight.shape[1]), int(weight.shape[0])))
    if not found:
        raise NoSitesError(f"no convolution in {type(module).__name__} tells how many channels it takes")
    return found

"""The figures of the paper by number: which variants each needs, and the function that makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from freeu.analysis.figures import denoising as denoising
from freeu.analysis.figures import features as features
from freeu.analysis.figures import images as images
from freeu.analysis.figures import video as video
from freeu.analysis.measurement.content import Figure
from freeu.analysis.measurement.runs import Runs
from freeu.analysis.measurement.variants import Variant, Variants, distinct
from freeu.errors import FreeUValueError

VariantsOf = Callable[[Variants], tuple[Variant, ...]]


@dataclass(frozen=True)
class Entry:
    """One figure.

    Args:
        make: the function; its runs hold what it needs.
        images, traces: the variants that must be generated, without or with measuring their features.
    """

    make: Callable[[Runs, Variants], Figure]
    images: VariantsOf = lambda variants: ()
    traces: VariantsOf = lambda variants: ()

    @property
    def title(self) -> str:
        """The first line of the function's docstring."""
        return (self.make.__doc__ or "").partition("\n")[0].rstrip(".")


def _none(variants: Variants) -> tuple[Variant, ...]:
    return (variants.none,)


def _both(variants: Variants) -> tuple[Variant, ...]:
    return (variants.none, variants.freeu)


FIGURES: dict[int, Entry] = {
    3: Entry(denoising.figure_3, traces=_none),
    4: Entry(denoising.figure_4, traces=_none),
    5: Entry(images.figure_5, lambda v: (*v.plain_backbone().variants, *v.plain_skip().variants)),
    6: Entry(images.figure_6, lambda v: v.plain_backbone().variants),
    7: Entry(features.figure_7, traces=_none),
    8: Entry(features.figure_8, traces=_none),
    9: Entry(images.figure_9, lambda v: (v.none, v.channels[0], v.channels[3])),
    10: Entry(images.figure_10, lambda v: (v.backbone_only, v.freeu)),
    13: Entry(denoising.figure_13, traces=_both),
    14: Entry(features.figure_14, traces=_both),
    15: Entry(images.figure_15, lambda v: (v.none, v.backbone_only, v.freeu)),
    16: Entry(images.figure_16, lambda v: (v.none, v.this_version, v.other_version)),
    17: Entry(images.figure_17, lambda v: v.backbone().variants),
    18: Entry(images.figure_18, lambda v: v.skip().variants),
    19: Entry(images.figure_19, lambda v: (v.none, *v.channels[:3])),
}
"""The figures of the paper."""

VIDEO_FIGURES: dict[int, Entry] = {
    101: Entry(video.figure_101, lambda v: (v.none, v.backbone_only, v.freeu)),
    102: Entry(video.figure_102, lambda v: (v.none, *v.over_time())),
}
"""Figures that the paper does not have, for models that generate videos."""

ENTRIES = {**FIGURES, **VIDEO_FIGURES}


def check_numbers(numbers: Iterable[int]) -> tuple[int, ...]:
    """The numbers in order, each once.

    Raises:
        FreeUValueError: a number that is not available.
    """
    found = sorted(set(numbers))
    for number in found:
        if number not in ENTRIES:
            known = ", ".join(map(str, ENTRIES))
            raise FreeUValueError(f"--figure {number}: available figures are {known}")
    return tuple(found)


def figures_for(frames: int | None, numbers: Iterable[int] = ()) -> tuple[int, ...]:
    """The requested figures, or all that are available for a model.

    Args:
        frames: of each video; None for a model that generates images.
        numbers: of the requested figures; empty for all.

    Raises:
        FreeUValueError: a figure of videos for a model that generates images, or for videos of one frame.
    """
    moving = frames is not None and frames > 1
    found = check_numbers(numbers) or (*FIGURES, *(VIDEO_FIGURES if moving else ()))
    for number in found:
        if number in VIDEO_FIGURES and not moving:
            needs = (
                ", and this model generates still images" if frames is None else f" of 2 frames or more, got {frames}"
            )
            raise FreeUValueError(f"--figure {number} is for videos{needs}: leave it out")
    return found


def needed(numbers: Iterable[int], variants: Variants) -> tuple[list[Variant], list[Variant]]:
    """The variants that figures need, without and with traces; each configuration once."""
    entries = [ENTRIES[number] for number in numbers]
    return (
        distinct(variant for entry in entries for variant in entry.images(variants)),
        distinct(variant for entry in entries for variant in entry.traces(variants)),
    )

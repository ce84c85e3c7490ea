"""The figures of the paper by number: what each needs to have generated, and what makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from freeu.analysis.figures import denoising as denoising
from freeu.analysis.figures import features as features
from freeu.analysis.figures import pictures as pictures
from freeu.analysis.figures import video as video
from freeu.analysis.measurement.content import Figure
from freeu.analysis.measurement.runs import Runs
from freeu.analysis.measurement.variants import Variant, Variants, distinct
from freeu.errors import FreeUValueError

Ways = Callable[[Variants], tuple[Variant, ...]]


@dataclass(frozen=True)
class Entry:
    """One figure.

    Args:
        make: from runs that hold what it needs.
        pictures, traces: the variants that must be generated, plainly or by spectral analysis.
    """

    make: Callable[[Runs, Variants], Figure]
    pictures: Ways = lambda variants: ()
    traces: Ways = lambda variants: ()

    @property
    def title(self) -> str:
        """The first line of what makes it."""
        return (self.make.__doc__ or "").partition("\n")[0].rstrip(".")


def _none(variants: Variants) -> tuple[Variant, ...]:
    return (variants.none,)


def _both(variants: Variants) -> tuple[Variant, ...]:
    return (variants.none, variants.freeu)


FIGURES: dict[int, Entry] = {
    3: Entry(denoising.figure_3, traces=_none),
    4: Entry(denoising.figure_4, traces=_none),
    5: Entry(pictures.figure_5, lambda v: (*v.plain_backbone().variants, *v.plain_skip().variants)),
    6: Entry(pictures.figure_6, lambda v: v.plain_backbone().variants),
    7: Entry(features.figure_7, traces=_none),
    8: Entry(features.figure_8, traces=_none),
    9: Entry(pictures.figure_9, lambda v: (v.none, v.channels[0], v.channels[3])),
    10: Entry(pictures.figure_10, lambda v: (v.backbone_only, v.freeu)),
    13: Entry(denoising.figure_13, traces=_both),
    14: Entry(features.figure_14, traces=_both),
    15: Entry(pictures.figure_15, lambda v: (v.none, v.backbone_only, v.freeu)),
    16: Entry(pictures.figure_16, lambda v: (v.none, v.this_version, v.other_version)),
    17: Entry(pictures.figure_17, lambda v: v.backbone().variants),
    18: Entry(pictures.figure_18, lambda v: v.skip().variants),
    19: Entry(pictures.figure_19, lambda v: (v.none, *v.channels[:3])),
}
"""Those of the paper by its numbers."""

OF_CLIPS: dict[int, Entry] = {
    101: Entry(video.figure_101, lambda v: (v.none, v.backbone_only, v.freeu)),
    102: Entry(video.figure_102, lambda v: (v.none, *v.over_time())),
}
"""Figures that the paper does not have, for models that generate videos."""

ENTRIES = {**FIGURES, **OF_CLIPS}


def check_numbers(numbers: Iterable[int]) -> tuple[int, ...]:
    """The numbers in order, each once.

    Raises:
        FreeUValueError: a number that is no figure that can be made.
    """
    found = sorted(set(numbers))
    for number in found:
        if number not in ENTRIES:
            known = ", ".join(map(str, ENTRIES))
            raise FreeUValueError(f"--figure {number}: the figures that can be made are {known}")
    return tuple(found)


def figures_for(frames: int | None, numbers: Iterable[int] = ()) -> tuple[int, ...]:
    """What can be made for a model: the figures that were asked for, or all of them.

    Args:
        frames: of each video; None for a model that generates images.
        numbers: what was asked for; empty for everything.

    Raises:
        FreeUValueError: a figure of videos for a model that generates images, or for videos of one frame.
    """
    moving = frames is not None and frames > 1
    found = check_numbers(numbers) or (*FIGURES, *(OF_CLIPS if moving else ()))
    for number in found:
        if number in OF_CLIPS and not moving:
            what = "generates still images" if frames is None else "is to generate videos of one frame"
            raise FreeUValueError(f"--figure {number} is of videos, and this model {what}: leave it out")
    return found


def needed(numbers: Iterable[int], variants: Variants) -> tuple[list[Variant], list[Variant]]:
    """What must be generated for some figures: images, and traces; ways of one configuration once."""
    entries = [ENTRIES[number] for number in numbers]
    return (
        distinct(way for entry in entries for way in entry.pictures(variants)),
        distinct(way for entry in entries for way in entry.traces(variants)),
    )

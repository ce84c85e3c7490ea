"""Images above the model's own size, by ScaleCrafter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from freeu.errors import FreeUValueError
from freeu.pipelines.options.option import Option, check_bounds, given_flags
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.scalecrafter.settings import GUIDANCE, ScaleCrafter, checked_levels
from freeu.schedule import checked_choice


@dataclass(frozen=True)
class ScaleCrafterOptions:
    """ScaleCrafter; nothing else without ``scalecrafter``. None means what was published for the model and the size."""

    PANEL: ClassVar[str] = "ScaleCrafter"

    scalecrafter: Annotated[
        bool,
        Option("Dilate the U-Net's convolutions, for a --width or --height above the model's own, up to four times."),
    ] = False
    scalecrafter_levels: Annotated[
        str | None,
        Option("How many of the lowest resolutions are dilated: of encoder and decoder, such as 3,3.", "N,N"),
    ] = None
    scalecrafter_end: Annotated[
        float | None,
        Option("Fraction of the steps after which the convolutions are as they were.", "0..1", bounds=(0.01, 1.0)),
    ] = None
    scalecrafter_guidance: Annotated[
        str | None,
        Option("plain, or damped: noise-damped guidance, which calls the U-Net twice a step.", "plain|damped"),
    ] = None

    def check(self, sampling: SamplingOptions) -> None:
        """Raise ``FreeUValueError`` for a bad value, for one without ``--scalecrafter``, or where no size is given."""
        if not self.scalecrafter:
            flags = given_flags(self)
            if flags:
                raise FreeUValueError(f"{flags[0]} needs ScaleCrafter: give --scalecrafter too")
            return
        check_bounds(self)
        self.changes()
        if sampling.width is None and sampling.height is None:
            raise FreeUValueError(
                "--scalecrafter is for sizes above the model's own: give a --width and --height above it"
            )

    def changes(self) -> dict[str, Any]:
        """Fields of ``ScaleCrafter`` that were asked for."""
        found: dict[str, Any] = {}
        if self.scalecrafter_levels is not None:
            found["levels"] = _levels(self.scalecrafter_levels)
        if self.scalecrafter_end is not None:
            found["end"] = self.scalecrafter_end
        if self.scalecrafter_guidance is not None:
            found["guidance"] = checked_choice("--scalecrafter-guidance", self.scalecrafter_guidance, GUIDANCE)
        return found

    def resolve(self, pipe: Any, size: tuple[int, int], native: int) -> ScaleCrafter | None:
        """ScaleCrafter's settings for a pipeline and a size in pixels; None without ``--scalecrafter``."""
        if not self.scalecrafter:
            return None
        from freeu.scalecrafter.published import recommend

        return replace(recommend(pipe, *size, native=native), **self.changes())


def options_of(settings: ScaleCrafter) -> ScaleCrafterOptions:
    """The options that give these settings again, with the size."""
    encoder, decoder = settings.levels
    return ScaleCrafterOptions(True, f"{encoder},{decoder}", settings.end, settings.guidance)


def _levels(text: str) -> tuple[int, int]:
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) if word.isascii() and word.isdigit() and len(word) < 3 else None for word in words]
    if None in numbers:
        raise FreeUValueError(f"--scalecrafter-levels must be two whole numbers such as 3,3, got {text!r}")
    return checked_levels("--scalecrafter-levels", numbers)

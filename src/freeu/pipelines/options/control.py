"""A ControlNet and the image it follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.pipelines.models.control.control import MAX_SCALE, Control, check_control
from freeu.pipelines.options.freeu import config_changes
from freeu.pipelines.options.option import Option, given_flags


@dataclass(frozen=True)
class ControlOptions:
    """A ControlNet; ``control`` and ``control_image`` come together, and nothing else without them."""

    PANEL: ClassVar[str] = "ControlNet"

    control: Annotated[
        str | None,
        Option(
            "The ControlNet: an embedded one (canny), a diffusers directory, a .safetensors file or a hub id.",
            "NAME|PATH",
            ("--controlnet",),
            old=("--control",),
        ),
    ] = None
    control_image: Annotated[Path | None, Option("The control image.", "FILE")] = None
    preprocessor: Annotated[
        str | None,
        Option(
            "canny: find the edges of --control-image; none: it is ready for the ControlNet (default canny).",
            "canny|none",
            old=("--control-preprocess",),
        ),
    ] = None
    control_weight: Annotated[
        float | None,
        Option(
            "ControlNet weight (default 1).",
            f"0..{MAX_SCALE:g}",
            ("--controlnet-weight",),
            old=("--control-scale",),
        ),
    ] = None
    control_start: Annotated[
        float | None,
        Option(
            "Fraction of the steps at which the ControlNet begins.",
            "0..1",
            ("--controlnet-start",),
            old=("--control-start",),
        ),
    ] = None
    control_end: Annotated[
        float | None,
        Option(
            "Fraction of the steps at which the ControlNet ends.", "0..1", ("--controlnet-end",), old=("--control-end",)
        ),
    ] = None
    skip_filter_order: Annotated[
        str | None,
        Option(
            "Whether FreeU filters the skips after or before the ControlNet adds to them (default after).",
            "after|before",
            old=("--control-order",),
            config="control",
        ),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Fields of ``control.Control`` that need no model."""
        return {
            "scale": 1.0 if self.control_weight is None else self.control_weight,
            "start": 0.0 if self.control_start is None else self.control_start,
            "end": 1.0 if self.control_end is None else self.control_end,
            "preprocess": self.preprocessor or "canny",
        }

    def check(self) -> None:
        """Raise ``FreeUValueError`` for one without the other, or for a number outside its range."""
        if self.control is None:
            flags = given_flags(self)
            if flags:
                raise FreeUValueError(f"{flags[0]} needs a ControlNet: give --controlnet NAME|PATH too")
            return
        if self.control_image is None:
            raise FreeUValueError("--controlnet needs a control image: give --control-image FILE too")
        check_control(**self.settings())
        FreeUConfig().replace(**config_changes(self))
        if self.settings()["preprocess"] == "canny":
            need("video", "cv2")


def options_of(control: Control, image: Path) -> ControlOptions:
    """The options that give a ControlNet again, with the control image that it read in a file."""
    return ControlOptions(control.name, image, "none", control.scale, control.start, control.end)

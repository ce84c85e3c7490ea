"""The options of ``freeu rerender``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from freeu.errors import FreeUValueError, unknown_name
from freeu.pipelines.options.option import Option, check_bounds
from freeu.rerender.denoise.settings import STAGES

if TYPE_CHECKING:
    from freeu.rerender.video.segments import KeyFrameChoice

STRENGTH = 0.75
"""Default denoising strength of key frames."""
PRESET = "gentle"
"""Default preset: the published factors make videos less stable, measured by ``benchmarks/bench_rerender.py``."""


@dataclass(frozen=True)
class RerenderOptions:
    """What ``freeu rerender`` takes beside prompt, sampling and model."""

    PANEL: ClassVar[str] = "Video"

    denoising_strength: Annotated[
        float,
        Option(
            "Denoising strength of the key frames; 0 gives the video back.",
            "0..1",
            ("--denoising-strength", "--denoise"),
            old=("--video-strength",),
            bounds=(0.0, 1.0),
        ),
    ] = STRENGTH
    key_every: Annotated[int, Option("A key frame after so many frames.", "N")] = 8
    key_content: Annotated[bool, Option("A key frame sooner where much moves or comes into sight.")] = False
    control: Annotated[
        str | None,
        Option(
            "A ControlNet for canny edges: an embedded one (canny), a diffusers directory, a .safetensors file or a "
            "hub id; none: no ControlNet (default: canny for the embedded model, else none).",
            "NAME|PATH|none",
            ("--controlnet",),
            old=("--control",),
        ),
    ] = None
    enable: Annotated[
        list[str] | None,
        Option("Enable a stage that is off by default: shape or colour; may be given again.", "STAGE", old=("--with",)),
    ] = None
    disable: Annotated[
        list[str] | None,
        Option(
            "Disable a stage: cross-frame, shape, outline, pixel, fidelity or colour; may be given again.",
            "STAGE",
            old=("--without",),
        ),
    ] = None
    raft: Annotated[Path | None, Option("Optical flow by this RAFT instead of OpenCV's DIS.", "FILE.onnx")] = None
    frames: Annotated[int | None, Option("Use only the first N frames.", "N", bounds=(2, 1_000_000))] = None

    @property
    def keys(self) -> KeyFrameChoice:
        """Which frames are key frames."""
        from freeu.rerender.video.segments import KeyFrameChoice

        return KeyFrameChoice(interval=self.key_every, content=self.key_content)

    def check(self) -> None:
        """Raise ``FreeUValueError`` for a number out of bounds or a stage that there is not."""
        check_bounds(self)
        for option, names in (("--enable", self.enable), ("--disable", self.disable)):
            for name in names or ():
                if name not in STAGES:
                    raise unknown_name(option, name, STAGES)
        both = [name for name in self.enable or () if name in (self.disable or ())]
        if both:
            raise FreeUValueError(f"--enable and --disable name {both[0]} both: leave one out")

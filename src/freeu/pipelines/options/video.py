"""What a video starts from, its frames and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from freeu.errors import FreeUValueError, unknown_name
from freeu.pipelines.options.option import Option, check_bounds
from freeu.pipelines.options.sampling import DENOISING_STRENGTH

VIDEO_FORMATS = ("mp4", "webp", "gif")
MAX_FPS = 120


@dataclass(frozen=True)
class VideoOptions:
    """What ``freeu video`` takes beside prompts, sampling and model."""

    PANEL: ClassVar[str] = "Video"

    image: Annotated[Path | None, Option("Start from this image (image-to-video).", "FILE")] = None
    video: Annotated[Path | None, Option("Start from this video (video-to-video).", "FILE")] = None
    denoising_strength: Annotated[
        float | None,
        Option(
            f"Denoising strength of --video: how much of it is replaced (default {DENOISING_STRENGTH:g}).",
            "0..1",
            ("--denoising-strength", "--denoise"),
            old=("--video-strength",),
            bounds=(0.0, 1.0),
        ),
    ] = None
    frames: Annotated[
        int | None,
        Option("Frames of each video (default: the model's, or as many as --video has).", "N", bounds=(2, 1_000)),
    ] = None
    fps: Annotated[int | None, Option("Frames per second (default: the model's).", "N", bounds=(1, MAX_FPS))] = None
    formats: Annotated[
        str, Option("File formats, with commas: mp4, webp, gif; an mp4 is always written.", "FORMATS", ("--format",))
    ] = "mp4,webp"
    decode_chunk: Annotated[
        int | None,
        Option(
            "Frames decoded at once: fewer take less memory (default: 4, Stable Video Diffusion 8).",
            "N",
            bounds=(1, 1_000),
        ),
    ] = None
    motion_adapter: Annotated[
        str | None,
        Option("Makes a video model of a Stable Diffusion 1.x (AnimateDiff).", "DIR|HUB_ID", panel="Model"),
    ] = None

    def check(self) -> None:
        """Raise ``FreeUValueError`` for the first value that no model takes."""
        parse_formats(self.formats)
        check_bounds(self)
        if self.video is None and self.denoising_strength is not None:
            raise FreeUValueError("--denoising-strength needs a video to start from: give --video FILE too")
        if self.video is not None and self.image is not None:
            raise FreeUValueError("a video starts from --image or from --video, not both: leave one out")


def parse_formats(text: str) -> tuple[str, ...]:
    """Formats from "mp4,webp", each once; MP4 comes first even if it is not named, since all else is made from it.

    Raises:
        FreeUValueError: an unknown one.
    """
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in VIDEO_FORMATS:
            raise unknown_name("--format", name, VIDEO_FORMATS)
    return tuple(dict.fromkeys(["mp4", *names]))

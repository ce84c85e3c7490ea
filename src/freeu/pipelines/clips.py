"""Clips: pipelines that draw several frames at once, and the files that hold them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.metadata import FRAME_MS, png_bytes
from freeu.pipelines.families import family_of
from freeu.pipelines.sources import ModelSource

if TYPE_CHECKING:
    from PIL.Image import Image

CLIP_PIPELINES = ("TextToVideoSDPipeline",)
"""Pipelines of diffusers that draw clips from a text alone, and that ``freeu analyze`` takes."""

Frames = tuple["Image", ...]
"""One picture, or the frames of a clip in order."""


def draws_clips(source: ModelSource) -> bool:
    """Whether a model draws clips from a text; of a hub id nobody knows before it has been fetched."""
    return source.class_name in CLIP_PIPELINES


def refuse_clips(source: ModelSource) -> None:
    """For what handles still pictures only: raise ``FreeUValueError`` for a model that draws clips."""
    if family_of(source.class_name) is not None:
        takers = "freeu analyze and freeu video take it" if draws_clips(source) else "freeu video takes it"
        raise FreeUValueError(
            f"{source.label} ({source.class_name}) draws video, and this draws still pictures: {takers}"
        )


def middle(frames: Frames) -> Image:
    """The frame that stands for a clip."""
    return frames[len(frames) // 2]


def frames_bytes(frames: Frames, settings: Mapping[str, Any]) -> bytes:
    """A PNG file of a picture, or an animated one (APNG) of a clip, without loss, with its settings inside."""
    return png_bytes(frames[0], settings, frames[1:])


def timed_bytes(frames: Frames, fps: int) -> bytes:
    """An animated PNG of a clip, without loss, that plays at its own rate; ``read_frames`` reads it."""
    buffer = io.BytesIO()
    following = list(frames[1:])
    frames[0].save(buffer, format="PNG", save_all=True, append_images=following, duration=1000 / fps, loop=0)
    return buffer.getvalue()


def read_frames(path: Path, frame_ms: float = FRAME_MS) -> Frames | None:
    """What ``frames_bytes`` or ``timed_bytes`` wrote; None if the file is not there or is damaged.

    Args:
        frame_ms: how long one frame is shown, in milliseconds.
    """
    from PIL import Image, ImageSequence

    try:
        with Image.open(path) as image:
            found: list[Image.Image] = []
            for frame in ImageSequence.Iterator(image):
                # Equal frames in a row are stored as one that is shown longer.
                times = round(frame.info.get("duration", frame_ms) / frame_ms)
                found += [frame.convert("RGB")] * times
            return tuple(found)
    except (OSError, SyntaxError, ValueError, EOFError):
        return None

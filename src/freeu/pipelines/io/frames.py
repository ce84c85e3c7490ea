"""Videos: pipelines that generate several frames at once, and the files that hold them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.metadata import FRAME_MS, png_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

    from freeu.pipelines.io.clip_files import Frame

Frames = tuple["Image", ...]
"""One image, or the frames of a video in order."""


def middle(frames: Frames) -> Image:
    """The frame that stands for a video."""
    return frames[len(frames) // 2]


def frames_bytes(frames: Frames, settings: Mapping[str, Any]) -> bytes:
    """A PNG file of an image, or an animated one (APNG) of a video, without loss, with its settings inside."""
    return png_bytes(frames[0], settings, frames[1:])


def timed_bytes(frames: Frames, fps: int) -> bytes:
    """An animated PNG of a video, without loss, that plays at its own rate; ``read_frames`` reads it."""
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
    except Exception:  # of damaged files, decoders raise whatever they stumble over
        return None


class FramesSha:
    """SHA-256 of a video's pixels, frame by frame, with their size and number: what encoders do to them is left out."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._count = 0

    def add(self, frame: Frame) -> None:
        """Count a frame in: height x width x 3, RGB, uint8."""
        if not self._count:
            self._digest.update(f"RGB {frame.shape[1]}x{frame.shape[0]}\n".encode())
        self._digest.update(frame.tobytes())
        self._count += 1

    def hexdigest(self) -> str:
        whole = self._digest.copy()
        whole.update(f"\n{self._count} frames".encode())
        return whole.hexdigest()


def frames_sha(frames: Iterable[Image]) -> str:
    """The same of a few images of Pillow."""
    import numpy as np

    digest = FramesSha()
    for frame in frames:
        digest.add(np.asarray(frame.convert("RGB")))
    return digest.hexdigest()

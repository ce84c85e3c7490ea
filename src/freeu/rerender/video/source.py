"""The source video: checked once before anything is loaded, then read one frame at a time."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.pipelines.io.clip_files import IMAGE_FORMATS, Clip, open_video, read_clip
from freeu.wording import counted

if TYPE_CHECKING:
    from freeu.pipelines.io.clip_files import Frame

MOST = 200_000
"""Most frames of one video: two hours at 25 fps."""

UNEVEN = 0.25
"""Tolerance of a frame's duration, as a fraction of the median; containers with millisecond timestamps need some."""


@dataclass(frozen=True)
class Source:
    """A video and the size at which it is used; each iteration reads the file, at most ``frames`` frames.

    Args:
        clip: the file.
        frames: how many of its frames are used.
        sound: whether it has an audio stream.
        size: (width, height) in pixels of what iterating gives.
    """

    clip: Clip
    frames: int
    sound: bool
    size: tuple[int, int]

    @property
    def path(self) -> Path:
        return self.clip.path

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[Frame]:
        for frame in itertools.islice(self.clip, self.frames):
            yield resized(frame, self.size)

    def at(self, size: tuple[int, int]) -> Source:
        """The same video, used at another size."""
        return Source(self.clip, self.frames, self.sound, size)


def open_source(path: Path, frames: int | None = None) -> Source:
    """Check a video up to the last frame that is used; nothing of it stays in memory.

    Args:
        path: a file that ``clip_files.read_clip`` reads.
        frames: use only so many, from the first; None uses all.

    Returns:
        the video at its original size.

    Raises:
        FreeUValueError: unreadable, damaged, empty, of one frame, too long, or of a variable frame rate.
    """
    need("video", "av", "cv2")
    clip = read_clip(path, MOST)
    sound = False
    if path.suffix.lower() not in IMAGE_FORMATS:
        _check_rate(path)
        with open_video(path) as (container, _):
            sound = bool(container.streams.audio)
    source = Source(clip, min(frames or len(clip), len(clip)), sound, (clip.width, clip.height))
    if sum(1 for _ in source) < 2:
        asked = "" if len(clip) < 2 else f", and --frames {frames} uses one of them"
        raise FreeUValueError(f"{path} has {counted(len(clip), 'frame')}{asked}: a video has at least 2")
    return source


def _check_rate(path: Path) -> None:
    """Refuse a variable frame rate: the output has a constant one, and sound would go out of sync."""
    with open_video(path) as (container, stream):
        base = stream.time_base
        times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
    if base is None or len(times) < 3:
        return
    lasting = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    middle, one = lasting[len(lasting) // 2], 1
    off = max(middle - lasting[0], lasting[-1] - middle)
    if off > max(UNEVEN * middle, one):
        shortest, longest = (float(1000 * ticks * base) for ticks in (lasting[0], lasting[-1]))
        rate = round(1 / float(middle * base)) if middle else 25
        raise FreeUValueError(
            f"{path} has a variable frame rate (frames last {shortest:.0f} to {longest:.0f} ms): convert it to a "
            f"constant one first, such as with ffmpeg -i {path.name} -r {rate} constant.mp4"
        )


def resized(frame: Frame, size: tuple[int, int]) -> Frame:
    """A frame resized to (width, height): by area to shrink it, by Lanczos to enlarge it; unchanged if it fits."""
    import cv2
    import numpy as np

    height, width = frame.shape[:2]
    if (width, height) == size:
        return frame
    how = cv2.INTER_AREA if size[0] * size[1] < width * height else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(frame, size, interpolation=how), np.uint8)


def frames_sha(source: Source) -> str:
    """SHA-256 of the size and pixels of the frames that are used, and of their number."""
    digest = hashlib.sha256(f"{source.frames} {source.size[0]}x{source.size[1]}\n".encode())
    for frame in source:
        digest.update(frame.tobytes())
    return digest.hexdigest()

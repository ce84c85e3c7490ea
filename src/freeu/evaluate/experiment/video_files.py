"""Videos of an experiment on disk: generated once, saved without loss, read one frame at a time."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.motion.measure import Frame
from freeu.pipelines.io.clip_files import CONTAINERS, VIDEO_SUFFIXES, read_clip
from freeu.pipelines.io.frames import frames_bytes
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.runs.executors import Made
from freeu.pipelines.runs.generate import OnStep, generate_frames
from freeu.pipelines.runs.manifest import ImageRecord
from freeu.pipelines.runs.plan import Plan, PlannedImage
from freeu.pipelines.runs.prepare import Prepared


class LosslessVideoMaker:
    """Saves each video of an experiment as an animated PNG, so that exactly what was generated is measured."""

    def inputs(self, prepared: Prepared) -> Iterator[tuple[str, bytes]]:
        return iter(())

    def intact(self, folder: Path, record: ImageRecord, plan: Plan) -> bool:
        with contextlib.suppress(FreeUValueError):
            return video_sha(video_frames(folder / record.file)) == record.sha256
        return False

    def make(
        self,
        prepared: Prepared,
        batch: Sequence[PlannedImage],
        output: OutputFolder,
        settings: Sequence[dict[str, Any]],
        on_step: OnStep,
    ) -> list[Made]:
        (planned,), (inside,) = batch, settings  # videos are made one by one
        frames, flagged = generate_frames(prepared.loaded.pipe, prepared.plan, planned, on_step=on_step)
        output.write(planned.file, frames_bytes(frames, inside))
        return [Made(video_sha(map(np.asarray, frames)), flagged)]


def video_sha(frames: Any) -> str:
    """SHA-256 of the frames' pixels and size; the file format does not matter."""
    digest = hashlib.sha256()
    for number, frame in enumerate(frames):
        if number == 0:
            digest.update(f"RGB {frame.shape[1]}x{frame.shape[0]}\n".encode())
        digest.update(np.ascontiguousarray(frame).tobytes())
    return digest.hexdigest()


def video_frames(path: Path) -> Iterator[Frame]:
    """The frames of a video on disk in order, uint8 (H, W, 3); see ``pipelines.clip_files.read_clip``.

    A file with one frame is a static video, since many encoders merge equal frames: its frame is yielded twice.

    Raises:
        FreeUValueError: a file that cannot be read.
    """
    clip = read_clip(path)
    for frame in clip:
        yield frame
        if clip.frames == 1:
            yield frame


def are_videos(paths: Iterable[Path]) -> bool:
    """Whether files are videos: one animated file is enough, since a static video may be stored as one frame."""
    return any(map(is_video, paths))


def is_video(path: Path) -> bool:
    """Whether a file is a video and not a still image, by its suffix or its number of frames; False if unreadable."""
    from PIL import Image

    suffix = path.suffix.lower()
    if suffix in CONTAINERS or suffix == ".gif":
        return True
    if suffix not in VIDEO_SUFFIXES:
        return False
    with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(path) as image:
        return bool(getattr(image, "is_animated", False))
    return False

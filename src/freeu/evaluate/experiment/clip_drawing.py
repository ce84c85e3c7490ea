"""Clips of an experiment on disk: drawn once each and kept without loss, and read a frame at a time."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.motion.measure import Frame
from freeu.pipelines.io.clip_files import CLIP_SUFFIXES, CONTAINERS, read_clip
from freeu.pipelines.io.frames import frames_bytes
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.runs.draw import OnStep, draw_frames
from freeu.pipelines.runs.manifest import Manifest, PictureRecord, environment, environment_differences, read_manifest
from freeu.pipelines.runs.plan import Picture, Plan
from freeu.pipelines.runs.run import Progress, Silent, deterministic, settings_of


def make_clips(loaded: Loaded, plan: Plan, output: OutputFolder, progress: Progress | None = None) -> Manifest:
    """Draw every clip of a plan that is not there yet, as animated PNG, and keep the manifest up to date.

    Each clip is one pipeline call with a generator of its own, so no clip depends on another.

    Args:
        loaded: the pipeline that the plan was made for.
        plan: of the task "video".
        output: a folder with the manifest of the same plan is continued.
        progress: told of every step.

    Raises:
        FreeUValueError: the folder belongs to another plan or environment.
        FreeURuntimeError: FreeU did not act on a clip, or the disk is full.
    """
    progress = progress or Silent()
    manifest = _claimed(output, plan)
    if manifest.pictures:
        progress.kept(len(manifest.pictures))
    output.write(MANIFEST, manifest.to_json())
    with quiet(), deterministic(plan.device, plan.threads):
        for todo in plan.pictures():
            if todo.file in manifest.pictures:
                continue
            began = time.perf_counter()
            frames, flagged = draw_frames(loaded.pipe, plan, todo, on_step=_telling(progress, todo))
            seconds = round(time.perf_counter() - began, 3)
            output.write(todo.file, frames_bytes(frames, settings_of(plan, todo, manifest.environment)))
            manifest.pictures[todo.file] = PictureRecord(
                todo.file, todo.prompt, todo.seed, todo.arm, clip_sha(map(np.asarray, frames)), seconds, flagged
            )
            output.write(MANIFEST, manifest.to_json())
            progress.step(todo, 1.0)
    return manifest


def _telling(progress: Progress, picture: Picture) -> OnStep:
    return lambda fraction, _latents: progress.step(picture, fraction)


def _claimed(output: OutputFolder, plan: Plan) -> Manifest:
    """The manifest to continue with the clips that are whole, or a new one."""
    now = environment(plan.device)
    if not (output.path / MANIFEST).exists():
        return Manifest(plan, now)
    found = read_manifest(output.path)
    other = found.plan.differences(plan) + environment_differences(found.environment, now)
    if other:
        raise FreeUValueError(
            f"--output {output.path} holds another run ({'; '.join(other)}): name a folder that does not exist yet"
        )
    kept = {}
    for name, record in found.pictures.items():
        with contextlib.suppress(FreeUValueError):
            if clip_sha(clip_frames(output.path / name)) == record.sha256:
                kept[name] = record
    found.pictures = kept
    return found


def clip_sha(frames: Any) -> str:
    """SHA-256 of the frames' pixels with their size, whatever the file."""
    digest = hashlib.sha256()
    for number, frame in enumerate(frames):
        if number == 0:
            digest.update(f"RGB {frame.shape[1]}x{frame.shape[0]}\n".encode())
        digest.update(np.ascontiguousarray(frame).tobytes())
    return digest.hexdigest()


def clip_frames(path: Path) -> Iterator[Frame]:
    """The frames of a clip on disk in order, uint8 (H, W, 3); see ``pipelines.clip_files.read_clip``.

    A file of one frame is a clip that stands still, since many writers store equal frames once: it comes twice.

    Raises:
        FreeUValueError: a file that cannot be read.
    """
    clip = read_clip(path)
    for frame in clip:
        yield frame
        if clip.frames == 1:
            yield frame


def hold_clips(paths: Iterable[Path]) -> bool:
    """Whether files are clips: one that moves is enough, since of a clip that stands still one frame may be stored."""
    return any(map(is_clip, paths))


def is_clip(path: Path) -> bool:
    """Whether a file is a clip and no still picture, by its suffix or by its number of frames; False if unreadable."""
    from PIL import Image

    suffix = path.suffix.lower()
    if suffix in CONTAINERS or suffix == ".gif":
        return True
    if suffix not in CLIP_SUFFIXES:
        return False
    with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(path) as image:
        return bool(getattr(image, "is_animated", False))
    return False

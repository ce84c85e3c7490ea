"""Make the clips of a plan, one pipeline call each; frames go from the decoder to the encoders a few at a time."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.pipelines.io.clip_files import ClipWriter
from freeu.pipelines.io.frames import Frames, FramesSha, timed_bytes
from freeu.pipelines.io.output import MANIFEST, OutputFolder, file_sha
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.runs.draw import draw_latents
from freeu.pipelines.runs.manifest import Manifest, PictureRecord
from freeu.pipelines.runs.plan import INPUT_IMAGE, INPUT_VIDEO, Picture, Plan
from freeu.pipelines.runs.run import Progress, Silent, claimed, deterministic, png, settings_of, telling
from freeu.pipelines.video.decoding import decode_frames

if TYPE_CHECKING:
    from PIL.Image import Image


def make_clips(
    loaded: Loaded,
    plan: Plan,
    output: OutputFolder,
    image: Image | None = None,
    video: Frames | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Make every clip that is not there yet, in every format of the plan, and keep the manifest up to date.

    Args:
        loaded: the pipeline that the plan was made for.
        plan: what to make, of the command "video".
        output: where; a folder with the manifest of the same plan is continued.
        image, video: what the tasks "image-to-video" and "video-to-video" begin with, at the plan's size.
        progress: told of every step.

    Raises:
        FreeUValueError: the folder belongs to another plan or environment.
        FreeURuntimeError: FreeU did not act on a clip, or the disk is full.
    """
    progress = progress or Silent()
    manifest = claimed(output, plan)
    kept = {name: record for name, record in manifest.pictures.items() if _is_whole(output.path, record, plan)}
    manifest.pictures = kept
    if kept:
        progress.kept(len(kept))
    output.write(MANIFEST, manifest.to_json())
    if image is not None:
        output.write(INPUT_IMAGE, png(image))
    if video is not None:
        assert plan.fps is not None
        output.write(INPUT_VIDEO, timed_bytes(video, plan.fps))
    with quiet(), deterministic(plan.device, plan.threads):
        for todo in plan.pictures():
            if todo.file in kept:
                continue
            began = time.perf_counter()
            latents = draw_latents(loaded.pipe, plan, todo, image, video, telling(progress, todo))
            settings = settings_of(plan, todo, manifest.environment)
            sha, files = _write(loaded.pipe, latents, plan, todo, output, settings)
            del latents
            seconds = round(time.perf_counter() - began, 3)
            manifest.pictures[todo.file] = PictureRecord(
                todo.file, todo.prompt, todo.seed, todo.arm, sha, seconds, False, files
            )
            output.write(MANIFEST, manifest.to_json())
            progress.step(todo, 1.0)
    return manifest


def _write(
    pipe: Any, latents: Any, plan: Plan, clip: Picture, output: OutputFolder, settings: dict[str, Any]
) -> tuple[str, dict[str, str]]:
    """Decode a clip into all its files at once; the SHA-256 of its frames, and of the bytes of each file."""
    assert plan.fps is not None
    assert plan.decode_chunk is not None
    comment = json.dumps({"freeu": settings}, ensure_ascii=False)
    digest = FramesSha()
    names = [clip.file_as(form) for form in plan.formats]
    with contextlib.ExitStack() as stack:
        # Renamed in reverse order, the MP4 last: once it is there, the others are too.
        parts = [stack.enter_context(output.file(name)) for name in names]
        with contextlib.ExitStack() as open_files:
            writers = [
                open_files.enter_context(ClipWriter(part, form, plan.fps, plan.width, plan.height, comment))
                for part, form in zip(parts, plan.formats, strict=True)
            ]
            for frame in decode_frames(pipe, latents, plan.decode_chunk):
                digest.add(frame)
                for writer in writers:
                    writer.add(frame)
        files = {name: file_sha(part) for name, part in zip(names, parts, strict=True)}
    return digest.hexdigest(), files


def _is_whole(folder: Path, record: PictureRecord, plan: Plan) -> bool:
    """Whether every file of a clip is there, byte for byte as it was written."""
    with contextlib.suppress(OSError):
        fitting = {Path(name).suffix[1:] for name in record.files} == set(plan.formats)
        return fitting and all(file_sha(folder / name) == sha for name, sha in record.files.items())
    return False

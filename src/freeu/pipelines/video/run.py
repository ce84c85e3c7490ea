"""Make the videos of a plan, one pipeline call each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from freeu.pipelines.io.clip_files import ClipWriter
from freeu.pipelines.io.frames import FramesSha, timed_bytes
from freeu.pipelines.io.output import OutputFolder, file_sha
from freeu.pipelines.runs.executors import Made
from freeu.pipelines.runs.generate import OnStep, generate_latents
from freeu.pipelines.runs.manifest import ImageRecord
from freeu.pipelines.runs.plan import INPUT_IMAGE, INPUT_REGION, INPUT_VIDEO, Plan, PlannedImage
from freeu.pipelines.runs.prepare import Prepared
from freeu.pipelines.runs.run import png
from freeu.pipelines.video.decoding import decode_frames


class VideoMaker:
    """Videos, in every format of the plan; frames go from the decoder to the encoders a few at a time."""

    def inputs(self, prepared: Prepared) -> Iterator[tuple[str, bytes]]:
        if prepared.image is not None:
            yield INPUT_IMAGE, png(prepared.image)
        if prepared.video is not None:
            assert prepared.plan.fps is not None
            yield INPUT_VIDEO, timed_bytes(prepared.video, prepared.plan.fps)
        if prepared.region is not None:
            yield INPUT_REGION, png(prepared.region)

    def intact(self, folder: Path, record: ImageRecord, plan: Plan) -> bool:
        """Whether every file is there, byte for byte as it was written."""
        with contextlib.suppress(OSError):
            fitting = {Path(name).suffix[1:] for name in record.files} == set(plan.formats)
            return fitting and all(file_sha(folder / name) == sha for name, sha in record.files.items())
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
        pipe, plan = prepared.loaded.pipe, prepared.plan
        latents = generate_latents(pipe, plan, planned, prepared.image, prepared.video, on_step, prepared.region)
        return [_write(pipe, latents, plan, planned, output, inside)]


def _write(
    pipe: Any, latents: Any, plan: Plan, planned: PlannedImage, output: OutputFolder, settings: dict[str, Any]
) -> Made:
    """Decode a video into all its files at once."""
    assert plan.fps is not None
    assert plan.decode_chunk is not None
    comment = json.dumps({"freeu": settings}, ensure_ascii=False)
    digest = FramesSha()
    names = [planned.file_as(form) for form in plan.formats]
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
    return Made(digest.hexdigest(), files=files)

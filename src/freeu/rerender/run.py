"""Make the video of a job: key frames are generated and saved one by one, the frames between follow along the flow.

A frame is written as soon as it is made; at most one segment is in memory. A resumed run keeps its key frames,
continues bit-identically, and makes the frames between again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.pipelines.io.clip_files import ClipWriter
from freeu.pipelines.io.frames import FramesSha
from freeu.pipelines.io.output import MANIFEST, OutputFolder, file_sha
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.models.used import used_parts
from freeu.pipelines.runs.executors import settings_of
from freeu.pipelines.runs.manifest import as_json, claim
from freeu.pipelines.runs.plan import PlannedImage
from freeu.pipelines.runs.run import deterministic
from freeu.rerender.key_frames import KeyFrames, Progress
from freeu.rerender.request import Job
from freeu.rerender.video.propagate import propagate
from freeu.rerender.video.segments import segments
from freeu.rerender.video.sound import with_sound
from freeu.rerender.video.source import Source

if TYPE_CHECKING:
    from freeu.pipelines.io.clip_files import Frame

VIDEOS = {"baseline": "without-freeu.mp4", "freeu": "with-freeu.mp4"}
SOURCE = "source.mp4"
"""The source video at its working size."""


def run_rerender(job: Job, output: OutputFolder, progress: Progress) -> dict[str, Any]:
    """Make the missing videos of a job, and keep the manifest up to date.

    Args:
        job: what to make.
        output: where; a folder with the manifest of the same job is resumed.
        progress: called at every step.

    Returns:
        the manifest.

    Raises:
        FreeUValueError: the folder belongs to something else; the video turns out to be damaged.
        FreeURuntimeError: FreeU did not act, the device has too little memory, or the disk is full.
    """
    beside = {"used": used_parts(job.loaded.pipe)}
    record = claim(output, job.record | {"keys": {}, "films": {}}, "video", kept=("keys", "films"), beside=beside)
    _write_source(job.source, output, record)
    with quiet(), deterministic(job.plan.device, job.plan.threads):
        for arm in job.plan.arms:
            if not _is_intact(output.path, record["films"].get(arm)):
                _make_arm(job, arm, output, record, progress)
    return record


def _is_intact(folder: Path, video: Any) -> bool:
    """Whether a video is there, byte for byte as it was written."""
    with contextlib.suppress(OSError, KeyError, TypeError):
        return bool(file_sha(folder / video["file"]) == video["file_sha256"])
    return False


def _write_source(source: Source, output: OutputFolder, record: dict[str, Any]) -> None:
    if _is_intact(output.path, record["films"].get("source")):
        return
    with output.file(SOURCE) as part:
        with ClipWriter(part, "mp4", source.clip.fps, *source.size) as writer:
            for frame in source:
                writer.add(frame)
        sha = file_sha(part)
    record["films"]["source"] = {"file": SOURCE, "file_sha256": sha}
    output.write(MANIFEST, as_json(record))


def _make_arm(job: Job, arm: str, output: OutputFolder, record: dict[str, Any], progress: Progress) -> None:
    """One video, from its first frame to its last."""
    source, digest = job.source, FramesSha()
    comment = json.dumps({"freeu": about(job, arm, record)}, ensure_ascii=False)
    with output.file(VIDEOS[arm]) as part:
        silent = part.with_name(f".{arm}-silent.part") if source.sound else part
        try:
            with ClipWriter(silent, "mp4", source.clip.fps, *source.size, comment) as writer:
                for number, frame in enumerate(_frames(job, arm, output, record, progress)):
                    digest.add(frame)
                    writer.add(frame)
                    progress.frame(arm, number)
            if source.sound:
                with_sound(silent, source.path, part)
        finally:
            if source.sound:
                silent.unlink(missing_ok=True)
        sha = file_sha(part)
    record["films"][arm] = {"file": VIDEOS[arm], "file_sha256": sha, "frames_sha256": digest.hexdigest()}
    output.write(MANIFEST, as_json(record))


def about(job: Job, arm: str, record: dict[str, Any]) -> dict[str, Any]:
    """The settings embedded in a video; they contain no paths."""
    planned = PlannedImage(0, job.settings.prompt, job.settings.seed, arm)
    found = settings_of(job.plan, planned, record["environment"])
    found |= {name: record[name] for name in ("video", "settings", "keys_by", "raft")}
    control = record["control"]
    return found | {"control": control and {name: control[name] for name in ("name", "fingerprint")}}


def _frames(job: Job, arm: str, output: OutputFolder, record: dict[str, Any], progress: Progress) -> Iterator[Frame]:
    if job.settings.strength == 0.0:
        yield from job.source
        return
    keys = KeyFrames(job, arm, output, record, progress)
    for segment in segments(job.source, job.keys):
        first, last = keys.of(segment)
        frames = propagate(segment.frames, first, last, job.flow, outline=job.settings.on("outline"))
        if not segment.opens:
            next(frames)  # it was the last frame of the segment before
        yield from frames

"""The key frames of one video: those of an earlier run, then new ones, each with the state that the next one needs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import freeu
from freeu.motion.estimate import FlowEstimator, Tracker, along, steady_flow
from freeu.pipelines.io.inputs import pixel_sha
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.runs.manifest import as_json
from freeu.pipelines.runs.run import png
from freeu.rerender.denoise.generator import KeyFrameGenerator
from freeu.rerender.outline.moving import moving
from freeu.rerender.request import Job, canny_edges
from freeu.rerender.video.segments import Segment

if TYPE_CHECKING:
    from freeu.motion.measure import Flow
    from freeu.motion.repair import Bools
    from freeu.pipelines.io.clip_files import Frame


class Progress(Protocol):
    """What a run reports while it works."""

    def kept(self, count: int) -> None:
        """So many key frames of an earlier run were kept."""

    def key(self, arm: str, frame: int, fraction: float) -> None:
        """``fraction`` (0..1) of the denoising steps of a key frame are made; ``frame`` is its number in the video."""

    def frame(self, arm: str, frame: int) -> None:
        """A frame of the video was written."""


class FlowCache:
    """A ``FlowEstimator`` that returns the flows it was given, and asks another one for all others.

    Flow between distant key frames is tracked through the frames between them, which only the caller has.
    """

    def __init__(self, otherwise: FlowEstimator) -> None:
        self._otherwise = otherwise
        self._pairs: list[tuple[Frame, Frame, Flow]] = []

    def clear(self) -> None:
        """Drop all flows."""
        self._pairs = []

    def put(self, target: Frame, reference: Frame, flow: Flow) -> None:
        """Keep the flow from one frame to another."""
        self._pairs.append((target, reference, flow))

    def known(self, target: Any, reference: Any) -> Flow | None:
        """The flow it was given for two frames, if any."""
        for one, other, flow in self._pairs:
            if np.array_equal(one, target) and np.array_equal(other, reference):
                return flow
        return None

    def __call__(self, target: Any, reference: Any) -> Flow:
        return self.known(target, reference) or self._otherwise(target, reference)


class KeyFrames:
    """The key frames of one video in order: those of an earlier run, then new ones."""

    def __init__(self, job: Job, arm: str, output: OutputFolder, record: dict[str, Any], progress: Progress) -> None:
        self._job, self._arm, self._record, self._progress = job, arm, record, progress
        self._manifest = output
        self._output = OutputFolder(output.path / f"keys-{arm}")
        self._flow = FlowCache(job.flow or steady_flow)
        self._generator = KeyFrameGenerator(
            job.loaded.pipe,
            job.settings,
            flow=self._flow,
            preprocessor=canny_edges if job.controlnet is not None else None,
            controlnet=job.controlnet,
        )
        self._last: Frame | None = None
        self._tracker: Tracker | None = None
        self._kept = self._earlier()
        if self._kept:
            progress.kept(len(self._kept))

    def of(self, segment: Segment) -> tuple[Frame, Frame]:
        """The generated first and last frame of the next segment."""
        if segment.opens:
            self._generator.new_scene()
            self._tracker = Tracker(segment.frames[0], self._job.flow)
            self._flow.clear()
            self._last = self._key_frame(segment.start, segment.frames[0], self._moves(segment.frames))
        first = self._last
        assert first is not None
        if len(segment.frames) > 1:
            if self._job.settings.on("shape") or self._job.settings.on("pixel"):
                self._follow(segment)
            moves = self._moves(segment.frames[::-1])
            self._last = self._key_frame(segment.start + len(segment.frames) - 1, segment.frames[-1], moves)
        assert self._last is not None
        return first, self._last

    def _follow(self, segment: Segment) -> None:
        """Track the flow from the segment's last frame to its first one and to the first one of its scene."""
        first, last = segment.frames[0], segment.frames[-1]
        assert self._tracker is not None
        for frame in segment.frames[1:]:
            to_scene = self._tracker.follow(frame)
        self._flow.clear()
        self._flow.put(last, self._tracker.reference, to_scene)
        if not segment.opens:
            self._flow.put(last, first, along(segment.frames[::-1], self._job.flow))

    def _moves(self, frames: tuple[Frame, ...]) -> Bools | None:
        """What moves in the first of some frames by the flow to the last; None without the stage "outline"."""
        if not self._job.settings.on("outline") or len(frames) < 2:
            return None
        return moving(self._flow.known(frames[0], frames[-1]) or along(frames, self._job.flow))

    def _key_frame(self, number: int, frame: Frame, moves: Bools | None) -> Frame:
        if self._kept:
            return self._next_kept(number)
        generated = self._generate(number, frame, moves)
        from PIL import Image

        image = Image.fromarray(generated)
        before = self._done[-1]["frame"] if self._done else None
        self._output.write(_image(number), png(image))
        with self._output.file(_state(number)) as part:
            self._generator.save(part)
        self._done.append({"frame": number, "sha256": pixel_sha(image)})
        self._manifest.write(MANIFEST, as_json(self._record))
        if before is not None:
            (self._output.path / _state(before)).unlink(missing_ok=True)
        self._progress.key(self._arm, number, 1.0)
        return generated

    def _generate(self, number: int, frame: Frame, moves: Bools | None) -> Frame:
        def on_step(fraction: float, _latents: Any = None) -> None:
            self._progress.key(self._arm, number, min(fraction, 0.99))

        if self._arm == "baseline":
            return self._generator.generate(frame, on_step, moves)
        assert self._job.plan.config is not None
        with freeu.enabled(self._job.loaded.pipe, self._job.plan.config) as handle:
            generated = self._generator.generate(frame, on_step, moves)
            handle.verify()
        return generated

    def _next_kept(self, number: int) -> Frame:
        kept, image = self._kept.pop(0)
        assert kept == number, "the same video is cut into the same segments"
        if not self._kept:  # the next key frame is a new one
            self._generator.load(self._output.path / _state(number))
        return image

    def _earlier(self) -> list[tuple[int, Frame]]:
        """The key frames of an earlier run with their numbers; none of them if one is damaged."""
        from PIL import Image

        self._done = self._record["keys"].setdefault(self._arm, [])
        found = []
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            for key in self._done:
                with Image.open(self._output.path / _image(key["frame"])) as file:
                    image = file.convert("RGB")
                if pixel_sha(image) != key["sha256"]:
                    break
                found.append((key["frame"], np.asarray(image)))
        if len(found) != len(self._done) or (found and not (self._output.path / _state(found[-1][0])).exists()):
            self._done.clear()
            return []
        return found


def _image(number: int) -> str:
    return f"{number:06d}.png"


def _state(number: int) -> str:
    return f"{number:06d}.safetensors"

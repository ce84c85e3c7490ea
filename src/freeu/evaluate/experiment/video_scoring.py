"""Score videos: every measure over time, with a few frames in memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.scoring import Judges, Sample, Scored, Values, feature_diversity, several_of_each
from freeu.evaluate.experiment.video_files import video_frames
from freeu.evaluate.metrics import temporal
from freeu.evaluate.metrics.alignment import PromptSpec, Reading, score_alignment
from freeu.evaluate.metrics.clip import retrieval
from freeu.evaluate.metrics.consistency import Parts, frame_consistency, split_subject
from freeu.evaluate.metrics.distance import Floats
from freeu.evaluate.metrics.judge import Judge
from freeu.evaluate.metrics.statistics import STATISTICS, image_statistics
from freeu.evaluate.metrics.video_distance import video_features
from freeu.motion import measure as motion
from freeu.motion.measure import Frame, Movement

if TYPE_CHECKING:
    from PIL.Image import Image

BLOCK = 32
"""Frames of a video that are in memory at a time."""

OVER_TIME = (
    "flicker",
    "traceable_share",
    "frame_difference",
    "fast_share",
    "motion_strength",
    "subject_consistency",
    "background_consistency",
    "frame_consistency",
)
"""The measures of ``measure_video`` besides the means of ``STATISTICS``."""

VIDEO_ASPECTS = ("clip_right", "motion", "motion_agreement")
"""The scores that ``score_video_alignment`` adds to those of images."""


@dataclass(frozen=True)
class VideoMeasurement:
    """What was measured on a video.

    Args:
        values: measures that need no prompt: ``OVER_TIME`` and ``STATISTICS``.
        movement: of its subject.
        features: of its frames, (T, d), from the judge of distances; None without one.
        clip: the same from the CLIP.
        readings: of its frames; None without a reader.
    """

    values: Values
    movement: Movement
    features: Floats | None = None
    clip: Floats | None = None
    readings: tuple[Reading, ...] | None = None


def measure_video(frames: Iterable[Any], judges: Judges | None = None) -> VideoMeasurement:
    """Measure everything about a video that needs no prompt.

    Args:
        frames: uint8 (H, W, 3) in order, at least two, of one size and at least 12x12; any iterable, such as a
            decoder: ``BLOCK`` of them are held at a time.
        judges: the networks that score; None leaves consistency and readings out.

    Raises:
        FreeUValueError: other frames; OpenCV is not installed.

    >>> import numpy as np
    >>> frames = np.full((4, 64, 64, 3), 200, np.uint8)
    >>> for number, frame in enumerate(frames):
    ...     frame[24:40, 10 + 8 * number : 26 + 8 * number] = (220, 30, 30)  # a red square that moves right
    >>> found = measure_video(frames)
    >>> found.movement.kind, round(found.values["frame_difference"], 3)
    ('right', 7.5)
    """
    sums = _Sums(judges or Judges())
    before: list[Frame] = []
    for block in _blocks(frames):
        sums.add(motion.check_frames([*before, *block], least=1), len(before))
        before = block[-1:]
    return sums.measurement()


def _blocks(frames: Iterable[Any]) -> Iterator[list[Any]]:
    """``BLOCK`` frames at a time; a single frame left over is added to the last block."""
    block: list[Any] = []
    for frame in frames:
        if len(block) > BLOCK:
            yield block[:BLOCK]
            block = block[BLOCK:]
        block.append(frame)
    if block:
        yield block


@dataclass
class _Sums:
    """Running sums over the frames of a video."""

    judges: Judges
    shape: tuple[int, ...] = ()
    count: int = 0
    differences: list[float] = field(default_factory=list)
    flicker: list[tuple[float, int]] = field(default_factory=list)
    traceable: list[float] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)
    steps: list[Floats] = field(default_factory=list)
    power: list[tuple[float, float]] = field(default_factory=list)
    statistics: list[dict[str, float]] = field(default_factory=list)
    features: dict[str, list[Floats]] = field(default_factory=dict)
    separable: bool = True
    readings: list[Reading] = field(default_factory=list)

    def add(self, frames: list[Frame], known: int) -> None:
        """Add a block whose first ``known`` frames were the last of the block before."""
        for first, second in itertools.pairwise(frames):
            flow = motion.optical_flow(first, second)
            self.differences.append(temporal.pair_difference(first, second))
            self.flicker.append(temporal.pair_flicker(first, second, flow))
            self.traceable.append(float(flow.traceable.mean()))
            self.strengths.append(motion.pair_strength(flow))
            self.steps.append(motion.pair_movement(flow))
        fresh = frames[known:]
        self.shape, self.count = fresh[0].shape, self.count + len(fresh)
        if len(fresh) > 1:
            self.power.append(temporal.fast_power(*temporal.temporal_spectrum(fresh)))
        self.statistics += [image_statistics(frame) for frame in fresh]
        self._judge(fresh)

    def _judge(self, frames: list[Frame]) -> None:
        from PIL import Image

        images = [Image.fromarray(frame) for frame in frames]
        if self.judges.reader is not None:
            self.readings += self.judges.reader.read(images)
        judge = self.judges.features
        if judge is None:
            return
        self._keep("frame", judge, images)
        if self.judges.clip is not None and judge is not self.judges.clip:
            self._keep("clip", self.judges.clip, images)
        parts: list[Parts | None] = [split_subject(frame) for frame in frames] if self.separable else []
        apart = [part for part in parts if part is not None]
        # A subject that is missing in some frame has no consistency.
        self.separable = len(apart) == len(frames)
        if self.separable:
            for index, name in enumerate(("subject", "background")):
                self._keep(name, judge, [Image.fromarray(part[index]) for part in apart])

    def _keep(self, name: str, judge: Judge, images: list[Image]) -> None:
        self.features.setdefault(name, []).append(judge.image_features(images))

    def measurement(self) -> VideoMeasurement:
        """The measures of the whole video."""
        if self.count < 2:
            raise FreeUValueError(f"measures over time need a video of at least 2 frames, got {self.count}")
        values: Values = {
            "flicker": temporal.mean_flicker(self.flicker),
            "traceable_share": float(np.mean(self.traceable)),
            "frame_difference": float(np.mean(self.differences)),
            "fast_share": temporal.share_of(*map(float, np.sum(self.power, axis=0))),
            "motion_strength": float(np.mean(self.strengths)),
        }
        features = {name: np.concatenate(parts) for name, parts in self.features.items()}
        for name in ("subject", "background", "frame"):
            whole = name in features and (self.separable or name == "frame")
            values[f"{name}_consistency"] = frame_consistency(features[name]) if whole else None
        values |= {name: float(np.mean([one[name] for one in self.statistics])) for name in STATISTICS}
        return VideoMeasurement(
            values,
            motion.total_movement(self.steps, self.shape),
            features.get("frame"),
            features.get("clip", features.get("frame")) if self.judges.clip is not None else None,
            tuple(self.readings) if self.judges.reader is not None else None,
        )


def score_video_alignment(spec: PromptSpec, measurement: VideoMeasurement) -> Values:
    """Score a video against what its prompt asks for.

    Returns:
        the scores of ``score_alignment``, means over the frames (for scores of 0 or 1 the share of correct frames; None
        where no frame has one), and

        - ``motion``: 1 if the subject moves as the prompt says (``Movement.kind``), else 0;
        - ``motion_agreement``: cosine of its direction with that of the prompt (``Movement.agreement``);
        - ``clip_right``: 1 if all attributes are correct in every frame and the motion is.

    >>> import numpy as np
    >>> from freeu.evaluate import PromptSpec
    >>> frames = np.full((4, 64, 64, 3), 200, np.uint8)
    >>> for number, frame in enumerate(frames):
    ...     frame[24:40, 10 + 8 * number : 26 + 8 * number] = (220, 30, 30)  # a red square that moves right
    >>> seen = measure_video(frames)
    >>> [score_video_alignment(PromptSpec(motion=motion), seen)["motion"] for motion in ("right", "left")]
    [1.0, 0.0]
    """
    values: Values = {}
    right: list[float] = []
    if measurement.readings:
        rows = [score_alignment(spec, reading) for reading in measurement.readings]
        for name in rows[0]:
            found = [value for row in rows if (value := row[name]) is not None]
            values[name] = float(np.mean(found)) if found else None
        right += [value for row in rows if (value := row["all_asked"]) is not None]
    if spec.motion is not None:
        values["motion"] = float(measurement.movement.kind == spec.motion)
        values["motion_agreement"] = measurement.movement.agreement(spec.motion)
        right.append(float(measurement.movement.kind == spec.motion))
    if right:
        values["clip_right"] = min(right)
    return values


def video_similarity(means: Floats, captions: Floats) -> Floats:
    """100 max(mean cos, 0) of each video and its caption (CLIPSIM; Wu et al. 2021, arXiv:2104.14806), in percent.

    Args:
        means: of the unit features of each video's frames, (n, d).
        captions: unit features, (n, d), row by row.
    """
    return np.asarray(100.0 * (means * captions).sum(axis=1).clip(0.0, 1.0))


def score_videos(
    samples: Sequence[Sample],
    prompts: Sequence[Prompt],
    judges: Judges,
    captions: Floats | None,
    report: Callable[[int], None] | None = None,
) -> Scored:
    """``scoring.score_arm`` for videos, one video after the other.

    Raises:
        FreeUValueError: a video that cannot be read or has only one frame; the message names it.
    """
    scored = Scored([one.prompt for one in samples], [], [], align=score_video_alignment, similarity=video_similarity)
    features: list[Floats] = []
    means: list[Floats] = []
    kept: list[VideoMeasurement] = []
    for one in samples:
        found = _measured(one.path, judges)
        row, mean = score_video(found, one.prompt, prompts, captions)
        if mean is not None:
            means.append(mean)
        if found.features is not None:
            features.append(video_features(found.features))
        kept.append(VideoMeasurement(found.values, found.movement, readings=found.readings))
        scored.images.append(row)
        if report is not None:
            report(len(kept))
    scored.features = np.array(features) if features else None
    scored.clip = np.array(means) if means else None
    scored.readings = list(kept) if any(prompt.spec is not None for prompt in prompts) else None
    if scored.features is not None:
        scored.prompts = [feature_diversity(scored.features[own]) for own in several_of_each(scored.labels)]
    return scored


def score_video(
    found: VideoMeasurement, number: int, prompts: Sequence[Prompt], captions: Floats | None
) -> tuple[Values, Floats | None]:
    """The values of one video by every measure, and the mean of its frames' CLIP features, (d,), if there are any.

    Args:
        found: what was measured on it.
        number: of its prompt.
        prompts, captions: as in ``score_videos``.
    """
    spec = prompts[number].spec
    row = dict(found.values) if spec is None else score_video_alignment(spec, found) | found.values
    if found.clip is None or captions is None:
        return row, None
    mean: Floats = found.clip.mean(axis=0)
    row["clip_score"] = float(video_similarity(mean[None], captions[[number]])[0])
    if len(prompts) > 1:
        row["retrieval"] = float(retrieval(mean[None], captions, [number])[0])
    return row, mean


def features_of_videos(judge: Judge, paths: Sequence[Path], report: Callable[[int], None] | None = None) -> Floats:
    """``video_features`` of videos on disk, (n, 3 d); as ``scoring.features_of_files`` for images."""
    from PIL import Image

    found: list[Floats] = []
    for path in paths:
        parts = [
            judge.image_features([Image.fromarray(frame) for frame in block]) for block in _blocks(video_frames(path))
        ]
        found.append(video_features(np.concatenate(parts)))
        if report is not None:
            report(len(found))
    return np.array(found)


def _measured(path: Path, judges: Judges) -> VideoMeasurement:
    try:
        return measure_video(video_frames(path), judges)
    except FreeUValueError as error:
        text = str(error)
        raise FreeUValueError(text if path.name in text else f"{path.name}: {text}") from None

"""From videos to numbers: every measure over time, frame by frame, a few frames in memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.clip_drawing import clip_frames
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.scoring import Drawn, Judges, Scored, Values
from freeu.evaluate.metrics import temporal
from freeu.evaluate.metrics.alignment import Asked, Reading, score_alignment
from freeu.evaluate.metrics.clip import CLIP, retrieval
from freeu.evaluate.metrics.consistency import Parts, frame_consistency, subject_and_ground
from freeu.evaluate.metrics.distance import Floats
from freeu.evaluate.metrics.diversity import mean_distance, vendi_score
from freeu.evaluate.metrics.inception import Inception
from freeu.evaluate.metrics.statistics import STATISTICS, picture_statistics
from freeu.evaluate.metrics.video_distance import clip_features
from freeu.motion import measure as motion
from freeu.motion.measure import Frame, Movement

if TYPE_CHECKING:
    from PIL.Image import Image

BLOCK = 32
"""Frames of a video that are in memory together."""

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
"""The measures of ``measure_clip`` besides the means of ``STATISTICS``."""

CLIP_ASPECTS = ("clip_right", "motion", "motion_agreement")
"""The scores that ``score_clip_alignment`` adds to those of images."""


@dataclass(frozen=True)
class Seen:
    """What a video shows.

    Args:
        values: numbers for which no prompt is needed: ``OVER_TIME`` and ``STATISTICS``.
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


def measure_clip(frames: Iterable[Any], judges: Judges | None = None) -> Seen:
    """Everything that can be said of a video without its prompt.

    Args:
        frames: uint8 (H, W, 3) in order, at least two, of one size and at least 12x12; any iterable, such as what a
            decoder gives: ``BLOCK`` of them are held at a time.
        judges: what sees; None leaves consistency and readings out.

    Raises:
        FreeUValueError: other frames; OpenCV is not installed.
    """
    sums = _Sums(judges or Judges())
    before: list[Frame] = []
    for block in _blocks(frames):
        sums.add(motion.check_clip([*before, *block], least=1), len(before))
        before = block[-1:]
    return sums.seen()


def _blocks(frames: Iterable[Any]) -> Iterator[list[Any]]:
    """``BLOCK`` frames at a time; a single one that is left over goes with the last block."""
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
    """Numbers of a video as its frames come in."""

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
        self.statistics += [picture_statistics(frame) for frame in fresh]
        self._judge(fresh)

    def _judge(self, frames: list[Frame]) -> None:
        from PIL import Image

        pictures = [Image.fromarray(frame) for frame in frames]
        if self.judges.reader is not None:
            self.readings += self.judges.reader.read(pictures)
        judge = self.judges.features
        if judge is None:
            return
        self._keep("frame", judge, pictures)
        if self.judges.clip is not None and judge is not self.judges.clip:
            self._keep("clip", self.judges.clip, pictures)
        parts: list[Parts | None] = [subject_and_ground(frame) for frame in frames] if self.separable else []
        apart = [part for part in parts if part is not None]
        # A subject that is lost in some frame has no consistency of its own.
        self.separable = len(apart) == len(frames)
        if self.separable:
            for index, name in enumerate(("subject", "background")):
                self._keep(name, judge, [Image.fromarray(part[index]) for part in apart])

    def _keep(self, name: str, judge: CLIP | Inception, pictures: list[Image]) -> None:
        self.features.setdefault(name, []).append(judge.picture_features(pictures))

    def seen(self) -> Seen:
        """The numbers of the whole video."""
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
        return Seen(
            values,
            motion.total_movement(self.steps, self.shape),
            features.get("frame"),
            features.get("clip", features.get("frame")) if self.judges.clip is not None else None,
            tuple(self.readings) if self.judges.reader is not None else None,
        )


def score_clip_alignment(asked: Asked, seen: Seen) -> Values:
    """Score a video against what its prompt asks for.

    Returns:
        the scores of ``score_alignment``, means over the frames (so of those that are 0 or 1 the share of frames that
        are right; None where no frame has one), and

        - ``motion``: 1 if the subject moves as asked (``Movement.kind``), else 0;
        - ``motion_agreement``: cosine of its direction with the one asked for (``Movement.agreement``);
        - ``clip_right``: 1 if every frame and the motion are right, as far as asked.
    """
    values: Values = {}
    right: list[float] = []
    if seen.readings:
        rows = [score_alignment(asked, reading) for reading in seen.readings]
        for name in rows[0]:
            found = [value for row in rows if (value := row[name]) is not None]
            values[name] = float(np.mean(found)) if found else None
        right += [value for row in rows if (value := row["all_asked"]) is not None]
    if asked.motion is not None:
        values["motion"] = float(seen.movement.kind == asked.motion)
        values["motion_agreement"] = seen.movement.agreement(asked.motion)
        right.append(float(seen.movement.kind == asked.motion))
    if right:
        values["clip_right"] = min(right)
    return values


def clip_similarity(means: Floats, captions: Floats) -> Floats:
    """100 max(mean cos, 0) of each video and its caption (CLIPSIM; Wu et al. 2021, arXiv:2104.14806), in percent.

    Args:
        means: of the unit features of each video's frames, (n, d).
        captions: unit features, (n, d), row by row.
    """
    return np.asarray(100.0 * (means * captions).sum(axis=1).clip(0.0, 1.0))


def score_clips(
    drawn: Sequence[Drawn],
    prompts: Sequence[Prompt],
    judges: Judges,
    captions: Floats | None,
    report: Callable[[int], None] | None = None,
) -> Scored:
    """Every number of one arm's videos, one video after the other; as ``scoring.score_arm`` for images.

    Args:
        drawn: its videos, those of one prompt together.
        prompts: by number.
        judges: what scores.
        captions: see ``scoring.caption_features``.
        report: told how many videos are done.

    Raises:
        FreeUValueError: a video that cannot be read or has one frame only, with its name.
    """
    scored = Scored([one.prompt for one in drawn], [], [], align=score_clip_alignment, similarity=clip_similarity)
    features: list[Floats] = []
    means: list[Floats] = []
    kept: list[Seen] = []
    for one in drawn:
        seen = _measured(one.path, judges)
        asked = prompts[one.prompt].asked
        row = dict(seen.values) if asked is None else score_clip_alignment(asked, seen) | seen.values
        if seen.clip is not None and captions is not None:
            means.append(seen.clip.mean(axis=0))
            row["clip_score"] = float(clip_similarity(means[-1][None], captions[[one.prompt]])[0])
            if len(prompts) > 1:
                row["retrieval"] = float(retrieval(means[-1][None], captions, [one.prompt])[0])
        if seen.features is not None:
            features.append(clip_features(seen.features))
        kept.append(Seen(seen.values, seen.movement, readings=seen.readings))
        scored.pictures.append(row)
        if report is not None:
            report(len(kept))
    scored.features = np.array(features) if features else None
    scored.clip = np.array(means) if means else None
    scored.readings = list(kept) if any(prompt.asked is not None for prompt in prompts) else None
    scored.prompts = _diversity(drawn, scored.features)
    return scored


def features_of_clips(
    judge: CLIP | Inception, paths: Sequence[Path], report: Callable[[int], None] | None = None
) -> Floats:
    """``clip_features`` of videos on disk, (n, 3 d); as ``scoring.features_of_files`` for images."""
    from PIL import Image

    found: list[Floats] = []
    for path in paths:
        parts = [
            judge.picture_features([Image.fromarray(frame) for frame in block]) for block in _blocks(clip_frames(path))
        ]
        found.append(clip_features(np.concatenate(parts)))
        if report is not None:
            report(len(found))
    return np.array(found)


def _measured(path: Path, judges: Judges) -> Seen:
    try:
        return measure_clip(clip_frames(path), judges)
    except FreeUValueError as error:
        text = str(error)
        raise FreeUValueError(text if path.name in text else f"{path.name}: {text}") from None


def _diversity(drawn: Sequence[Drawn], features: Floats | None) -> list[Values]:
    """How different the videos of each prompt are, for prompts with several."""
    if features is None:
        return []
    found: list[Values] = []
    for _, group in itertools.groupby(range(len(drawn)), lambda index: drawn[index].prompt):
        own = features[list(group)]
        if len(own) > 1:
            found.append({"feature_diversity": mean_distance(own), "vendi_score": vendi_score(own)})
    return found

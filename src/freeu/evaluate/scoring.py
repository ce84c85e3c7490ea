"""From pictures on disk to numbers: every measure that prompts, judge and references allow."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.alignment import Reader, score_alignment
from freeu.evaluate.clip import CLIP, clip_score, retrieval
from freeu.evaluate.distance import (
    Floats,
    frechet_distance,
    frechet_floor,
    frechet_limit,
    kernel_distance_difference,
    kernel_distance_interval,
)
from freeu.evaluate.diversity import mean_distance, pixel_diversity, vendi_score
from freeu.evaluate.inception import Inception
from freeu.evaluate.intervals import Estimate, mean_interval, paired_interval
from freeu.evaluate.prompts import Prompt
from freeu.evaluate.statistics import picture_statistics
from freeu.pipelines.inputs import open_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
Values = dict[str, float | None]


@dataclass(frozen=True)
class Drawn:
    """A picture on disk: its file, the number of its prompt, and its seed."""

    path: Path
    prompt: int
    seed: int


@dataclass
class Judges:
    """What scores; None leaves its measures out.

    Args:
        reader: reads scenes, for prompts that carry ``asked``.
        clip: for CLIP score and retrieval, and for features.
        inception: takes the place of ``clip`` as the features of distances and diversity.
    """

    reader: Reader | None = None
    clip: CLIP | None = None
    inception: Inception | None = None

    @property
    def features(self) -> CLIP | Inception | None:
        return self.inception or self.clip


@dataclass
class Scored:
    """The numbers of one arm: by picture, and by prompt for what needs several seeds; features by picture."""

    pictures: list[Values]
    prompts: list[Values]
    features: Floats | None


def reference_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names.

    Raises:
        FreeUValueError: no folder, or fewer than 2 pictures.
    """
    if not folder.is_dir():
        raise FreeUValueError(f"--reference {folder} is no folder: name one that holds real pictures")
    found = sorted(item for item in folder.iterdir() if item.suffix.lower() in SUFFIXES)
    if len(found) < 2:
        raise FreeUValueError(f"--reference {folder} holds {len(found)} pictures ({', '.join(SUFFIXES)}): add more")
    return found


def features_of_files(judge: CLIP | Inception, paths: Sequence[Path], at_once: int = 64) -> Floats:
    """Features of pictures on disk, few of which are in memory at a time; shape (n, d)."""
    parts = [
        judge.picture_features([open_image(path) for path in paths[start : start + at_once]])
        for start in range(0, len(paths), at_once)
    ]
    return np.concatenate(parts)


def score_arm(
    drawn: Sequence[Drawn], prompts: Sequence[Prompt], judges: Judges, report: Callable[[int], None] | None = None
) -> Scored:
    """Every number of one arm's pictures.

    Args:
        drawn: its pictures, those of one prompt together.
        prompts: by number.
        judges: what scores.
        report: told how many pictures are done.
    """
    captions = judges.clip.text_features([prompt.text for prompt in prompts]) if judges.clip else None
    values: list[Values] = []
    by_prompt: list[Values] = []
    features: list[Floats] = []
    groups = {
        number: [one for one in drawn if one.prompt == number] for number in dict.fromkeys(d.prompt for d in drawn)
    }
    for number, group in groups.items():
        pictures = [open_image(one.path) for one in group]
        rows: list[Values] = [dict(picture_statistics(picture)) for picture in pictures]
        asked = prompts[number].asked
        if judges.reader is not None and asked is not None:
            for row, reading in zip(rows, judges.reader.read(pictures), strict=True):
                row |= score_alignment(asked, reading)
        own: Floats | None = None
        if judges.clip is not None and captions is not None:
            own = judges.clip.picture_features(pictures)
            text = np.repeat(captions[number][None], len(own), axis=0)
            for row, score in zip(rows, clip_score(own, text), strict=True):
                row["clip_score"] = float(score)
            if len(prompts) > 1:
                for row, found in zip(rows, retrieval(own, captions, [number] * len(own)), strict=True):
                    row["retrieval"] = float(found)
        if judges.inception is not None:
            own = judges.inception.picture_features(pictures)
        if own is not None:
            features.append(own)
        if len(group) > 1:
            several: Values = {"pixel_diversity": pixel_diversity(pictures)}
            if own is not None:
                several |= {"feature_diversity": mean_distance(own), "vendi_score": vendi_score(own)}
            by_prompt.append(several)
        values += rows
        if report is not None:
            report(len(values))
    return Scored(values, by_prompt, np.concatenate(features) if features else None)


def compare_arms(
    scored: dict[str, Scored], clusters: Sequence[Hashable], reference: Floats | None
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], float | None]:
    """Means with intervals by arm and measure, paired differences to the first arm, and the floor of the FID.

    Args:
        scored: arms with the same prompts and seeds in the same order; the first is the baseline.
        clusters: the prompt of each picture.
        reference: features of real pictures.
    """
    summary: dict[str, dict[str, Any]] = {}
    differences: dict[str, dict[str, Any]] = {}
    first = next(iter(scored))
    for name, arm in scored.items():
        own, against = summary.setdefault(name, {}), differences.setdefault(name, {})
        tables = (
            (arm.pictures, scored[first].pictures, clusters),
            (arm.prompts, scored[first].prompts, list(range(len(arm.prompts)))),
        )
        for rows, base, labels in tables:
            for measure in dict.fromkeys(key for row in rows for key in row):
                mine = [row.get(measure) for row in rows]
                theirs = [row.get(measure) for row in base]
                if any(value is not None for value in mine):
                    own[measure] = asdict(mean_interval(mine, labels))
                pairs = any(a is not None and b is not None for a, b in zip(mine, theirs, strict=True))
                if name != first and pairs:
                    against[measure] = asdict(paired_interval(mine, theirs, labels))
        base_features = scored[first].features
        if reference is not None and arm.features is not None and base_features is not None:
            own["kid"] = asdict(kernel_distance_interval(arm.features, reference, clusters))
            own["fid"] = _bare(frechet_distance(arm.features, reference), len(clusters))
            if len(clusters) >= 8:
                own["fid_limit"] = _bare(frechet_limit(arm.features, reference), len(clusters))
            if name != first:
                found = kernel_distance_difference(arm.features, base_features, reference, clusters)
                against["kid"] = asdict(found)
    floor = None if reference is None else frechet_floor(reference, len(clusters))
    return summary, differences, floor


def _bare(value: float, count: int) -> dict[str, Any]:
    """A number without an interval: the bootstrap of a biased distance would be biased again."""
    return asdict(Estimate(value, None, None, count, count))

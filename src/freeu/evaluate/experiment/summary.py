"""Summarize the scores: means with intervals, differences, ceiling, floor, and values by layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from freeu.evaluate.experiment.bounds import real_scenes, score_shuffled
from freeu.evaluate.experiment.plugged import plugged_metrics, score_plugged
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.results import CEILING
from freeu.evaluate.experiment.scoring import (
    Judges,
    Sample,
    Scored,
    Values,
    caption_features,
    features_of_files,
    score_arm,
)
from freeu.evaluate.experiment.video_scoring import VIDEO_ASPECTS, features_of_videos, score_videos
from freeu.evaluate.metrics.alignment import ASPECTS
from freeu.evaluate.metrics.distance import (
    Floats,
    frechet_distance,
    frechet_floor,
    frechet_limit,
    kernel_distance_difference,
    kernel_distance_interval,
)
from freeu.evaluate.metrics.statistics import STATISTICS
from freeu.evaluate.metrics.video_distance import NAMES
from freeu.intervals import Estimate, mean_interval, paired_interval, share_interval

ALIGNMENT = (*VIDEO_ASPECTS, *ASPECTS)
"""Scores of alignment: those of videos, then those of images."""

MEASURES = (*ALIGNMENT, *STATISTICS, "clip_score", "retrieval", "kid", "fid", "fid_limit")
"""Names that a metric which is plugged in cannot have."""

Means = dict[str, dict[str, Any]]


def score_everything(
    samples: Mapping[str, Sequence[Sample]],
    prompts: Sequence[Prompt],
    judges: Judges,
    reference: Sequence[Path] = (),
    matches: bool = False,
    *,
    videos: bool = False,
    names: Callable[[Path], str] = lambda path: path.name,
    say: Callable[[str], None] = lambda _: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Score the arms, the real scenes and the shuffled prompts.

    Args:
        samples: for each arm its images, in the same order of prompts and seeds; the first arm is the baseline.
        prompts: by number.
        judges: which measures there are.
        reference: real images; empty leaves distances out.
        matches: whether the i-th of them shows the i-th prompt.
        videos: whether all of them are videos.
        names: the name of an arm's image in the results.
        say: called with what is being done.
        report: called with how many images are scored, and of how many.

    Returns:
        these parts of ``results.json``: "clips" (whether videos were measured), "summary" and "differences" (by arm and
        measure), "fid_floor", "ceiling", "floor", "share_of_ceiling", "by_layout", "metrics" (those that are plugged
        in), "failures" (images that one of them gave no value for) and "pictures". What is unknown is None or empty.

    Raises:
        FreeUValueError: images that cannot be read; with ``matches``, another number of references than of prompts;
            metrics that are plugged in, and videos.
    """
    real = real_scenes(reference, prompts) if matches else []
    plugged = plugged_metrics(judges.metrics, MEASURES, videos=videos, matches=matches)
    features = judges.features
    with_reference = bool(reference) and (matches or features is not None)
    total = sum(len(files) for files in samples.values()) + (len(reference) if with_reference else 0)
    captions = caption_features(prompts, judges)
    score, features_in = (score_videos, features_of_videos) if videos else (score_arm, features_of_files)
    scored: dict[str, Scored] = {}
    done = 0

    def on_scored(count: int) -> None:
        report(done + count, total)

    for name, files in samples.items():
        say(f"scoring {name}")
        scored[name] = score(files, prompts, judges, captions, on_scored)
        done += len(files)
    ceiling, real_features = None, None
    if with_reference:
        say("scoring the reference")
        if matches:
            ceiling = score(real, prompts, judges, captions, on_scored)
            real_features = ceiling.features
        elif features is not None:
            real_features = features_in(features, reference, on_scored)
    rows = {name: arm.images for name, arm in scored.items()} | ({} if ceiling is None else {CEILING: ceiling.images})
    failures = score_plugged(
        plugged, {**samples, CEILING: real}, rows, prompts, reference if matches else (), say=say, report=report
    )
    say("intervals")
    first = next(iter(scored))
    floor = score_shuffled(scored[first], prompts, captions)
    summary, differences, fid_floor = compare_arms(scored, real_features, NAMES if videos else {})
    return {
        "clips": videos,
        "summary": summary,
        "differences": differences,
        "fid_floor": fid_floor,
        "ceiling": None
        if ceiling is None
        else {"summary": _means(ceiling.images, ceiling.labels), "pictures": _rows(real, ceiling, _name)},
        "floor": None
        if floor is None
        else {
            "arm": first,
            "summary": _means(floor.images, floor.labels),
            "pictures": _rows(samples[first], floor, names),
        },
        "share_of_ceiling": {} if ceiling is None else {name: _shares(arm, ceiling) for name, arm in scored.items()},
        "by_layout": _by_layout(scored, ceiling, floor, prompts),
        "metrics": [metric.to_dict() for metric in plugged],
        "failures": [
            asdict(one) | {"file": _name(one.file) if one.arm == CEILING else names(one.file)} for one in failures
        ],
        "pictures": [
            {"arm": name} | row for name, files in samples.items() for row in _rows(files, scored[name], names)
        ],
    }


def compare_arms(
    scored: Mapping[str, Scored], reference: Floats | None, names: Mapping[str, str] | None = None
) -> tuple[dict[str, Means], dict[str, Means], float | None]:
    """Means with intervals by arm and measure, paired differences to the first arm, and the floor of the FID.

    Args:
        scored: arms with the same prompts and seeds in the same order; the first is the baseline.
        reference: features of real images.
        names: other names for "kid", "fid" and "fid_limit".
    """
    kid, fid, limit = ((names or {}).get(name, name) for name in ("kid", "fid", "fid_limit"))
    summary: dict[str, Means] = {}
    differences: dict[str, Means] = {}
    first = next(iter(scored))
    clusters = scored[first].labels
    for name, arm in scored.items():
        numbers = list(range(len(arm.prompts)))
        own = summary[name] = _means(arm.images, clusters) | _means(arm.prompts, numbers)
        against: Means = {}
        differences[name] = against
        if name != first:
            against |= _differences(arm.images, scored[first].images, clusters)
            against |= _differences(arm.prompts, scored[first].prompts, numbers)
        base = scored[first].features
        if reference is not None and arm.features is not None and base is not None and len(clusters) > 1:
            own[kid] = asdict(kernel_distance_interval(arm.features, reference, clusters))
            own[fid] = _bare(frechet_distance(arm.features, reference), len(clusters))
            if len(clusters) >= 8:
                own[limit] = _bare(frechet_limit(arm.features, reference), len(clusters))
            if name != first:
                against[kid] = asdict(kernel_distance_difference(arm.features, base, reference, clusters))
    floor = None if reference is None else frechet_floor(reference, len(clusters))
    return summary, differences, floor


def _name(path: Path) -> str:
    return path.name


def _rows(files: Sequence[Sample], scored: Scored, names: Callable[[Path], str]) -> list[dict[str, Any]]:
    """A row for each image, with the prompt that it was scored against."""
    return [
        {"file": names(one.path), "prompt": label, "seed": one.seed, "values": values}
        for one, label, values in zip(files, scored.labels, scored.images, strict=True)
    ]


def _column(rows: Sequence[Values], measure: str) -> list[float | None]:
    return [row.get(measure) for row in rows]


def _measures(rows: Sequence[Values]) -> list[str]:
    """Measures that have a value in some row."""
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if value is not None))


def _means(rows: Sequence[Values], labels: Sequence[int]) -> Means:
    return {name: asdict(mean_interval(_column(rows, name), labels)) for name in _measures(rows)}


def _differences(rows: Sequence[Values], base: Sequence[Values], labels: Sequence[int]) -> Means:
    found: Means = {}
    for name in _measures(rows):
        mine, theirs = _column(rows, name), _column(base, name)
        if any(a is not None and b is not None for a, b in zip(mine, theirs, strict=True)):
            found[name] = asdict(paired_interval(mine, theirs, labels))
    return found


def _shares(arm: Scored, ceiling: Scored) -> Means:
    """The share of the real scenes' alignment that an arm reaches; measures on which theirs is 0 are left out."""
    found: Means = {}
    for name in set(_measures(arm.images)) & set(_measures(ceiling.images)) & set(ALIGNMENT):
        mine, whole = _column(arm.images, name), _column(ceiling.images, name)
        if any(whole):
            found[name] = asdict(share_interval(mine, whole, arm.labels, ceiling.labels))
    return {name: found[name] for name in ALIGNMENT if name in found}


def _by_layout(
    scored: Mapping[str, Scored], ceiling: Scored | None, floor: Scored | None, prompts: Sequence[Prompt]
) -> dict[str, Any] | None:
    """Alignment by arm, measure and layout, in the order in which the prompts name the layouts."""
    layouts = [layout for layout in dict.fromkeys(prompt.layout for prompt in prompts) if layout is not None]
    if not layouts:
        return None

    def of(one: Scored) -> dict[str, Means]:
        found: dict[str, Means] = {}
        for layout in layouts:
            chosen = [index for index, label in enumerate(one.labels) if prompts[label].layout == layout]
            rows = [{name: one.images[index].get(name) for name in ALIGNMENT} for index in chosen]
            for name, value in _means(rows, [one.labels[index] for index in chosen]).items():
                found.setdefault(name, {})[layout] = value
        return {name: found[name] for name in ALIGNMENT if name in found}

    return {
        "arms": {name: of(arm) for name, arm in scored.items()},
        "ceiling": None if ceiling is None else of(ceiling),
        "floor": None if floor is None else of(floor),
    }


def _bare(value: float, count: int) -> dict[str, Any]:
    """A number without an interval: a bootstrap would add to the bias of the distance."""
    return asdict(Estimate(value, None, None, count, count))

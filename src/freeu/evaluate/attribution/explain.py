"""What each part of a configuration does: an experiment with an arm for each, and the shares of the whole's effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import freeu
from freeu.errors import FreeUValueError
from freeu.evaluate.attribution.parts import WHOLE, Division, divide
from freeu.evaluate.experiment.arms import BASELINE, Arm
from freeu.evaluate.experiment.scoring import Values
from freeu.intervals import Estimate, mean_interval, share_interval
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.runs.manifest import as_json
from freeu.pipelines.runs.prepare import Prepared

EXPLAIN = "explain.json"
KIND = "freeu-explanation"
SCHEMA = 1
MEASURES = ("all_asked", "noun", "clip_score", "saturation", "sharpness", "high_frequency", "kid")
"""What the parts are compared by, as far as it was measured."""

_Pair = tuple[int, int | None]


def divided(prepared: Prepared, whole: Arm) -> Division:
    """The parts of an arm on a model.

    Raises:
        FreeUValueError: a model that generates videos, or one on which the arm changes nothing.
    """
    if prepared.plan.frames is not None:
        raise FreeUValueError("--explain measures images, and this model generates videos: leave --explain out")
    pipe = prepared.loaded.pipe
    config = freeu.recommend(pipe) if whole.config is None else whole.config
    with quiet(), freeu.enabled(pipe, config) as handle:
        touched = {site: handle.factors(site) for site in handle.sites}
    return divide(config, touched, prepared.plan.steps)


def explained(results: Mapping[str, Any], division: Division, text: str) -> dict[str, Any]:
    """What ``explain.json`` holds.

    Args:
        results: what ``results.json`` holds.
        division: the parts, which were the arms.
        text: the configuration as it was asked for.
    """
    found = _rows(results["pictures"])
    present = [name for name in MEASURES if name in results["differences"][WHOLE]]
    whole = results["differences"][WHOLE]
    parts = []
    for part in division.parts:
        name = part.arm.name
        differences = {measure: results["differences"][name].get(measure) for measure in present}
        parts.append(
            {
                "name": name,
                "group": part.group,
                "of": part.of,
                "config": str(part.arm.config),
                "reader": part.arm.reader,
                "differences": differences,
                "shares": {
                    measure: _share(differences[measure], whole[measure], found, name, measure) for measure in present
                },
            }
        )
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "arm": text,
        "config": str(division.parts[0].arm.config),
        "measures": present,
        "parts": parts,
        "interaction": [
            {"group": group, "of": of, "parts": names, "measures": _interaction(results, found, of, names, present)}
            for group, (of, names) in division.groups.items()
        ],
        "left_out": list(division.left_out),
    }


def write_explanation(folder: Path, explanation: Mapping[str, Any]) -> Path:
    """Write ``explain.json`` into the folder of the experiment."""
    return OutputFolder(folder).write(EXPLAIN, as_json(explanation))


def clear(found: Mapping[str, Any] | None) -> bool:
    """Whether the interval of a difference leaves out 0."""
    return found is not None and found["low"] is not None and not found["low"] <= 0.0 <= found["high"]


def _rows(pictures: Sequence[Mapping[str, Any]]) -> dict[str, dict[_Pair, Values]]:
    """The values of every image by arm, prompt and seed."""
    rows: dict[str, dict[_Pair, Values]] = {}
    for one in pictures:
        rows.setdefault(one["arm"], {})[(one["prompt"], one["seed"])] = one["values"]
    return rows


def _changes(rows: Mapping[str, Mapping[_Pair, Values]], arm: str, measure: str) -> dict[_Pair, float]:
    """Change against plain sampling by prompt and seed, where both have a value."""
    found = {}
    for pair, values in rows[arm].items():
        value, base = values.get(measure), rows[BASELINE][pair].get(measure)
        if value is not None and base is not None:
            found[pair] = value - base
    return found


def _share(
    part: Mapping[str, Any] | None,
    whole: Mapping[str, Any],
    rows: Mapping[str, Mapping[_Pair, Values]],
    arm: str,
    measure: str,
) -> dict[str, Any] | None:
    """The effect of a part over that of the whole; None where the whole has no clear effect to share."""
    if part is None or not clear(whole):
        return None
    mine, all_of_it = _changes(rows, arm, measure), _changes(rows, WHOLE, measure)
    if not mine:  # a distance between sets
        return asdict(Estimate(part["value"] / whole["value"], None, None, part["count"], part["clusters"]))
    prompts = [[prompt for prompt, _ in changes] for changes in (mine, all_of_it)]
    return asdict(share_interval([*mine.values()], [*all_of_it.values()], *prompts))


def _interaction(
    results: Mapping[str, Any],
    rows: Mapping[str, Mapping[_Pair, Values]],
    of: str,
    names: Sequence[str],
    measures: Sequence[str],
) -> dict[str, Any]:
    """By measure the sum of the parts, what they make up together, and the second minus the first."""
    found = {}
    for measure in measures:
        effects = [results["differences"][name].get(measure) for name in (*names, of)]
        if None in effects:
            continue
        *parts, together = (effect["value"] for effect in effects)
        changes = [_changes(rows, name, measure) for name in (*names, of)]
        both = [pair for pair in changes[-1] if all(pair in one for one in changes)]
        rest = [changes[-1][pair] - sum(one[pair] for one in changes[:-1]) for pair in both]
        interaction = (
            mean_interval(rest, [prompt for prompt, _ in both])
            if rest
            else Estimate(together - sum(parts), None, None, effects[-1]["count"], effects[-1]["clusters"])
        )
        found[measure] = {"sum": sum(parts), "together": together, "interaction": asdict(interaction)}
    return found

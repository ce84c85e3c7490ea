"""``results.json`` and ``table.md``: everything that was measured, and a summary of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from freeu.evaluate.experiment.video_scoring import OVER_TIME, VIDEO_ASPECTS
from freeu.evaluate.metrics.alignment import ASPECTS
from freeu.evaluate.metrics.statistics import STATISTICS
from freeu.evaluate.metrics.video_distance import NAMES
from freeu.pipelines.models.addons.add_ons import added_text
from freeu.pipelines.runs.plan import arithmetic
from freeu.wording import counted

KIND = "freeu-evaluation"
SCHEMA = 1
RESULTS, TABLE = "results.json", "table.md"

CEILING, FLOOR = "real scenes", "shuffled prompts"
"""Names of the rows above and below the arms."""

ORDER = (
    *VIDEO_ASPECTS,
    *ASPECTS,
    "clip_score",
    "retrieval",
    "kid",
    "fid",
    "fid_limit",
    *NAMES.values(),
    *OVER_TIME,
    *STATISTICS,
    "pixel_diversity",
    "feature_diversity",
    "vendi_score",
)
"""Order of the measures in the table."""

GLANCE = (
    "noun_strict",
    "colour",
    "style",
    "count",
    "relation",
    "motion",
    "flicker",
    "subject_consistency",
    "clip_score",
    "kid",
    NAMES["kid"],
)
"""Measures of the first table."""

KERNEL = ("kid", NAMES["kid"])
"""Distances that are small numbers: multiplied by 1000 in the first table."""


def as_markdown(results: Mapping[str, Any]) -> str:
    """A table of the main measures; then for each measure one with values, differences and shares, and one by layout.

    Args:
        results: what ``results.json`` holds.
    """
    lines = [*_head(results), *_glance(results)]
    for measure in ordered_measures(results):
        lines += ["", f"## {measure}", "", *_about(results, measure), *_measure(results, measure)]
        by_layout = _layouts(results, measure)
        if by_layout:
            lines += ["", *by_layout]
    return "\n".join(lines) + "\n"


def ordered_measures(results: Mapping[str, Any]) -> list[str]:
    """Every measure that was taken, in the order of the table."""
    found = {name for _, row in _all_rows(results) for name in row}
    return [*(name for name in ORDER if name in found), *sorted(found.difference(ORDER))]


def about_run(results: Mapping[str, Any]) -> list[str]:
    """A title, then what was evaluated and how to read it, a paragraph each."""
    found: list[str] = []
    goes_on = False
    for line in _head(results):
        if goes_on and line and not line.startswith("- "):
            found[-1] += f" {line}"
        elif line:
            found.append(line.removeprefix("# ").removeprefix("- "))
        goes_on = bool(line)
    return found


def glance(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of the main measures: its heads, and a row for each arm, for what is above and for what is below."""
    rows = _all_rows(results)
    shown = (*GLANCE, *(metric["name"] for metric in results.get("metrics", ())))
    measures = [name for name in shown if any(name in row for _, row in rows)]
    heads = ["arm", *(f"{name} x 1000" if name in KERNEL else name for name in measures)]
    cells = [[name, *(_half(row.get(measure), measure) for measure in measures)] for name, row in rows]
    return heads, cells if measures else []


def _head(results: Mapping[str, Any]) -> Iterator[str]:
    # Results of older versions have neither videos nor equal arms.
    videos, equal = results.get("clips", False), results.get("equal_arms", {})
    plan, noun = results["plan"], "video" if videos else "image"
    if plan is None:
        yield f"# Existing {noun}s"
        yield ""
        each = len(results["pictures"]) // (len(results["arms"]) * len(results["prompts"]))
        yield f"{counted(len(results['prompts']), 'prompt')}, {counted(each, noun)} per prompt."
        same = "prompt and seed" if all(one["seed"] is not None for one in results["pictures"]) else "prompt"
    else:
        yield "# " + " with ".join(filter(None, [plan["model"]["name"], added_text(plan)]))
        yield ""
        counts = [counted(len(plan["prompts"]), "prompt"), counted(len(plan["seeds"]), "seed")]
        counts += [counted(plan["steps"], "step"), *([counted(plan["frames"], "frame")] if videos else [])]
        yield f"{', '.join(counts)}. Generated in {arithmetic(plan)}."
        same = "prompt and seed"
    yield "In brackets, or behind ±: 95 % bootstrap interval over prompts."
    yield f"Difference: to the same {same} under the first arm; an interval that contains 0 shows no effect."
    if results["ceiling"] is not None:
        yield f'"{CEILING}": the reference {noun}s, each scored against the prompt that it shows. No arm is expected'
        yield 'to score above them: what is missing there is the error of reader and CLIP. "of real" is the share of'
        yield "their score that an arm reaches."
    if results["floor"] is not None:
        yield f'"{FLOOR}": the {noun}s of {results["floor"]["arm"]}, each scored against the prompt of another {noun}:'
        yield "the score by chance."
    yield ""
    for name, found in results["calibration"].items():
        yield f"- {name}: {_calibration(name.partition(':')[2], found)}"
    for said, _ in _failures(results):
        yield f"- {said}: see failures in {RESULTS}."
    for name, other in equal.items():
        yield f"- {name} and {other} generated identical {noun}s: the settings in which they differ have no effect."
    if results["fid_floor"] is not None:
        yield f"- Frechet distance (FID) of real against real at this number of {noun}s: {results['fid_floor']:.4g}."
    if results["calibration"] or equal or results.get("failures") or results["fid_floor"] is not None:
        yield ""


def _calibration(matched: str, found: Mapping[str, Any]) -> str:
    """What a calibration found, in one sentence."""
    how = found.get("how")  # calibrations of older versions do not say it
    if how == "effective":
        return (
            f"plain sampling at the effective CFG scale of {matched}, which is "
            f"{_text(found['effective'], found['low'], found['high'])} at CFG scale {found['guidance']:g}."
        )
    if how == "neutral":
        return (
            f"{matched} at CFG scale {found['matched']:.4g}, where its effective CFG scale is "
            f"{_text(found['effective'], found['low'], found['high'])}: that of plain sampling at "
            f"{found['guidance']:g} ({counted(len(found['evaluations']), 'scale')} tried)."
        )
    return (
        f"CFG scale {_text(found['matched'], found['low'], found['high'])} is as strong as FreeU at "
        f"{found['guidance']:g}; guidance can imitate {found['explained']:.0%} of FreeU's change."
    )


def failure_lines(results: Mapping[str, Any]) -> list[str]:
    """What a user should know of metrics that gave no value for some images, with the first of them."""
    return [f"{said}: {first['file']}: {first['error']}" for said, first in _failures(results)]


def _failures(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """For each arm and metric how many images it gave no value for, and the first; older results have none."""
    found: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for one in results.get("failures", ()):
        found.setdefault((one["arm"], one["metric"]), []).append(one)
    for (arm, metric), failed in found.items():
        real = arm == CEILING
        rows = results["ceiling"]["pictures"] if real else [one for one in results["pictures"] if one["arm"] == arm]
        yield f"{metric} gave no value for {len(failed)} of {counted(len(rows), 'image')} of {arm}", failed[0]


def _all_rows(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and means of the arms, then of ceiling and floor."""
    rows = [(arm["name"], results["summary"][arm["name"]]) for arm in results["arms"]]
    for name, key in ((CEILING, "ceiling"), (FLOOR, "floor")):
        if results[key] is not None:
            rows.append((name, results[key]["summary"]))
    return rows


def _glance(results: Mapping[str, Any]) -> Iterator[str]:
    """Values with half of their interval."""
    heads, rows = glance(results)
    if not rows:
        return
    yield "## At a glance"
    yield ""
    yield from _table(heads, rows)


def _about(results: Mapping[str, Any], measure: str) -> Iterator[str]:
    """Of a metric that is plugged in: what it is, which way is better, and its licence."""
    for metric in results.get("metrics", ()):
        if metric["name"] == measure:
            way = {True: "higher is better", False: "lower is better", None: "neither way is better"}
            said = [metric["source"], f"sees {metric['sees']}", way[metric["higher_is_better"]], metric["licence"]]
            yield f"{'; '.join(filter(None, said))}."
            yield ""


def _measure(results: Mapping[str, Any], measure: str) -> Iterator[str]:
    """Values of one measure, for the arms with difference and share."""
    shares = results["share_of_ceiling"]
    with_share = any(measure in found for found in shares.values())
    with_guidance = any(scale is not None for scale in results["guidance"].values())
    heads = ["arm", *(["CFG scale"] if with_guidance else []), "value", "difference", *(["of real"] * with_share)]
    rows = []
    arms = {arm["name"] for arm in results["arms"]}
    for number, (name, row) in enumerate(_all_rows(results)):
        is_arm = number < len(arms)
        if not is_arm and measure not in row:
            continue
        cells = [name]
        if with_guidance:
            scale = results["guidance"][name] if is_arm else None
            cells.append("-" if scale is None else f"{scale:.4g}")
        cells += [_estimate(row.get(measure)), _estimate(results["differences"][name].get(measure) if is_arm else None)]
        if with_share:
            cells.append(_estimate(shares[name].get(measure) if is_arm else None))
        rows.append(cells)
    return _table(heads, rows)


def _layouts(results: Mapping[str, Any], measure: str) -> list[str]:
    """Values of one measure by layout; empty if fewer than two layouts have any."""
    found = results["by_layout"]
    if found is None:
        return []
    rows = [(name, row.get(measure, {})) for name, row in found["arms"].items()]
    for name, key in ((CEILING, "ceiling"), (FLOOR, "floor")):
        if found[key] is not None:
            rows.append((name, found[key].get(measure, {})))
    named = dict.fromkeys(prompt["layout"] for prompt in results["prompts"] if prompt["layout"] is not None)
    layouts = [layout for layout in named if any(layout in row for _, row in rows)]
    if len(layouts) < 2:
        return []
    cells = [[name, *(_estimate(row.get(layout)) for layout in layouts)] for name, row in rows]
    return list(_table(["arm", *layouts], cells))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (heads, ["---"] * len(heads), *rows):
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _half(found: Mapping[str, Any] | None, measure: str) -> str:
    """A value with half the width of its interval."""
    if found is None:
        return "-"
    scale = 1000.0 if measure in KERNEL else 1.0
    form = ".2f" if measure == "clip_score" else ".3g" if measure in KERNEL else ".3f"
    value = format(scale * found["value"], form)
    if found["low"] is None:
        return value
    half = scale * (found["high"] - found["low"]) / 2.0
    return f"{value} ± {format(half, '.2g' if measure in KERNEL else form)}"


def _estimate(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else _text(found["value"], found["low"], found["high"])


def _text(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4g}" if low is None or high is None else f"{value:.4g} [{low:.4g}, {high:.4g}]"

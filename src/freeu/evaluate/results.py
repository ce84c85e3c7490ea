"""``results.json`` and ``table.md``: everything that was measured, and what a reader wants first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

KIND = "freeu-evaluation"
SCHEMA = 1


def as_json(data: Mapping[str, Any]) -> str:
    """The text of a file; numbers that JSON cannot hold raise ``ValueError``."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_markdown(results: Mapping[str, Any]) -> str:
    """One row for each arm and measure: the value and the paired difference to the first arm, with 95 % intervals."""
    plan = results["plan"]
    arms = [arm["name"] for arm in results["arms"]]
    lines = [
        f"# {plan['model']['name']}",
        "",
        f"{len(plan['prompts'])} prompts, {len(plan['seeds'])} seeds, {plan['steps']} steps.",
        "In brackets: 95 % bootstrap interval over prompts.",
        "Difference: to the same prompt and seed under the first arm; one whose interval holds 0 shows nothing.",
        "",
    ]
    for name, found in results["calibration"].items():
        lines.append(
            f"- {name}: guidance {_text(found['matched'], found['low'], found['high'])} is as strong as FreeU at "
            f"{found['guidance']:g}; it can imitate {found['explained']:.0%} of FreeU's change."
        )
    if results["fid_floor"] is not None:
        lines.append(f"- FID of real against real at this number of pictures: {results['fid_floor']:.4g}.")
    measures = dict.fromkeys(name for arm in arms for name in results["summary"][arm])
    for measure in measures:
        lines += ["", f"## {measure}", "", "| arm | guidance | value | difference |", "|---|---|---|---|"]
        for arm in arms:
            value = _estimate(results["summary"][arm].get(measure))
            difference = _estimate(results["differences"][arm].get(measure))
            lines.append(f"| {arm} | {results['guidance'][arm]:.4g} | {value} | {difference} |")
    return "\n".join(lines) + "\n"


def _estimate(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else _text(found["value"], found["low"], found["high"])


def _text(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4g}" if low is None or high is None else f"{value:.4g} [{low:.4g}, {high:.4g}]"

"""The page of an explanation: the parts by measure, and how far they add up."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from freeu.evaluate.attribution.explain import clear
from freeu.evaluate.attribution.parts import WHOLE
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.addons.add_ons import added_text
from freeu.pipelines.pages.rendering import render
from freeu.pipelines.runs.plan import arithmetic
from freeu.wording import counted

PAGE = "explain.html"
GROUPS = {
    "": "",
    "factor": "factor",
    "stage": "stage",
    "site": "site",
    "frequency": "frequency",
    "time": "third of the schedule",
    "way": "way through the resnets",
}
RC: Any = {"svg.hashsalt": "freeu", "font.size": 8}
"""Settings of matplotlib: the same numbers give the same file."""
CLEAR, UNCLEAR = "#0072B2", "#a0a0a0"


def write_page(folder: Path, explanation: Mapping[str, Any], results: Mapping[str, Any]) -> Path:
    """Write ``explain.html`` into the folder of the experiment: one file that opens from disk.

    Args:
        folder: of the experiment.
        explanation: what ``explain.json`` holds.
        results: what ``results.json`` holds.

    Raises:
        FreeUValueError: matplotlib is not installed.
        FreeURuntimeError: the disk is full.
    """
    from freeu.extras import need

    need("analysis", "matplotlib")
    plan = results["plan"]
    measures = explanation["measures"]
    page = render(
        "freeu.evaluate.attribution",
        "explain.html",
        title=f"What each part of {explanation['arm']} does",
        config=explanation["config"],
        facts=[
            " with ".join(filter(None, [plan["model"]["name"], added_text(plan)])),
            f"{counted(len(plan['prompts']), 'prompt')}, {counted(len(plan['seeds']), 'seed')}, "
            f"{counted(plan['steps'], 'step')}, CFG scale {plan['guidance']:g}, {plan['width']}x{plan['height']}, "
            f"{arithmetic(plan)}",
        ],
        measures=measures,
        rows=[
            {
                "name": part["name"],
                "group": GROUPS[part["group"]],
                "config": part["config"],
                "cells": [
                    (
                        *_parts(part["differences"][measure]),
                        "" if part["name"] == WHOLE else _share(part["shares"][measure]),
                        clear(part["differences"][measure]),
                    )
                    for measure in measures
                ],
            }
            for part in explanation["parts"]
        ],
        equal=[(name, other) for name, other in results["equal_arms"].items()],
        sums=[
            (
                GROUPS[one["group"]],
                " + ".join(one["parts"]),
                one["of"],
                [_sum(one["measures"].get(measure)) for measure in measures],
            )
            for one in explanation["interaction"]
        ],
        left_out=explanation["left_out"],
        plot=_svg(explanation["parts"], measures) if measures else "",
    )
    return OutputFolder(folder).write(PAGE, page)


def _parts(found: Mapping[str, Any] | None) -> tuple[str, str]:
    """The value and the interval."""
    if found is None:
        return "-", ""
    interval = "" if found["low"] is None else f"[{_number(found['low'])}, {_number(found['high'])}]"
    return _number(found["value"]), interval


def _number(value: float) -> str:
    return f"{value:+.3g}" if value else "0"


def _share(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    value = f"share {round(100.0 * found['value'])} %"
    return value if found["low"] is None else f"{value} [{round(100.0 * found['low'])}, {round(100.0 * found['high'])}]"


def _sum(found: Mapping[str, Any] | None) -> tuple[str, str, bool]:
    """The sum of the parts and what they make up together, and the interaction; whether its interval leaves out 0."""
    if found is None:
        return "-", "", False
    sums = f"{_number(found['sum'])} / {_number(found['together'])}"
    return sums, " ".join(_parts(found["interaction"])), clear(found["interaction"])


def _svg(parts: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> str:
    """A panel for each measure, with the difference and interval of every part; as SVG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC):
        canvas = Figure(figsize=(1.6 + 1.7 * len(measures), 0.7 + 0.22 * len(parts)), layout="constrained")
        FigureCanvasAgg(canvas)
        axes = canvas.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axis, measure in zip(axes, measures, strict=True):
            for place, part in enumerate(parts):
                found = part["differences"][measure]
                if found is None:
                    continue
                colour = CLEAR if clear(found) else UNCLEAR
                if found["low"] is not None:
                    axis.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=1.5)
                axis.plot([found["value"]], [place], "o", color=colour, markersize=3.5)
            axis.axvline(0.0, color="#606060", linewidth=0.8)
            if not any(end for part in parts for end in _ends(part["differences"][measure])):
                axis.set_xlim(-1.0, 1.0)  # nothing changed, and matplotlib takes limits from rounding
            axis.set_title(measure)
            axis.grid(axis="x", alpha=0.3)
            axis.tick_params(axis="x", labelsize=6)
            axis.locator_params(axis="x", nbins=4)
        axes[0].set_yticks(range(len(parts)), [part["name"].replace("$", r"\$") for part in parts])
        axes[0].invert_yaxis()
        return svg_of(canvas)


def _ends(found: Mapping[str, Any] | None) -> list[float]:
    return [found[name] or 0.0 for name in ("value", "low", "high")] if found else []


def svg_of(canvas: Any) -> str:
    """A figure of matplotlib as the text of an ``svg`` element."""
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

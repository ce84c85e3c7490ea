"""The report: one HTML file that opens from disk and walks through the paper's argument on one model."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.analysis.content import FREQUENCY, Cell, Figure, Grid, Panel, Verdict
from freeu.analysis.plots import OKABE_ITO
from freeu.config import FreeUConfig
from freeu.pipelines.extras import need
from freeu.pipelines.plan import Plan, counted
from freeu.pipelines.rendering import render

MAX_BYTES = 20_000_000
_QUALITIES = (None, 92, 75, 50)
"""Of the pictures: PNG first, then WebP of falling quality until the page is small enough."""


def make_report(
    figures: Sequence[Figure],
    control: Sequence[Figure],
    plan: Plan,
    config: FreeUConfig,
    environment: Mapping[str, str],
    note: str = "",
) -> str:
    """Render the page.

    Args:
        figures: in order.
        control: the same figures of a U-Net with random weights; empty without a control.
        plan, config, environment: what was drawn and with what.
        note: a line on the model.

    Returns:
        HTML below 20 MB with every plot and picture inside: pictures are PNG, or WebP where that would be too large.

    Raises:
        FreeUValueError: plotly is not installed.
    """
    need("analysis", "plotly")
    page = ""
    for quality in _QUALITIES:
        page = _render(figures, control, plan, config, environment, note, quality)
        if len(page.encode()) < MAX_BYTES:
            break
    return page


def _render(
    figures: Sequence[Figure],
    control: Sequence[Figure],
    plan: Plan,
    config: FreeUConfig,
    environment: Mapping[str, str],
    note: str,
    quality: int | None,
) -> str:
    from plotly.offline import get_plotlyjs

    by_number = {figure.number: figure for figure in control}
    sections = [_section(figure, by_number.get(figure.number), quality) for figure in figures]
    rows = [row for section in sections for row in section["verdicts"]]
    return render(
        "freeu.analysis",
        "report.html",
        model=plan.model.name,
        note=note,
        config=str(config),
        with_control=bool(control),
        sections=sections,
        rows=rows,
        counts={
            answer: sum(row["answer"] == answer for row in rows) for answer in ("agrees", "disagrees", "undecided")
        },
        drawn=f"{counted(len(plan.prompts), 'prompt')}, {counted(len(plan.seeds), 'seed')} each, "
        f"{counted(plan.steps, 'step')}, guidance {plan.guidance:g}, {plan.width} x {plan.height}",
        prompts=plan.prompts,
        environment=environment,
        exact=quality is None,
        plotly=get_plotlyjs(),
    )


def _section(figure: Figure, control: Figure | None, quality: int | None) -> dict[str, Any]:
    others = {verdict.measure: verdict for verdict in (control.verdicts if control else ())}
    return {
        "number": figure.number,
        "title": figure.title,
        "shows": figure.shows,
        "claim": figure.claim,
        "parts": _parts(figure, quality),
        "control_parts": _parts(control, quality) if control else [],
        "verdicts": [
            {**_row(verdict), "number": figure.number, "control": _row(others[verdict.measure]) if others else None}
            for verdict in figure.verdicts
        ],
    }


def _parts(figure: Figure, quality: int | None) -> list[dict[str, Any]]:
    return [_plot(part) if isinstance(part, Panel) else _pictures(part, quality) for part in figure.content]


def _row(verdict: Verdict) -> dict[str, Any]:
    found = verdict.estimate
    interval = "" if found.low is None or found.high is None else f" [{found.low:+.3g}, {found.high:+.3g}]"
    return {
        "claim": verdict.claim,
        "measure": verdict.measure,
        "expected": "above 0" if verdict.sign > 0 else "below 0",
        "value": f"{found.value:+.3g}{interval}",
        "answer": verdict.answer,
    }


def _plot(panel: Panel) -> dict[str, Any]:
    """Data for plotly; colours are chosen on the page, by theme."""
    lines = [
        {
            "label": line.label,
            "x": _short(line.x),
            "y": _short(line.y),
            "low": None if line.low is None else _short(line.low),
            "high": None if line.high is None else _short(line.high),
            "shade": line.shade,
            "dash": "dash" if line.dashed else "solid",
        }
        for line in panel.series
    ]
    data = {
        "title": panel.title,
        "x": panel.x_label,
        "y": panel.y_label,
        "angular": panel.x_label == FREQUENCY,
        "lines": lines,
        "palette": OKABE_ITO,
    }
    # What ends a script element or opens a comment must not stand in one.
    return {"kind": "plot", "title": panel.title, "json": json.dumps(data).replace("<", "\\u003c")}


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _pictures(grid: Grid, quality: int | None) -> dict[str, Any]:
    rows = []
    for name, cells in zip(grid.rows, grid.cells, strict=True):
        shown = [
            {
                "src": _source(cell, quality),
                "alt": f"{name}, {column}",
                "numbers": ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in cell.values.items()),
                "is_map": cell.is_map,
            }
            for column, cell in zip(grid.columns, cells, strict=True)
        ]
        rows.append({"name": name, "cells": shown})
    return {"kind": "pictures", "title": grid.title, "columns": grid.columns, "rows": rows}


def _source(cell: Cell, quality: int | None) -> str:
    from PIL import Image

    pixels = _coloured(cell.pixels) if cell.is_map else cell.pixels
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if quality is None:
        image.save(buffer, "PNG", optimize=True)
        return _uri("png", buffer)
    image.save(buffer, "WEBP", quality=quality)
    return _uri("webp", buffer)


def _uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _coloured(values: NDArray[Any]) -> NDArray[np.uint8]:
    """A map from its least to its largest value in cividis."""
    from matplotlib import colormaps

    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.asarray(colormaps["cividis"](scaled)[..., :3] * 255.0, dtype=np.uint8)

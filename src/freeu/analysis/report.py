"""The report: one HTML file that opens from disk and walks through the paper's argument on one model."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.analysis.measurement.content import (
    FREQUENCY,
    LEAST_PROMPTS,
    Cell,
    Figure,
    Grid,
    Panel,
    Verdict,
    compare_verdicts,
)
from freeu.analysis.plots import OKABE_ITO
from freeu.config import FreeUConfig
from freeu.extras import need
from freeu.intervals import Estimate
from freeu.pipelines.pages.rendering import render
from freeu.pipelines.runs.plan import Plan
from freeu.wording import counted

MAX_BYTES = 20_000_000
_QUALITIES = (None, 92, 75, 50)
"""WebP quality of the images: lossless first, then lower until the page is small enough."""


def make_report(
    figures: Sequence[Figure],
    baseline: Sequence[Figure],
    plan: Plan,
    config: FreeUConfig,
    environment: Mapping[str, str],
    note: str = "",
) -> str:
    """Render the page.

    Args:
        figures: in order.
        baseline: the same figures of a U-Net with random weights; empty without a random baseline.
        plan, config, environment: what was generated and with what.
        note: a line about the model.

    Returns:
        HTML below 20 MB with every plot and image embedded; images are lossless unless that would be too large.

    Raises:
        FreeUValueError: plotly is not installed.
    """
    need("analysis", "plotly")
    page = ""
    for quality in _QUALITIES:
        page = _render(figures, baseline, plan, config, environment, note, quality)
        if len(page.encode()) < MAX_BYTES:
            break
    return page


def _render(
    figures: Sequence[Figure],
    baseline: Sequence[Figure],
    plan: Plan,
    config: FreeUConfig,
    environment: Mapping[str, str],
    note: str,
    quality: int | None,
) -> str:
    from plotly.offline import get_plotlyjs

    by_number = {figure.number: figure for figure in baseline}
    images = EmbeddedImages(quality)
    sections = [_section(figure, by_number.get(figure.number), images) for figure in figures]
    rows = [row for section in sections for row in section["verdicts"]]
    return render(
        "freeu.analysis",
        "report.html",
        model=plan.model_text,
        note=note,
        config=str(config),
        with_baseline=bool(baseline),
        sections=sections,
        rows=rows,
        counts={answer: _count(rows, answer) for answer in ("agrees", "disagrees", "undecided")},
        generated=f"{counted(len(plan.prompts), 'prompt')}, {counted(len(plan.seeds), 'seed')} each, "
        f"{counted(plan.steps, 'step')}, CFG scale {plan.guidance:g}, {plan.width} x {plan.height}",
        prompts=plan.prompts,
        least_prompts=LEAST_PROMPTS,
        environment=environment,
        exact=quality is None,
        images=images.as_json(),
        plotly=get_plotlyjs(),
    )


def _count(rows: Sequence[Mapping[str, Any]], answer: str) -> dict[str, int]:
    """How many verdicts give an answer, and how many of them go beyond those of random weights."""
    given = [row for row in rows if row["answer"] == answer]
    return {
        "all": len(given),
        "beyond": sum(row["baseline"] is not None and row["baseline"]["beyond"] == "beyond noise" for row in given),
    }


def _section(figure: Figure, baseline: Figure | None, images: EmbeddedImages) -> dict[str, Any]:
    return {
        "number": figure.number,
        "title": figure.title,
        "shows": figure.shows,
        "claim": figure.claim,
        "parts": _parts(figure, images),
        "baseline_parts": _parts(baseline, images) if baseline else [],
        "verdicts": [
            {**_row(verdict), "number": figure.number, "baseline": _baseline(verdict, other) if other else None}
            for _, verdict, other in compare_verdicts([figure], [baseline] if baseline else [])
        ],
    }


def _parts(figure: Figure, images: EmbeddedImages) -> list[dict[str, Any]]:
    return [_plot(part) if isinstance(part, Panel) else _grid(part, images) for part in figure.content]


def _row(verdict: Verdict) -> dict[str, Any]:
    return {
        "claim": verdict.claim,
        "measure": verdict.measure,
        "expected": "above 0" if verdict.sign > 0 else "below 0",
        "value": _number(verdict.estimate),
        "why": _why(verdict),
        "answer": verdict.answer,
    }


def _why(verdict: Verdict) -> str:
    """Why a verdict is undecided though its interval is clear of 0, or ""."""
    prompts = len(set(verdict.clusters))
    if verdict.answer == "undecided" and prompts < LEAST_PROMPTS:
        return f"{counted(prompts, 'prompt')}, and at least {LEAST_PROMPTS} decide"
    return ""


def _baseline(verdict: Verdict, baseline: Verdict) -> dict[str, Any]:
    difference, beyond = verdict.beyond(baseline)
    return {**_row(baseline), "difference": _number(difference), "beyond": beyond}


def _number(found: Estimate) -> str:
    interval = "" if found.low is None or found.high is None else f" [{found.low:+.3g}, {found.high:+.3g}]"
    return f"{found.value:+.3g}{interval}"


def _plot(panel: Panel) -> dict[str, Any]:
    """Data for plotly; the page chooses the colours by theme."""
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
    # "</script" or "<!--" inside a script element would end it.
    return {"kind": "plot", "title": panel.title, "json": json.dumps(data).replace("<", "\\u003c")}


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _grid(grid: Grid, images: EmbeddedImages) -> dict[str, Any]:
    rows = []
    for name, cells in zip(grid.rows, grid.cells, strict=True):
        shown = [
            {
                "image": images.add(cell),
                "alt": f"{name}, {column}",
                "numbers": ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in cell.values.items()),
                "is_map": cell.is_map,
                "width": cell.pixels.shape[1],
                "height": cell.pixels.shape[0],
            }
            for column, cell in zip(grid.columns, cells, strict=True)
        ]
        rows.append({"name": name, "cells": shown})
    return {"kind": "images", "title": grid.title, "columns": grid.columns, "rows": rows}


class EmbeddedImages:
    """The images embedded in a page, each once, though several figures may show it.

    Args:
        quality: of WebP, or None for lossless.
    """

    def __init__(self, quality: int | None) -> None:
        self._quality = quality
        self._sources: dict[str, str] = {}

    def add(self, cell: Cell) -> str:
        """Embed a cell's image and return its name."""
        pixels = np.ascontiguousarray(_coloured(cell.pixels) if cell.is_map else cell.pixels)
        name = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:16]
        if name not in self._sources:
            self._sources[name] = _source(pixels, self._quality)
        return name

    def as_json(self) -> str:
        """Every image by name, as data URLs."""
        return json.dumps(self._sources)


def _source(pixels: NDArray[np.uint8], quality: int | None) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality}
    Image.fromarray(pixels).save(buffer, "WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _coloured(values: NDArray[Any]) -> NDArray[np.uint8]:
    """A map from its smallest to its largest value in cividis."""
    from matplotlib import colormaps

    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.asarray(colormaps["cividis"](scaled)[..., :3] * 255.0, dtype=np.uint8)

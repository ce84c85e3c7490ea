"""Tables and heat maps of the grid: ``when.md``, ``when.png`` and ``when.svg``."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from freeu.config import FreeUConfig
from freeu.evaluate.attribution.explain import clear
from freeu.evaluate.attribution.page import RC
from freeu.evaluate.attribution.when import significant
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.addons.add_ons import added_text
from freeu.pipelines.runs.plan import arithmetic
from freeu.wording import counted

TABLE, IMAGES = "when.md", ("when.png", "when.svg")
FEW = 30
"""Prompts below which percentiles of the bootstrap are clearly narrower than Student's interval."""


def write_when(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write the tables and the heat maps into the folder of a grid.

    Args:
        results: what ``when.json`` holds.

    Raises:
        FreeUValueError: matplotlib is not installed.
        FreeURuntimeError: the disk is full.
    """
    output = OutputFolder(folder)
    if results["measures"]:
        for name, data in heat_maps(results).items():
            output.write(name, data)
    return output.write(TABLE, as_markdown(results))


def _rows(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name of the settings and window, in order."""
    return [(name, window) for name in results["grid"]["settings"] for window in results["grid"]["windows"]]


def _cells(results: Mapping[str, Any]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    return {(one["guidance"], one["steps"], one["factor"], one["window"]): one for one in results["cells"]}


def mark(found: Mapping[str, Any]) -> str:
    """``*`` where the interval leaves out 0, ``**`` where the difference is clear after adjustment too."""
    return "**" if significant(found) else "*" if clear(found) else ""


def as_markdown(results: Mapping[str, Any]) -> str:
    """For each measure and CFG scale a table: settings and windows as rows, steps as columns.

    Args:
        results: what ``when.json`` holds.
    """
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    plan, grid = results["plan"], results["grid"]
    yield "# When re-weighting helps: " + " with ".join(filter(None, [plan["model"]["name"], added_text(plan)]))
    yield ""
    yield (
        f"{counted(len(plan['prompts']), 'prompt')}, {counted(len(plan['seeds']), 'seed')}, "
        f"{plan['width']}x{plan['height']}. Generated in {arithmetic(plan)}."
    )
    yield "Differences to plain sampling with the same steps, CFG scale, prompts and seeds, with 95 % bootstrap"
    yield "intervals over prompts. `*`: the interval leaves out 0. `**`: and the p-value (Student's test over prompts),"
    yield "adjusted by Holm for all cells and measures of this file, is below 0.05. CFG scale 1: no guidance."
    yield ""
    for name, config in grid["settings"].items():
        yield f"- {_plain(name)}: `{FreeUConfig.from_dict(config)}`"
    windows = ", ".join(f"{name} {low:.2g} to {high:.2g}" for name, (low, high) in grid["windows"].items())
    yield f"- windows, as fractions of the steps: {windows}."
    yield ""
    yield "## How much of this is chance"
    yield ""
    yield from _table(
        ["measure", "cells", "interval leaves out 0", "of these above 0", "expected by chance", "after Holm"],
        [
            [name, one["cells"], one["clear"], one["above"], f"{one['by_chance']:.1f}", one["adjusted"]]
            for name, one in results["multiplicity"].items()
        ],
    )
    yield ""
    yield "The cells share their prompts, and all cells of a column share one baseline, so they are not independent: a"
    yield "chance result comes in groups. The expected number holds nevertheless; the spread around it is larger."
    if len(plan["prompts"]) < FEW:
        yield f"With fewer than {FEW} prompts bootstrap intervals are too narrow: expect more by chance than that."
    cells = _cells(results)
    for measure in results["measures"]:
        yield ""
        yield f"## {measure}"
        for guidance in grid["guidance"]:
            yield ""
            yield f"CFG scale {guidance:g}:"
            yield ""
            plain = {one["steps"]: one["measures"] for one in results["baselines"] if one["guidance"] == guidance}
            rows = [["plain sampling", "", *(_value(plain[steps].get(measure)) for steps in grid["steps"])]]
            for name, window in _rows(results):
                found = [cells.get((guidance, steps, name, window)) for steps in grid["steps"]]
                rows.append(
                    [name, window, *("-" if one is None else _cell(one["measures"].get(measure)) for one in found)]
                )
            yield from _table(["settings", "window", *(counted(steps, "step") for steps in grid["steps"])], rows)
    if len(cells) < len(_rows(results)) * len(grid["guidance"]) * len(grid["steps"]):
        yield ""
        yield "`-`: no step lies in the window, or nothing was measured."


def _plain(text: Any) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _table(heads: list[str], rows: list[list[Any]]) -> Iterator[str]:
    for cells in (heads, ["---"] * len(heads), *rows):
        yield "| " + " | ".join(map(_plain, cells)) + " |"


def _value(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    return f"{found['value']:.4g}" + ("" if found["low"] is None else f" [{found['low']:.4g}, {found['high']:.4g}]")


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    interval = "" if found["low"] is None else f" [{found['low']:+.3g}, {found['high']:+.3g}]"
    return f"{found['value']:+.3g}{interval} {mark(found).replace('*', chr(92) + '*')}".rstrip()


def heat_maps(results: Mapping[str, Any]) -> dict[str, bytes]:
    """A heat map for each measure (rows) and CFG scale (columns), as PNG and SVG by file name.

    Args:
        results: what ``when.json`` holds, with at least one measure.

    Raises:
        FreeUValueError: matplotlib is not installed.
    """
    from freeu.extras import need

    need("analysis", "matplotlib")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    grid, cells, rows = results["grid"], _cells(results), _rows(results)
    measures, steps = results["measures"], grid["steps"]
    width, height = 1.6 + (0.7 + 0.4 * len(steps)) * len(grid["guidance"]), (0.8 + 0.19 * len(rows)) * len(measures)
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="#c8c8c8")  # no step lies in the window
    with matplotlib.rc_context(RC):
        canvas = Figure(figsize=(max(width, 4.0), height + 0.4), layout="constrained", dpi=150)
        FigureCanvasAgg(canvas)
        axes = canvas.subplots(len(measures), len(grid["guidance"]), squeeze=False)
        for line, measure in zip(axes, measures, strict=True):
            shown = [
                [
                    [cells.get((guidance, count, *row), {}).get("measures", {}).get(measure) for count in steps]
                    for row in rows
                ]
                for guidance in grid["guidance"]
            ]
            values = np.array([[[np.nan if one is None else one["value"] for one in r] for r in p] for p in shown])
            most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
            for axis, panel, own, guidance in zip(line, values, shown, grid["guidance"], strict=True):
                picture = axis.imshow(panel, cmap=colours, vmin=-(most or 1.0), vmax=most or 1.0, aspect="auto")
                for y, found in enumerate(own):
                    for x, one in enumerate(found):
                        if one is not None:
                            colour = "white" if abs(one["value"]) > 0.6 * most else "black"
                            axis.text(x, y, mark(one), ha="center", va="center", fontsize=7, color=colour)
                axis.set_title(f"{measure}\nCFG scale {guidance:g}", fontsize=7)
                axis.set_xticks(range(len(steps)), [str(count) for count in steps])
                axis.set_yticks(range(len(rows)), [f"{name} {window}".replace("$", r"\$") for name, window in rows])
                axis.tick_params(labelsize=6, labelleft=axis is line[0])
            canvas.colorbar(picture, ax=list(line), shrink=0.9)
        for axis in axes[-1]:
            axis.set_xlabel("steps")
        canvas.supxlabel("* interval leaves out 0, ** also after Holm; grey: no step in the window", fontsize=6)
        files = {}
        for name, metadata in zip(IMAGES, ({"Software": None}, {"Date": None}), strict=True):
            buffer = io.BytesIO()
            canvas.savefig(buffer, format=name.rpartition(".")[2], metadata=metadata)
            files[name] = buffer.getvalue()
    return files

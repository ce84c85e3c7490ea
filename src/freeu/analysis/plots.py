"""Figures as files: PNG and SVG by matplotlib, and the data of each as CSV.

The palettes are safe for colour-blind readers: Okabe and Ito's for unrelated lines, cividis for ordered ones.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from freeu.analysis.measurement.content import FREQUENCY, Figure, Grid, Panel
from freeu.errors import FreeUValueError
from freeu.extras import need

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of unrelated lines (Okabe & Ito 2008)."""

_RC: Any = {
    "svg.hashsalt": "freeu",  # the same figure gives the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.bbox": "tight",
}


def figure_files(figure: Figure) -> dict[str, bytes]:
    """The files of a figure by name: ``figure-07-1.png``, ``.svg`` and ``.csv`` for each of its parts.

    Raises:
        FreeUValueError: matplotlib is not installed.

    >>> import freeu, freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> pipe.set_progress_bar_config(disable=True)
    >>> from freeu import analysis
    >>> (figure,) = analysis.make_figures(pipe, ["a 3d fox"], [4], steps=2, width=64, height=64)
    >>> sorted(figure_files(figure))
    ['figure-04.csv', 'figure-04.png', 'figure-04.svg']
    """
    need("analysis", "matplotlib")
    files = {}
    for number, part in enumerate(figure.content, start=1):
        stem = f"figure-{figure.number:02}" + (f"-{number}" if len(figure.content) > 1 else "")
        for kind, data in _plotted(part).items():
            files[f"{stem}.{kind}"] = data
        files[f"{stem}.csv"] = as_csv(part).encode()
    return files


def as_csv(part: Panel | Grid) -> str:
    """The data of a panel or grid: points of lines, values of maps, statistics of images."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows(_rows(part))
    return out.getvalue()


def _rows(part: Panel | Grid) -> Iterator[tuple[Any, ...]]:
    if isinstance(part, Panel):
        yield ("line", part.x_label, part.y_label, "low", "high")
        for line in part.series:
            nothing = ("",) * len(line.x)
            for point in zip(line.x, line.y, line.low or nothing, line.high or nothing, strict=True):
                yield (line.label, *point)
        return
    cells = [
        (row, column, cell)
        for row, line in zip(part.rows, part.cells, strict=True)
        for column, cell in zip(part.columns, line, strict=True)
    ]
    if any(cell.is_map for _, _, cell in cells):
        yield ("row", "column", "y", "x", "value")
        for row, column, cell in cells:
            for (y, x), value in np.ndenumerate(cell.pixels):
                yield (row, column, y, x, f"{value:.6g}")
        return
    names = list(dict.fromkeys(name for _, _, cell in cells for name in cell.values))
    yield ("row", "column", "red", "green", "blue", *names)
    for row, column, cell in cells:
        mean = (f"{channel:.4f}" for channel in cell.pixels.reshape(-1, 3).mean(axis=0) / 255.0)
        yield (row, column, *mean, *(cell.values.get(name, "") for name in names))


def _plotted(part: Panel | Grid) -> dict[str, bytes]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(_RC):
        canvas = Canvas(figsize=_size(part), layout="constrained")
        FigureCanvasAgg(canvas)
        if isinstance(part, Panel):
            _panel(canvas, part)
        else:
            _grid(canvas, part)
        files = {}
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            canvas.savefig(buffer, format=kind, dpi=160, metadata=metadata)
            files[kind] = buffer.getvalue()
    return files


def _size(part: Panel | Grid) -> tuple[float, float]:
    if isinstance(part, Panel):
        return 5.2, 3.6
    return 1.1 + 1.25 * len(part.columns), 0.5 + 1.3 * len(part.rows)


def line_colours(panel: Panel) -> list[str]:
    """The colour of each line, as #rrggbb."""
    need("analysis", "matplotlib")
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    ordered = colormaps["cividis"]
    colours = []
    alone = iter(OKABE_ITO)
    for line in panel.series:
        # The palest fifth of the map is hard to see on white.
        colours.append(next(alone, "#000000") if line.shade is None else to_hex(ordered(0.8 * line.shade)))
    return colours


def plotly_figure(panel: Panel) -> Any:
    """A panel as a plotly figure with zoom, for a page or a notebook.

    Raises:
        FreeUValueError: plotly is not installed.

    >>> import freeu, freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> pipe.set_progress_bar_config(disable=True)
    >>> from freeu import analysis
    >>> (figure,) = analysis.make_figures(pipe, ["a 3d fox"], [4], steps=2, width=64, height=64)
    >>> plotly_figure(figure.content[0]).layout.xaxis.title.text
    'frequency (π: Nyquist)'
    """
    need("analysis", "plotly", "matplotlib")
    import plotly.graph_objects as go

    figure = go.Figure()
    for line, colour in zip(panel.series, line_colours(panel), strict=True):
        if line.low is not None and line.high is not None:
            edge = {"x": line.x, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(y=line.low, **edge)
            figure.add_scatter(y=line.high, fill="tonexty", fillcolor=f"rgba{(*_bytes(colour), 0.2)}", **edge)
        style = {"color": colour, "dash": "dash" if line.dashed else "solid"}
        figure.add_scatter(x=line.x, y=line.y, name=line.label, mode="lines", line=style)
    angular = panel.x_label == FREQUENCY
    figure.update_layout(
        title=panel.title,
        xaxis_title=panel.x_label + (" (π: Nyquist)" if angular else ""),
        yaxis_title="relative log amplitude" if angular else panel.y_label,
        height=320,
        margin={"l": 64, "r": 16, "t": 56, "b": 56},
        legend={"x": 1, "xanchor": "right", "y": 1},
    )
    return figure


def _bytes(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of #rrggbb."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _panel(canvas: Any, panel: Panel) -> None:
    axes = canvas.subplots()
    for line, colour in zip(panel.series, line_colours(panel), strict=True):
        axes.plot(line.x, line.y, color=colour, linestyle="--" if line.dashed else "-", label=line.label)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, linewidth=0)
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.grid(alpha=0.3)
    if panel.x_label == FREQUENCY:
        ticks = [0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4, math.pi]
        axes.set_xticks(ticks, ["0", "π/4", "π/2", "3π/4", "π"])
        axes.set_xlim(0.0, math.pi)
    axes.legend(frameon=False, fontsize=8)


def _grid(canvas: Any, grid: Grid) -> None:
    axes = canvas.subplots(len(grid.rows), len(grid.columns), squeeze=False)
    maps = [cell.pixels for line in grid.cells for cell in line if cell.is_map]
    for row, line in enumerate(grid.cells):
        for column, cell in enumerate(line):
            axis = axes[row][column]
            if cell.is_map:
                # Each map has its own range: their structure is compared, not their values.
                axis.imshow(cell.pixels, cmap="cividis")
            else:
                axis.imshow(cell.pixels, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if row == 0:
                axis.set_title(grid.columns[column], fontsize=8)
            if column == 0:
                axis.set_ylabel(_wrapped(grid.rows[row]), fontsize=7, rotation=0, ha="right", va="center")
    if maps and not all(np.isfinite(one).all() for one in maps):
        raise FreeUValueError("a feature map holds values that are not finite: it cannot be plotted")


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 18)[:5])

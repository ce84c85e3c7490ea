"""What a sweep looks like: a labelled contact sheet for each page, and ``sweep.html`` to browse it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.addons.add_ons import added_text
from freeu.pipelines.pages.lettering import (
    FAINT,
    GAP,
    INK,
    MARGIN,
    PAPER,
    SMALL,
    Type,
    drawable,
    font,
    shown_size,
    wrap,
)
from freeu.pipelines.pages.rendering import render

if TYPE_CHECKING:
    from PIL.Image import Image

PAGE = "sweep.html"


def finish_sweep(output: OutputFolder, record: Mapping[str, Any], note: str = "") -> list[str]:
    """Write the contact sheets and the page.

    Args:
        output: the folder with the images.
        record: what ``run_sweep`` gave.
        note: one line on the model.

    Returns:
        names of the files written.
    """
    names = []
    pages = _pages(record)
    for number, (title, rows) in enumerate(pages):
        name = "sheet.png" if len(pages) == 1 else f"sheet-{number:02}.png"
        buffer = io.BytesIO()
        make_sheet(output.path, record, rows, title).save(buffer, format="PNG")
        output.write(name, buffer.getvalue())
        names.append(name)
    output.write(PAGE, make_sweep_page(record, note))
    return [PAGE, *names]


def _labels(record: Mapping[str, Any], direction: int) -> list[str]:
    axes = record["axes"]
    return list(axes[direction]["labels"]) if direction < len(axes) else [""]


def _pages(record: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """For each value of the third axis its label and the files, row by row."""
    files = {tuple(cell["place"]): cell["file"] for cell in record["cells"]}
    columns, rows, pages = (len(_labels(record, direction)) for direction in range(3))
    axes = len(record["axes"])
    return [
        (
            _labels(record, 2)[page],
            [[files[(column, row, page)[:axes]] for column in range(columns)] for row in range(rows)],
        )
        for page in range(pages)
    ]


def make_sheet(folder: Path, record: Mapping[str, Any], rows: list[list[str]], title: str = "") -> Image:
    """One page of a sweep as an image with labels.

    Args:
        folder: where the images are.
        record: for the labels of columns and rows.
        rows: names of the files.
        title: a line for the head.
    """
    from PIL import Image, ImageDraw

    with Image.open(folder / rows[0][0]) as first:
        size = first.size
    cell = shown_size(*size, len(rows) * len(rows[0]))
    type_ = Type(max(1.0, max(cell) / SMALL))
    line = type_.line(type_.label)
    columns = [drawable(label, i) for i, label in enumerate(_labels(record, 0))]
    sides = [drawable(label, i) for i, label in enumerate(_labels(record, 1))]
    heads = [wrap(label, type_.label, cell[0]) for label in columns]
    left = round(cell[0] * 0.7) if any(sides) else 0
    top = MARGIN + (line + 6 if title else 0)
    head = line * max(len(lines) for lines in heads) + 4
    width = 2 * MARGIN + left + len(columns) * (cell[0] + GAP)
    sheet = Image.new("RGB", (width, top + head + len(rows) * (cell[1] + GAP) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        (text,) = wrap(drawable(title, 0), type_.label, width - 2 * MARGIN)[:1]
        draw.text((MARGIN, MARGIN), text, INK, font=font(type_.label))
    for column, lines in enumerate(heads):
        for number, text in enumerate(lines):
            x = MARGIN + left + column * (cell[0] + GAP)
            draw.text((x, top + number * line), text, INK, font=font(type_.label))
    for row, files in enumerate(rows):
        y = top + head + row * (cell[1] + GAP)
        if left:
            for number, text in enumerate(wrap(sides[row], type_.label, left - 8)):
                draw.text((MARGIN, y + number * line), text, FAINT, font=font(type_.label))
        for column, name in enumerate(files):
            with Image.open(folder / name) as image:
                shown = image.convert("RGB").resize(cell, Image.Resampling.LANCZOS)
            sheet.paste(shown, (MARGIN + left + column * (cell[0] + GAP), y))
    return sheet


def make_sweep_page(record: Mapping[str, Any], note: str = "") -> str:
    """A page that lies beside the images: pages, zoom, and any two places under a slider."""
    images = {
        name: " · ".join(
            f"{key} {value}"
            for key, value in one.items()
            if key in ("prompt", "seed", "config", "steps", "guidance", "scheduler", "model") and value is not None
        )
        for name, one in record["pictures"].items()
    }
    return render(
        "freeu.pipelines.pages",
        "sweep.html",
        model=" with ".join(filter(None, [record["plan"]["model"]["name"], added_text(record["plan"])])),
        note=note,
        columns=_labels(record, 0),
        rows=_labels(record, 1),
        pages=_pages(record),
        width=record["plan"]["width"],
        height=record["plan"]["height"],
        count=len(record["cells"]),
        distinct=len({cell["file"] for cell in record["cells"]}),
        data=json.dumps(images).replace("<", "\\u003c"),
    )

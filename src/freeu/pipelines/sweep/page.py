"""What a sweep looks like: a labelled contact sheet for each page, and ``sweep.html`` to browse it."""

from __future__ import annotations

import base64
import io
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
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.sweep.axes import canonical

if TYPE_CHECKING:
    from PIL.Image import Image

PAGE = "sweep.html"
MAX_EXACT = 24 << 20
"""Bytes of PNG up to which the page holds the very files."""
MAX_LARGE = 96 << 20
"""Bytes of WebP up to which it holds images of their size; beyond, they are reduced to ``REDUCED`` pixels."""
REDUCED = 256


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
    output.write(PAGE, make_sweep_page(output.path, record, note))
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


def about(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What every cell has in common, as (name, value): prompt, seed, steps and so on, without what is swept."""
    plan = Plan.from_dict(record["plan"])
    swept = {canonical(axis["name"]) for axis in record["axes"]}
    whole = {"preset", "config"} & swept
    rows = [
        ("prompt", "prompt", plan.prompts[0]),
        ("negative-prompt", "negative prompt", plan.negative_prompt),
        ("seed", "seed", str(plan.seeds[0])),
        ("steps", "steps", str(plan.steps)),
        ("guidance-scale", "CFG scale", f"{plan.guidance:g}"),
        ("scheduler", "sampler", plan.scheduler or "the model's own"),
        ("size", "size", f"{plan.width}x{plan.height}"),
        (
            "denoising-strength",
            "denoising strength",
            "" if plan.image_strength is None else f"{plan.image_strength:g}",
        ),
        ("controlnet", "ControlNet", plan.control.text.removeprefix("ControlNet ") if plan.control else ""),
        ("freeu", "FreeU", "" if whole else str(plan.config or "without")),
    ]
    return [(name, value) for axis, name, value in rows if value and axis not in swept]


def make_sheet(folder: Path, record: Mapping[str, Any], rows: list[list[str]], title: str = "") -> Image:
    """One page of a sweep as an image with labels, under what all its images have in common.

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
    width = max(2 * MARGIN + left + len(columns) * (cell[0] + GAP), 480)
    inner = width - 2 * MARGIN
    model = " with ".join(filter(None, [record["plan"]["model"]["name"], added_text(record["plan"])]))
    known = ", ".join(f"{name} {drawable(value, 0)}" for name, value in about(record))
    heading = [*wrap(model, type_.prompt, inner), *wrap(known, type_.small, inner)]
    tall = type_.line(type_.prompt)
    top = MARGIN + tall * len(heading) + 6 + (line + 6 if title else 0)
    head = line * max(len(lines) for lines in heads) + 4
    sheet = Image.new("RGB", (width, top + head + len(rows) * (cell[1] + GAP) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, text in enumerate(heading):
        size_, ink = (type_.prompt, INK) if number == 0 else (type_.small, FAINT)
        draw.text((MARGIN, MARGIN + number * tall), text, ink, font=font(size_))
    if title:
        (text,) = wrap(drawable(title, 0), type_.label, width - 2 * MARGIN)[:1]
        draw.text((MARGIN, top - line - 6), text, INK, font=font(type_.label))
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


def make_sweep_page(folder: Path, record: Mapping[str, Any], note: str = "") -> str:
    """One file with every image inside: pages, sizes, and any two cells in the viewer of ``compare.html``.

    Args:
        folder: where the images are.
        record: what ``run_sweep`` gave.
        note: one line on the model.

    Returns:
        HTML with the very PNG files; with WebP if those take more than 24 MiB, and reduced if that takes more than 96
        (the page says so).
    """
    pictures = record["pictures"]
    files = list(dict.fromkeys(cell["file"] for cell in record["cells"]))
    embedded, kept = _embedded(folder, files)
    texts = {
        name: " · ".join(
            f"{key} {value}" for key, value in one.items() if key not in ("sha256", "flagged") and value is not None
        )
        for name, one in pictures.items()
    }
    seen: set[str] = set()

    def cell(name: str) -> dict[str, str]:
        first = name not in seen
        seen.add(name)
        return {"file": name, "src": embedded[name] if first else "", "text": texts[name]}

    exact = embedded[files[0]].startswith("data:image/png")
    columns = len(_labels(record, 0))
    return render(
        "freeu.pipelines.pages",
        "sweep.html",
        model=" with ".join(filter(None, [record["plan"]["model"]["name"], added_text(record["plan"])])),
        note=note,
        about=about(record),
        columns=_labels(record, 0),
        rows=_labels(record, 1),
        pages=[(title, [[cell(name) for name in row] for row in rows]) for title, rows in _pages(record)],
        size=max(96, min(288, 1100 // columns // 16 * 16)),
        count=len(record["cells"]),
        distinct=len(files),
        kept=kept,
        note_on_difference="" if exact else "some of it is the compression of this page",
    )


def _embedded(folder: Path, files: list[str]) -> tuple[dict[str, str], str]:
    """Each image as a data URL, and what to say of them."""
    if sum((folder / name).stat().st_size for name in files) <= MAX_EXACT:
        found = {name: ("png", (folder / name).read_bytes()) for name in files}
        kept = "The images on this page are the files of its folder."
    else:
        found = {name: ("webp", _webp(folder / name, None)) for name in files}
        kept = "The images on this page are compressed (WebP, quality 92); the PNG files in its folder are exact."
        if sum(len(data) for _, data in found.values()) > MAX_LARGE:
            found = {name: ("webp", _webp(folder / name, REDUCED)) for name in files}
            kept = f"The images on this page are reduced to {REDUCED} pixels; the PNG files in its folder are exact."
    return {
        name: f"data:image/{kind};base64,{base64.b64encode(data).decode()}" for name, (kind, data) in found.items()
    }, kept


def _webp(path: Path, side: int | None) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        shown = image.convert("RGB")
        if side is not None:
            shown.thumbnail((side, side))
        shown.save(buffer, format="WEBP", quality=92)
    return buffer.getvalue()

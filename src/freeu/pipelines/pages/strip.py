"""Videos of both arms next to each other, and a strip of frames: made from the videos' files, a frame at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.pipelines.io.clip_files import ClipWriter, read_clip
from freeu.pipelines.pages.lettering import (
    BAND,
    FAINT,
    GAP,
    INK,
    MARGIN,
    MAX_PIXELS,
    PAIR_GAP,
    PAPER,
    SMALL,
    Type,
    drawable,
    font,
    wrap,
)
from freeu.pipelines.runs.manifest import Manifest
from freeu.pipelines.runs.plan import ARMS, Plan

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_COLUMNS = 10
MOST_FRAMES = 200_000
"""Of a video."""
CELL = 176
"""The longer side of a frame in the strip, in pixels; small frames are enlarged by a whole number up to it."""


def make_side_by_side(folder: Path, names: tuple[str, str], plan: Plan, target: Path) -> None:
    """Write an MP4 that shows two videos in step, the one without FreeU on the left, each under its label.

    Args:
        folder: where the videos are.
        names: of the MP4 without and of that with FreeU.
        plan: of the run.
        target: the file to write.
    """
    assert plan.fps is not None
    beside([folder / name for name in names], [ARMS[arm] for arm in plan.arms], plan.fps, target)


def beside(videos: Sequence[Path], labels: Sequence[str], fps: float, target: Path) -> None:
    """Write an MP4 that shows videos in step, from left to right, each under its label; a frame of each is in memory.

    Args:
        videos: of one size and length. Those of less than 256 pixels are enlarged by a whole number, by Lanczos.
        labels: of the videos.
        fps: frames per second.
        target: the file to write.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    opened = [read_clip(path, MOST_FRAMES) for path in videos]
    width, height = opened[0].width, opened[0].height
    times = max(1, -(-SMALL // max(width, height)))
    cell = (times * width, times * height)
    type_ = Type(max(1.0, max(cell) / 512))
    band = type_.line(type_.label) + 8 & ~1
    lefts = [number * (cell[0] + GAP) for number in range(len(videos))]
    sheet = Image.new("RGB", (lefts[-1] + cell[0], band + cell[1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for left, label in zip(lefts, labels, strict=True):
        draw.text((left + 6, 4), label, INK, font=font(type_.label))
    with ClipWriter(target, "mp4", fps, *sheet.size) as writer:
        for frames in zip(*opened, strict=True):
            for left, frame in zip(lefts, frames, strict=True):
                sheet.paste(Image.fromarray(frame).resize(cell, Image.Resampling.LANCZOS), (left, band))
            writer.add(np.asarray(sheet))


def thinned(frames: int, columns: int = MAX_COLUMNS) -> list[int]:
    """At most ``columns`` numbers of frames, evenly from the first to the last."""
    if frames <= columns:
        return list(range(frames))
    return [round(column * (frames - 1) / (columns - 1)) for column in range(columns)]


def make_strip(folder: Path, manifest: Manifest, title: str) -> Image:
    """Make the labelled strip of a run: under every prompt and seed a row without and a row with FreeU.

    Args:
        folder: where the videos are.
        manifest: of a complete run of ``freeu video``.
        title: one line for the head.

    Returns:
        An RGB image; the columns are frames, evenly thinned.
    """
    from PIL import Image, ImageDraw

    plan = manifest.plan
    assert plan.frames is not None
    places = thinned(plan.frames)
    cell = _cell(plan, len(places))
    type_ = Type(max(1.0, max(cell) / SMALL))
    line, small = type_.line(type_.label), type_.line(type_.small)
    side = max(round(font(type_.label).getlength(name)) for name in ARMS.values()) + 12
    width = max(2 * MARGIN + side + len(places) * (cell[0] + GAP) - GAP, 480)
    inner = width - 2 * MARGIN
    head = wrap(title, type_.label, inner)
    foot = wrap(f"FreeU: {plan.config}", type_.small, inner)
    bands = [wrap(drawable(_shown(prompt), i), type_.prompt, inner - 24) for i, prompt in enumerate(plan.prompts)]
    block = line + small + len(plan.arms) * (cell[1] + GAP) + PAIR_GAP
    heights = [type_.line(type_.prompt) * len(band) + 18 + len(plan.seeds) * block for band in bands]
    top = line * len(head) + small * len(foot)
    sheet = Image.new("RGB", (width, 2 * MARGIN + top + 14 + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)

    def write(x: int, y: int, lines: list[str], size: int, ink: tuple[int, int, int]) -> int:
        for text in lines:
            draw.text((x, y), text, ink, font=font(size))
            y += type_.line(size)
        return y

    videos = {(p.index, p.seed, p.arm): folder / p.file for p in plan.images()}
    y = write(MARGIN, write(MARGIN, MARGIN, head, type_.label, INK), foot, type_.small, FAINT) + 14
    for index, band in enumerate(bands):
        draw.rounded_rectangle((MARGIN, y, width - MARGIN, y + type_.line(type_.prompt) * len(band) + 8), 6, BAND)
        y = write(MARGIN + 12, y + 7, band, type_.prompt, INK) + 11
        for seed in plan.seeds:
            y = write(MARGIN, y, [f"seed {seed}"], type_.label, FAINT)
            for column, place in enumerate(places):
                x = MARGIN + side + column * (cell[0] + GAP)
                write(x, y, [f"frame {place + 1}"], type_.small, FAINT)
            y += small
            for arm in plan.arms:
                write(MARGIN, y + (cell[1] - line) // 2, [ARMS[arm]], type_.label, INK)
                _paste_row(sheet, videos[index, seed, arm], places, cell, (MARGIN + side, y))
                y += cell[1] + GAP
            y += PAIR_GAP
    return sheet


def _shown(prompt: str) -> str:
    return prompt or "from the input image"


def _cell(plan: Plan, columns: int) -> tuple[int, int]:
    side = max(plan.width, plan.height)
    scale = float(max(1, CELL // side)) if side <= CELL else CELL / side
    area = plan.count * columns * plan.width * plan.height * scale * scale
    if area > MAX_PIXELS:
        scale *= (MAX_PIXELS / area) ** 0.5
    return max(8, round(plan.width * scale)), max(8, round(plan.height * scale))


def _paste_row(sheet: Any, path: Path, places: list[int], cell: tuple[int, int], corner: tuple[int, int]) -> None:
    from PIL import Image

    x, y = corner
    for number, frame in enumerate(read_clip(path)):
        if number in places:
            column = places.index(number)
            small = Image.fromarray(frame).resize(cell, Image.Resampling.LANCZOS)
            sheet.paste(small, (x + column * (cell[0] + GAP), y))

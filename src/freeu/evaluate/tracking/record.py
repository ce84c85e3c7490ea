"""What a tracker gets: settings, values with intervals, the table, and a sheet of images of each arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.evaluate.experiment.video_files import is_video, video_frames
from freeu.pipelines.io.inputs import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 16
"""Images on a sheet, spread evenly over those of an arm."""
COLUMNS = 4
CELL = 256
"""Longest side of an image on a sheet, in pixels; smaller ones stay as they are."""


@dataclass(frozen=True)
class Value:
    """A number of one arm, with its 95 % interval where there is one.

    Args:
        arm: its name.
        measure: for a paired difference to the first arm "difference/MEASURE".
    """

    arm: str
    measure: str
    value: float
    low: float | None
    high: float | None

    def numbers(self) -> Iterator[tuple[str, float]]:
        """The value and the ends of its interval, as "value", "low" and "high"."""
        for name, number in (("value", self.value), ("low", self.low), ("high", self.high)):
            if number is not None:
                yield name, number


@dataclass(frozen=True)
class Record:
    """What is tracked of one evaluation.

    Args:
        name: of the run, that of the output folder.
        project: the project or experiment that it belongs to.
        folder: the output folder, absolute.
        settings: a few plain values, such as how many prompts.
        config: everything that decided the run, but for the prompts.
        values: of all arms.
        table: ``table.md``.
        images: of each arm, files.
    """

    name: str
    project: str
    folder: Path
    settings: dict[str, Any]
    config: dict[str, Any]
    values: list[Value]
    table: str
    images: Mapping[str, Sequence[Path]]

    def sheets(self) -> Iterator[tuple[str, Image]]:
        """A sheet of images of each arm; of videos their first frames."""
        for arm, paths in self.images.items():
            yield arm, sheet_of(paths)


def record_of(
    results: Mapping[str, Any], table: str, folder: Path, project: str, images: Mapping[str, Sequence[Path]]
) -> Record:
    """The record of what ``results.json`` holds.

    Args:
        results: what ``results.json`` holds.
        table: ``table.md``.
        folder: the output folder.
        project: the project or experiment.
        images: of each arm, files.
    """
    plan = dict(results["plan"] or {})
    prompts = len(results["prompts"])
    arms = [arm["name"] for arm in results["arms"]]
    settings = {"prompts": prompts, "arms": ", ".join(arms), "images": len(results["pictures"])}
    if plan:
        plan["prompts"] = prompts
        settings |= {"model": plan["model"]["name"], "steps": plan["steps"], "seeds": len(plan["seeds"])}
    names = ("arms", "judges", "metrics", "guidance", "calibration", "reference", "reference_matches", "environment")
    config = {"plan": plan or None, "prompts": prompts} | {name: results[name] for name in names}
    values = [
        Value(arm, prefix + measure, found["value"], found["low"], found["high"])
        for key, prefix in (("summary", ""), ("differences", "difference/"))
        for arm in arms
        for measure, found in results[key][arm].items()
    ]
    place = folder.resolve()
    return Record(place.name, project, place, settings, config, values, table, images)


def sheet_of(paths: Sequence[Path]) -> Image:
    """Up to ``MOST`` images side by side, in their order, each in the middle of a cell on white.

    Args:
        paths: at least one image or video.
    """
    from PIL import Image

    count = min(MOST, len(paths))
    chosen = [paths[place * len(paths) // count] for place in range(count)]
    images = [_first_frame(path) for path in chosen]
    for image in images:
        image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    width, height = (max(sides) for sides in zip(*(image.size for image in images), strict=True))
    columns = min(COLUMNS, count)
    sheet = Image.new("RGB", (columns * width, -(-count // columns) * height), "white")
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        sheet.paste(image, (column * width + (width - image.width) // 2, row * height + (height - image.height) // 2))
    return sheet


def _first_frame(path: Path) -> Image:
    from PIL import Image

    return Image.fromarray(next(iter(video_frames(path)))) if is_video(path) else open_image(path).copy()

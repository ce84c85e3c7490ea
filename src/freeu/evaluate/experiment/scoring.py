"""From images on disk to numbers: every measure that prompts, judge and references allow."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.metrics.alignment import Asked, Reader, Reading, score_alignment
from freeu.evaluate.metrics.clip import CLIP, clip_score, retrieval
from freeu.evaluate.metrics.distance import Floats
from freeu.evaluate.metrics.diversity import mean_distance, pixel_diversity, vendi_score
from freeu.evaluate.metrics.inception import Inception
from freeu.evaluate.metrics.statistics import picture_statistics
from freeu.pipelines.io.inputs import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".apng", ".mp4", ".m4v", ".mov", ".webm")
"""Of images and of videos."""
AT_ONCE = 64
"""About how many images are in memory together."""

Values = dict[str, float | None]


@dataclass(frozen=True)
class Drawn:
    """An image on disk: its file, the number of its prompt, and its seed (None if nobody knows)."""

    path: Path
    prompt: int
    seed: int | None = None


@dataclass
class Judges:
    """What scores; None leaves its measures out.

    Args:
        reader: reads scenes, for prompts that carry ``asked``.
        clip: for CLIP score and retrieval, and for features.
        inception: takes the place of ``clip`` as the features of distances and diversity.
    """

    reader: Reader | None = None
    clip: CLIP | None = None
    inception: Inception | None = None

    @property
    def features(self) -> CLIP | Inception | None:
        return self.inception or self.clip


@dataclass
class Scored:
    """The numbers of one arm.

    Args:
        labels: the number of the prompt of each image.
        pictures: values of each image.
        prompts: values of each prompt that has several images.
        features: of each image, for distances; None without a judge.
        clip: the same from the CLIP; None without one. Of videos, means over frames.
        readings: of each image, or what was seen of each video; None without a reader.
        align: scores what a prompt asks for against one of ``readings``.
        similarity: the CLIP score from ``clip`` and the features of the texts.
    """

    labels: list[int]
    pictures: list[Values]
    prompts: list[Values]
    features: Floats | None = None
    clip: Floats | None = None
    readings: list[Any] | None = None
    align: Callable[[Asked, Any], Values] = score_alignment
    similarity: Callable[[Floats, Floats], Floats] = clip_score


def pictures_in(folder: Path, option: str) -> list[Path]:
    """The images or videos of a folder by name; numbers in names count as numbers, so 2 is before 10.

    Args:
        folder: files in folders inside it do not count.
        option: what named it, for the message.

    Raises:
        FreeUValueError: no folder, or no image.
    """
    if not folder.is_dir():
        raise FreeUValueError(f"{option} {folder} is no folder: name one that holds images")
    found = [item for item in folder.iterdir() if item.suffix.lower() in SUFFIXES and item.is_file()]
    if not found:
        raise FreeUValueError(f"{option} {folder} holds no images ({', '.join(SUFFIXES)})")
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], path.name


def reference_pictures(folder: Path) -> list[Path]:
    """The images or videos of a folder, as ``pictures_in``.

    Raises:
        FreeUValueError: no folder, or fewer than 2 images.
    """
    found = pictures_in(folder, "--reference")
    if len(found) < 2:
        raise FreeUValueError(f"--reference {folder} holds {len(found)} image ({', '.join(SUFFIXES)}): add more")
    return found


def features_of_files(
    judge: CLIP | Inception, paths: Sequence[Path], report: Callable[[int], None] | None = None
) -> Floats:
    """Features of images on disk, few of which are in memory at a time; shape (n, d).

    Args:
        judge: what sees them.
        paths: at least one.
        report: told how many are done.
    """
    parts: list[Floats] = []
    for start in range(0, len(paths), AT_ONCE):
        parts.append(judge.picture_features([open_image(path) for path in paths[start : start + AT_ONCE]]))
        if report is not None:
            report(min(start + AT_ONCE, len(paths)))
    return np.concatenate(parts)


def caption_features(prompts: Sequence[Prompt], judges: Judges) -> Floats | None:
    """CLIP's features of the prompts, shape (n, d); None without a CLIP."""
    return judges.clip.text_features([prompt.text for prompt in prompts]) if judges.clip else None


def score_arm(
    drawn: Sequence[Drawn],
    prompts: Sequence[Prompt],
    judges: Judges,
    captions: Floats | None,
    report: Callable[[int], None] | None = None,
) -> Scored:
    """Every number of one arm's images.

    Args:
        drawn: its images, those of one prompt together.
        prompts: by number.
        judges: what scores.
        captions: see ``caption_features``.
        report: told how many images are done.
    """
    scored = Scored([one.prompt for one in drawn], [], [])
    features: list[Floats] = []
    clip: list[Floats] = []
    readings: list[Reading] = []
    for block in _blocks(drawn):
        pictures = [open_image(one.path) for one in block]
        rows: list[Values] = [dict(picture_statistics(picture)) for picture in pictures]
        if judges.reader is not None:
            seen = list(judges.reader.read(pictures))
            readings += seen
            for row, one, reading in zip(rows, block, seen, strict=True):
                asked = prompts[one.prompt].asked
                if asked is not None:
                    row |= score_alignment(asked, reading)
        own: Floats | None = None
        if judges.clip is not None and captions is not None:
            own = judges.clip.picture_features(pictures)
            clip.append(own)
            numbers = [one.prompt for one in block]
            for row, score in zip(rows, clip_score(own, captions[numbers]), strict=True):
                row["clip_score"] = float(score)
            if len(prompts) > 1:
                for row, found in zip(rows, retrieval(own, captions, numbers), strict=True):
                    row["retrieval"] = float(found)
        if judges.inception is not None:
            own = judges.inception.picture_features(pictures)
        if own is not None:
            features.append(own)
        scored.prompts += _diversity([one.prompt for one in block], pictures, own)
        scored.pictures += rows
        if report is not None:
            report(len(scored.pictures))
    scored.features = np.concatenate(features) if features else None
    scored.clip = np.concatenate(clip) if clip else None
    scored.readings = readings if judges.reader is not None else None
    return scored


def _blocks(drawn: Sequence[Drawn]) -> Iterator[list[Drawn]]:
    """Images that are in memory together: whole prompts, about ``AT_ONCE`` images."""
    block: list[Drawn] = []
    for _, group in itertools.groupby(drawn, lambda one: one.prompt):
        block += group
        if len(block) >= AT_ONCE:
            yield block
            block = []
    if block:
        yield block


def _diversity(numbers: list[int], pictures: list[Image], features: Floats | None) -> list[Values]:
    """How different the images of each prompt are, for prompts with several."""
    found: list[Values] = []
    for _, group in itertools.groupby(range(len(numbers)), lambda index: numbers[index]):
        chosen = list(group)
        if len(chosen) < 2:
            continue
        several: Values = {"pixel_diversity": pixel_diversity([pictures[index] for index in chosen])}
        if features is not None:
            own = features[chosen]
            several |= {"feature_diversity": mean_distance(own), "vendi_score": vendi_score(own)}
        found.append(several)
    return found

"""Score images on disk: every measure for which there are prompts, judges and references."""

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
from freeu.evaluate.metrics.alignment import PromptSpec, Reader, Reading, score_alignment
from freeu.evaluate.metrics.clip import CLIP, clip_score, retrieval
from freeu.evaluate.metrics.distance import Floats
from freeu.evaluate.metrics.diversity import mean_distance, pixel_diversity, vendi_score
from freeu.evaluate.metrics.inception import Inception
from freeu.evaluate.metrics.judge import Judge
from freeu.evaluate.metrics.statistics import image_statistics
from freeu.pipelines.io.inputs import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".apng", ".mp4", ".m4v", ".mov", ".webm")
"""Of images and of videos."""
AT_ONCE = 64
"""About how many images are in memory at a time."""

Values = dict[str, float | None]


@dataclass(frozen=True)
class Sample:
    """An image or video on disk: its file, the number of its prompt, and its seed (None if unknown)."""

    path: Path
    prompt: int
    seed: int | None = None


@dataclass
class Judges:
    """The networks that score; None leaves the measures of that one out.

    Args:
        reader: reads scenes, for prompts that say what they ask for.
        clip: for CLIP score and retrieval, and for features.
        inception: replaces ``clip`` as the features of distances and diversity.
        metrics: of images, besides: ``Metric``s, or callables (images, prompts) -> a number for each image, named by
            their ``name`` or ``__name__``.
    """

    reader: Reader | None = None
    clip: CLIP | None = None
    inception: Inception | None = None
    metrics: Sequence[Any] = ()

    @property
    def features(self) -> Judge | None:
        """The network whose features distances and diversity compare."""
        return self.inception or self.clip


@dataclass
class Scored:
    """The scores of one arm.

    Args:
        labels: the number of the prompt of each image.
        images: values of each image.
        prompts: values of each prompt that has several images.
        features: of each image, for distances; None without a judge.
        clip: the same from the CLIP; None without one. Of videos, means over frames.
        readings: of each image, or the measurement of each video; None without a reader.
        align: scores what a prompt asks for against one of ``readings``.
        similarity: the CLIP score from ``clip`` and the features of the texts.
    """

    labels: list[int]
    images: list[Values]
    prompts: list[Values]
    features: Floats | None = None
    clip: Floats | None = None
    readings: list[Any] | None = None
    align: Callable[[PromptSpec, Any], Values] = score_alignment
    similarity: Callable[[Floats, Floats], Floats] = clip_score


def images_in(folder: Path, option: str) -> list[Path]:
    """The images or videos of a folder, sorted by name; numbers in names are compared as numbers, so 2 is before 10.

    Args:
        folder: its subfolders are not read.
        option: that named it, for the message.

    Raises:
        FreeUValueError: no folder, or no image.
    """
    if not folder.is_dir():
        raise FreeUValueError(f"{option} {folder} is no folder: give one that holds images")
    found = [item for item in folder.iterdir() if item.suffix.lower() in SUFFIXES and item.is_file()]
    if not found:
        raise FreeUValueError(f"{option} {folder} holds no images ({', '.join(SUFFIXES)})")
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], path.name


def reference_images(folder: Path) -> list[Path]:
    """The images or videos of a folder, as ``images_in``.

    Raises:
        FreeUValueError: no folder, or fewer than 2 images.
    """
    found = images_in(folder, "--reference")
    if len(found) < 2:
        raise FreeUValueError(f"--reference {folder} holds 1 image ({', '.join(SUFFIXES)}): at least 2 are needed")
    return found


def features_of_files(judge: Judge, paths: Sequence[Path], report: Callable[[int], None] | None = None) -> Floats:
    """Features of images on disk, ``AT_ONCE`` of which are in memory at a time; shape (n, d).

    Args:
        judge: whose features.
        paths: at least one.
        report: called with how many are done.
    """
    parts: list[Floats] = []
    for start in range(0, len(paths), AT_ONCE):
        parts.append(judge.image_features([open_image(path) for path in paths[start : start + AT_ONCE]]))
        if report is not None:
            report(min(start + AT_ONCE, len(paths)))
    return np.concatenate(parts)


def caption_features(prompts: Sequence[Prompt], judges: Judges) -> Floats | None:
    """CLIP features of the prompts, shape (n, d); None without a CLIP."""
    return judges.clip.text_features([prompt.text for prompt in prompts]) if judges.clip else None


def score_arm(
    samples: Sequence[Sample],
    prompts: Sequence[Prompt],
    judges: Judges,
    captions: Floats | None,
    report: Callable[[int], None] | None = None,
) -> Scored:
    """Score the images of one arm by every measure.

    Args:
        samples: its images, those of one prompt together.
        prompts: by number.
        judges: which measures there are.
        captions: see ``caption_features``.
        report: called with how many images are done.
    """
    scored = Scored([one.prompt for one in samples], [], [])
    features: list[Floats] = []
    clip: list[Floats] = []
    readings: list[Reading] = []
    for block in _blocks(samples):
        images = [open_image(one.path) for one in block]
        numbers = [one.prompt for one in block]
        found = score_images(images, numbers, prompts, judges, captions)
        readings += found.readings
        if found.clip is not None:
            clip.append(found.clip)
        if found.features is not None:
            features.append(found.features)
        scored.prompts += _diversity(numbers, images, found.features)
        scored.images += found.rows
        if report is not None:
            report(len(scored.images))
    scored.features = np.concatenate(features) if features else None
    scored.clip = np.concatenate(clip) if clip else None
    scored.readings = readings if judges.reader is not None else None
    return scored


@dataclass
class ScoredImages:
    """The scores of some images.

    Args:
        rows: values of each image.
        features: of each image, for distances; None without a judge.
        clip: the same from the CLIP; None without one.
        readings: of each image; empty without a reader.
    """

    rows: list[Values]
    features: Floats | None
    clip: Floats | None
    readings: list[Reading]


def score_images(
    images: Sequence[Image],
    numbers: Sequence[int],
    prompts: Sequence[Prompt],
    judges: Judges,
    captions: Floats | None,
) -> ScoredImages:
    """Score images in memory by every measure of single images.

    Args:
        images: a few; all are held at once.
        numbers: the prompt of each.
        the others: as in ``score_arm``.
    """
    rows: list[Values] = [dict(image_statistics(image)) for image in images]
    readings: list[Reading] = []
    if judges.reader is not None:
        readings = list(judges.reader.read(images))
        for row, number, reading in zip(rows, numbers, readings, strict=True):
            spec = prompts[number].spec
            if spec is not None:
                row |= score_alignment(spec, reading)
    clip: Floats | None = None
    if judges.clip is not None and captions is not None:
        clip = judges.clip.image_features(images)
        for row, score in zip(rows, clip_score(clip, captions[list(numbers)]), strict=True):
            row["clip_score"] = float(score)
        if len(prompts) > 1:
            for row, found in zip(rows, retrieval(clip, captions, list(numbers)), strict=True):
                row["retrieval"] = float(found)
    features = judges.inception.image_features(images) if judges.inception is not None else clip
    return ScoredImages(rows, features, clip, readings)


def _blocks(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Images that are in memory at a time: whole prompts, about ``AT_ONCE`` images."""
    block: list[Sample] = []
    for _, group in itertools.groupby(samples, lambda one: one.prompt):
        block += group
        if len(block) >= AT_ONCE:
            yield block
            block = []
    if block:
        yield block


def _diversity(numbers: list[int], images: list[Image], features: Floats | None) -> list[Values]:
    """How different the images of each prompt are, for prompts with several."""
    found: list[Values] = []
    for chosen in several_of_each(numbers):
        several: Values = {"pixel_diversity": pixel_diversity([images[index] for index in chosen])}
        if features is not None:
            several |= feature_diversity(features[chosen])
        found.append(several)
    return found


def several_of_each(numbers: Sequence[int]) -> Iterator[list[int]]:
    """The indices of each prompt's images, for prompts with several.

    Args:
        numbers: the prompt of each image, equal ones together.
    """
    for _, group in itertools.groupby(range(len(numbers)), lambda index: numbers[index]):
        chosen = list(group)
        if len(chosen) > 1:
            yield chosen


def feature_diversity(features: Floats) -> Values:
    """How different the features of one prompt's images are."""
    return {"feature_diversity": mean_distance(features), "vendi_score": vendi_score(features)}

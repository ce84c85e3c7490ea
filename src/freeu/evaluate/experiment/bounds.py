"""Ceiling and floor of a score: real scenes, where only the reader errs, and images scored against other prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.scoring import Sample, Scored, Values
from freeu.evaluate.metrics.distance import Floats
from freeu.wording import counted


def real_scenes(images: Sequence[Path], prompts: Sequence[Prompt]) -> list[Sample]:
    """Reference images of which the i-th shows the i-th prompt.

    Raises:
        FreeUValueError: there are more or fewer than prompts.
    """
    if len(images) != len(prompts):
        raise FreeUValueError(
            "--reference-matches says that the i-th image of --reference shows the i-th prompt, "
            f"got {counted(len(images), 'image')} and {counted(len(prompts), 'prompt')}"
        )
    return [Sample(path, number) for number, path in enumerate(images)]


def derangement(count: int, seed: int = 0) -> list[int]:
    """A random derangement of 0..count - 1 (no number stays in its position): one random cycle through all.

    Args:
        count: at least 2.
        seed: of the order.

    Raises:
        FreeUValueError: fewer than 2, for which there is none.
    """
    if count < 2:
        raise FreeUValueError(f"shuffling needs at least 2 prompts, got {count}")
    order = np.random.default_rng(seed).permutation(count)
    other = np.empty(count, dtype=np.intp)
    other[order] = np.roll(order, 1)
    return [int(number) for number in other]


def score_shuffled(scored: Scored, prompts: Sequence[Prompt], captions: Floats | None, seed: int = 0) -> Scored | None:
    """Score images against the prompts of other images, each prompt used for one: what chance gives.

    Args:
        scored: an arm, with its readings and its CLIP features.
        prompts: by number.
        captions: CLIP features of the prompts; None leaves the CLIP score out.
        seed: of ``derangement``.

    Returns:
        alignment and CLIP score, labelled by the prompt that they were scored against; None if neither can be scored
        or there is only one prompt.
    """
    if len(prompts) < 2:
        return None
    other = derangement(len(prompts), seed)
    labels = [other[number] for number in scored.labels]
    rows: list[Values] = [{} for _ in labels]
    if scored.readings is not None:
        for row, label, reading in zip(rows, labels, scored.readings, strict=True):
            spec = prompts[label].spec
            if spec is not None:
                row |= scored.align(spec, reading)
    if scored.clip is not None and captions is not None:
        for row, score in zip(rows, scored.similarity(scored.clip, captions[labels]), strict=True):
            row["clip_score"] = float(score)
    return Scored(labels, rows, []) if any(rows) else None

"""Between what a score lies: real scenes above (the reader errs there too), images under other prompts below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.scoring import Drawn, Scored, Values
from freeu.evaluate.metrics.distance import Floats


def real_scenes(pictures: Sequence[Path], prompts: Sequence[Prompt]) -> list[Drawn]:
    """Reference images of which the i-th shows the i-th prompt.

    Raises:
        FreeUValueError: they are not as many as the prompts.
    """
    if len(pictures) != len(prompts):
        raise FreeUValueError(
            "--reference-matches says that the i-th image of --reference shows the i-th prompt, "
            f"got {len(pictures)} images and {len(prompts)} prompts"
        )
    return [Drawn(path, number) for number, path in enumerate(pictures)]


def derangement(count: int, seed: int = 0) -> list[int]:
    """A random order of 0..count - 1 in which nothing stays at its place: one random cycle through all.

    Args:
        count: at least 2.
        seed: of the order.

    Raises:
        FreeUValueError: fewer than 2, for which there is none.
    """
    if count < 2:
        raise FreeUValueError(f"prompts can be shuffled if there are at least 2, got {count}")
    order = np.random.default_rng(seed).permutation(count)
    other = np.empty(count, dtype=np.intp)
    other[order] = np.roll(order, 1)
    return [int(number) for number in other]


def score_shuffled(scored: Scored, prompts: Sequence[Prompt], captions: Floats | None, seed: int = 0) -> Scored | None:
    """Images scored against other prompts than their own, each prompt standing in for exactly one: what chance gives.

    Args:
        scored: an arm, with its readings and its features of the CLIP.
        prompts: by number.
        captions: the CLIP's features of the prompts; None leaves the CLIP score out.
        seed: of ``derangement``.

    Returns:
        alignment and CLIP score, labelled by the prompt that they were scored against; None if neither can be scored
        or there is one prompt only.
    """
    if len(prompts) < 2:
        return None
    other = derangement(len(prompts), seed)
    labels = [other[number] for number in scored.labels]
    rows: list[Values] = [{} for _ in labels]
    if scored.readings is not None:
        for row, label, reading in zip(rows, labels, scored.readings, strict=True):
            asked = prompts[label].asked
            if asked is not None:
                row |= scored.align(asked, reading)
    if scored.clip is not None and captions is not None:
        for row, score in zip(rows, scored.similarity(scored.clip, captions[labels]), strict=True):
            row["clip_score"] = float(score)
    return Scored(labels, rows, []) if any(rows) else None

"""Numbers for the pairs of a comparison's page: statistics of the images and, of the embedded model, a CLIP score."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from freeu.errors import FreeUValueError

if TYPE_CHECKING:
    from freeu.evaluate.metrics.clip import CLIP
    from freeu.pipelines.pages.page import Measures
    from freeu.pipelines.runs.manifest import Manifest

MOST = 200
"""Images that are measured; the page of more shows none of it."""
SHOWN = ("saturation", "sharpness")
"""Of ``image_statistics``."""


def measure(folder: Path, manifest: Manifest) -> Measures:
    """Saturation and sharpness of every image, and the CLIP score of those of the embedded model if its judge is there.

    Args:
        folder: where the images are.
        manifest: of a complete run.

    Returns:
        nothing for more than ``MOST`` images, and where one is too small to be measured; without ``freeu[eval]`` only a
        line that says so.
    """
    from freeu.extras import installed
    from freeu.pipelines.io.inputs import open_image
    from freeu.pipelines.pages.page import Measures

    if not installed("scipy"):  # without which nothing of freeu.evaluate is there
        return Measures(text="Saturation, sharpness and CLIP score of each pair come with pip install 'freeu[eval]'.")
    from freeu.evaluate.metrics.clip import clip_score
    from freeu.evaluate.metrics.statistics import image_statistics

    plan = manifest.plan
    if plan.count > MOST or min(plan.width, plan.height) < 3:
        return Measures()
    judge = _judge() if plan.model.kind == "embedded" else None
    texts = judge.text_features(plan.prompts) if judge else None
    values: dict[str, dict[str, float]] = {}
    for planned in plan.images():
        image = open_image(folder / planned.file)
        found = image_statistics(image)
        values[planned.file] = {name: found[name] for name in SHOWN}
        if judge is not None and texts is not None:
            score = clip_score(judge.image_features([image]), texts[planned.index : planned.index + 1])
            values[planned.file]["CLIP score"] = float(score[0])
    text = "Saturation: mean of S in HSV, 0 to 1. Sharpness: variance of the Laplacian of luma."
    if judge is not None:
        text += " CLIP score: 100 times the cosine of image and prompt, by the embedded judge, a CLIP of its world."
    return Measures(values, text + " One pair shows what these settings did to it, not whether they help.")


def _judge() -> CLIP | None:
    """The embedded judge, or None where a package that it needs is not installed."""
    from freeu.evaluate.embedded import judge_path
    from freeu.evaluate.metrics.clip import CLIP

    with contextlib.suppress(FreeUValueError):
        return CLIP(judge_path())
    return None

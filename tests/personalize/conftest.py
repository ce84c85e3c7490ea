"""Tiny pipelines of the same classes as the big models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_pipelines import save_pipeline


@pytest.fixture(scope="session")
def sd_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusionPipeline directory: 16x16 images, generated in 4 steps unless told otherwise."""
    folder = save_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd")
    (folder / "freeu-zoo.json").write_text('{"default_steps": 4, "words": ["cat"]}')
    return folder


@pytest.fixture(scope="session")
def subject_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small images of a subject: a blue square on grounds of noise."""
    folder = tmp_path_factory.mktemp("subject")
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 256, (24, 20, 3), dtype=np.uint8)
        picture = Image.fromarray(values)
        picture.paste("blue", (5 + number, 6, 13 + number, 14))
        picture.save(folder / f"{number}.png")
    return folder

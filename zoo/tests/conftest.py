"""What the zoo's tests share. They need no network and train nothing that takes longer than a breath."""

from __future__ import annotations

import os
from pathlib import Path

import freeu_zoo
import pytest


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The shipped miniature Stable Diffusion."""
    if freeu_zoo.DEFAULT_MODEL not in freeu_zoo.models():
        pytest.skip("the weights are not in this checkout")
    return freeu_zoo.model_path()


@pytest.fixture(scope="session")
def sprite_folder() -> Path:
    """Sprites fetched earlier (FREEU_ZOO_WORK or zoo/work); tests never fetch them."""
    work = Path(os.environ.get("FREEU_ZOO_WORK", Path(__file__).parents[1] / "work"))
    folder = work / "sprites"
    if not (folder / "flat" / "fox.png").exists():
        pytest.skip(f"no sprites in {folder}: `python -m freeu_zoo.train RECIPE --stage sprites` fetches them")
    return folder

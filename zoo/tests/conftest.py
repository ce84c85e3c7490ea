"""What the zoo's tests share. They need no network and train nothing that takes longer than a breath."""

from __future__ import annotations

from pathlib import Path

import freeu_zoo
import pytest


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The shipped miniature Stable Diffusion."""
    if freeu_zoo.DEFAULT_MODEL not in freeu_zoo.models():
        pytest.skip("the weights are not in this checkout")
    return freeu_zoo.model_path()

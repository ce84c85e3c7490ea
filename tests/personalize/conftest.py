"""One thread, and tiny pipelines of the same classes as the big models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_pipelines import save_pipeline


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and on a busy machine every thread waits for the slowest."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sd_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusionPipeline directory: 16x16 pictures."""
    return save_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd")

"""One thread, and tiny pipelines of the same classes as the big models."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
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


@dataclass
class Outcome:
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def one_line(self) -> str:
        """The only line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture(scope="session")
def cli() -> Callable[..., Outcome]:
    """The command line, in this process."""
    from freeu.cli import main

    def run(*words: object) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
        return Outcome(code, out.getvalue(), err.getvalue())

    return run

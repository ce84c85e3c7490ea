"""Tiny random pipelines, written once a session, and the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Outcome, run_cli
from tiny_pipelines import save_pipeline, tiny_text_encoder, tiny_tokenizer, tiny_unet, tiny_vae, tiny_video_unet

COMPARED = ("a red fox", "ein grüner Apfel <b>&</b> 日本", "--seeds", "3-4", "--steps", "2", "--threads", "1")


@pytest.fixture(scope="session")
def sd_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusionPipeline directory: 16x16 images, 3 up-blocks of 2 concatenations."""
    return save_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd")


@pytest.fixture
def make_pipeline(tmp_path: Path) -> Callable[..., Path]:
    """Writes a pipeline directory of a name and class with given components."""

    def make(name: str, cls: str, **components: Any) -> Path:
        return save_pipeline(tmp_path / name, cls, **components)

    return make


@pytest.fixture(scope="session")
def parts() -> SimpleNamespace:
    """Makers of tiny components."""
    return SimpleNamespace(unet=tiny_unet, vae=tiny_vae, text_encoder=tiny_text_encoder, tokenizer=tiny_tokenizer)


@pytest.fixture(scope="session")
def compared(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder and the words of one comparison: two prompts, seeds 3 and 4, two steps."""
    folder = tmp_path_factory.mktemp("runs") / "deeper" / "compared"
    return folder, run_cli("compare", *COMPARED, "--model", sd_dir, "--output", folder)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def video_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TextToVideoSDPipeline directory with random weights: videos of 16x16."""
    folder = tmp_path_factory.mktemp("models") / "tiny-video"
    return save_pipeline(folder, "TextToVideoSDPipeline", unet=tiny_video_unet())


FILMED = ("a red fox", "ein grüner Apfel <b>&</b> 日本", "--seeds", "3-4", "--frames", "5", "--fps", "7")
FILMED += ("--steps", "2", "--threads", "1")


@pytest.fixture(scope="session")
def filmed(video_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder and the words of one run of freeu video: two prompts, seeds 3 and 4, five frames at 7 a second."""
    folder = tmp_path_factory.mktemp("runs") / "filmed"
    words = ("video", *FILMED, "--model", video_dir, "--format", "mp4,webp,gif", "--output", folder)
    return folder, run_cli(*words)

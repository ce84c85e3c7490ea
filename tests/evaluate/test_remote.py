"""Folders of images by URL, through fsspec's file system in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_cli as run
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.pipelines.io.remote import local_folder, local_folders

SUFFIXES = (".png", ".jpg")


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, empty at the end."""
    import fsspec

    fs = fsspec.filesystem("memory")
    yield fs
    for name in fs.ls("/", detail=False):
        fs.rm(name, recursive=True)


def put(fs: Any, place: str, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_file():
            fs.pipe(f"{place}/{path.name}", path.read_bytes())


def noisy(folder: Path, seed: int, count: int = 3) -> Path:
    """A folder of small images."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_a_table_of_remote_folders_is_that_of_local_ones(memory: Any, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red fox\na blue car\na cat\n")
    folders = [noisy(tmp_path / name, seed) for seed, name in enumerate(("plain", "freeu"))]
    for folder in folders:
        put(memory, f"/bucket/{folder.name}", folder)
    words = ("evaluate", "--prompts", prompts, "--judge", "none", "--threads", 1)
    local = [word for folder in folders for word in ("--images", folder)]
    remote = [word for folder in folders for word in ("--images", f"memory://bucket/{folder.name}")]
    assert run(*words, *local, "--output", tmp_path / "one").code == 0
    outcome = run(*words, *remote, "--output", tmp_path / "two")
    assert outcome.code == 0, outcome.err
    for name in ("table.md", "results.json"):
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()


def test_a_remote_run_brings_its_manifest(memory: Any, tmp_path: Path) -> None:
    """Which says what each image shows, and whether the run was complete."""
    pytest.importorskip("freeu_zoo")
    small = ("--no-freeu", "--steps", 1, "--width", 64, "--height", 64, "--threads", 1)
    made = run("generate", "a fox", "a car", *small, "--output", tmp_path / "run")
    assert made.code == 0, made.err
    put(memory, "/runs/one", tmp_path / "run")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a car\na fox\n")  # in another order than the files
    words = ("evaluate", "--prompts", prompts, "--judge", "none", "--images", "memory://runs/one", "--output")
    outcome = run(*words, tmp_path / "out")
    assert outcome.code == 0, outcome.err
    memory.rm("/runs/one/p001-s0000-baseline.png")
    line = run(*words, tmp_path / "again").one_line()
    assert "--images memory://runs/one holds 1 of its 2 images" in line  # and not the name of the copy


def test_a_remote_reference(memory: Any, tmp_path: Path) -> None:
    put(memory, "/real/one", noisy(tmp_path / "one", 0, 1))
    with local_folder("memory://real/one", "--reference", SUFFIXES) as copy:
        assert [path.name for path in copy.iterdir()] == ["0.png"]
        assert (copy.name, copy.parent.name) == ("one", "real")
    assert not copy.exists()
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a fox\n")
    words = ("evaluate", "--prompts", prompts, "--output", tmp_path / "out", "--reference")
    assert "--reference memory://real/one holds 1 image" in run(*words, "memory://real/one").one_line()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nothing/here", "--images memory://nothing/here: there is no such folder"),
        ("memory://texts", "--images memory://texts holds no images (.png, .jpg)"),
        ("carrierpigeon://a/b", "is no address that is known here"),
        ("s3://bucket/folder", "what reads such addresses is not installed: pip install s3fs"),
        ("gs://bucket/folder", "what reads such addresses is not installed: pip install gcsfs"),
    ],
)
def test_addresses_that_cannot_be_read_are_one_line(
    memory: Any, url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("s3fs", "gcsfs"):
        monkeypatch.setitem(__import__("sys").modules, name, None)  # also where they are installed
    memory.pipe("/texts/a.txt", b"no image")
    with pytest.raises(FreeUValueError) as caught, local_folder(url, "--images", SUFFIXES):
        pass
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_in_an_address_is_not_shown() -> None:
    url = "ftp://me:secret@127.0.0.1:9/images"
    once = local_folder(url, "--images", SUFFIXES)
    with pytest.raises(FreeUValueError, match=r"ftp://\.\.\.@127\.0\.0\.1:9/images cannot be read") as caught, once:
        pass
    assert "secret" not in str(caught.value)
    twice = local_folders([url, url], "--images", SUFFIXES)
    with pytest.raises(FreeUValueError, match=r"--images ftp://\.\.\.@127\.0\.0\.1:9/images is given twice"), twice:
        pass


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    with local_folders([str(tmp_path)], "--images", SUFFIXES) as (folder,):
        assert folder == tmp_path

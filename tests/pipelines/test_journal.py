"""What a run has made, should it be killed: the manifest, the journal beside it, and who may write there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.pipelines.io.journal import JOURNAL, journaled, read_journal
from freeu.pipelines.io.output import LOCK, MANIFEST, OutputFolder, reserved
from freeu.pipelines.runs.manifest import read_manifest

WORDS = ("a red fox", "--seeds", "0-3", "--steps", "1", "--threads", "1")
# Killed as the machine would kill it while the third image is generated.
KILLED = """
import os, sys
from freeu.cli import main
from freeu.pipelines.runs import run
generate, made = run.generate_images, []
def third_is_fatal(*arguments):
    made.append(1)
    return generate(*arguments) if len(made) < 3 else os._exit(9)
run.generate_images = third_is_fatal
main(sys.argv[1:])
"""


@pytest.fixture
def killed(sd_dir: Path, tmp_path: Path) -> tuple[Path, tuple[Any, ...]]:
    """The folder of a run that was killed, and its words."""
    folder = tmp_path / "images"
    words = ("generate", *WORDS, "--model", sd_dir, "--output", folder)
    code = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], check=False, capture_output=True).returncode
    assert code == 9
    return folder, words


def test_a_killed_run_goes_on_from_its_journal(killed, cli: Callable[..., Any]) -> None:
    folder, words = killed
    assert json.loads((folder / MANIFEST).read_text())["pictures"] == []
    assert len((folder / JOURNAL).read_text().splitlines()) == 2
    before = read_manifest(folder)
    assert len(before.images) == 2
    assert not before.complete
    kept = {name: (folder / name).stat().st_mtime_ns for name in before.images}
    assert cli(*words).code == 0
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert read_manifest(folder).complete
    assert {path.name for path in folder.iterdir()} & {JOURNAL, LOCK} == set()


def test_a_line_that_was_cut_off_is_made_again(killed, cli: Callable[..., Any]) -> None:
    folder, words = killed
    journal = folder / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])
    assert len(read_manifest(folder).images) == 1
    assert cli(*words).code == 0
    assert len(read_manifest(folder).images) == 4


@pytest.mark.parametrize("damage", ["no JSON\n", "[1]\n", '{"file": "other.png"}\n', "[" * 100_000 + "\n"])
def test_a_damaged_journal_is_one_line(killed, cli: Callable[..., Any], damage: str) -> None:
    folder, words = killed
    journal = folder / JOURNAL
    journal.write_text(damage + journal.read_text())
    outcome = cli(*words)
    assert outcome.code == 2
    assert "damaged" in outcome.one_line()
    assert len(list(folder.glob("*.png"))) == 2


def test_the_journal_survives_a_disk_too_full_for_the_manifest(tmp_path: Path, monkeypatch) -> None:
    output = OutputFolder(tmp_path / "images")

    def full(name: str, data: object) -> None:
        raise FreeURuntimeError("no space left")

    with pytest.raises(KeyError), journaled(output, lambda: "{}") as note:  # noqa: PT012 (what happens in between)
        note({"file": "a.png"})
        monkeypatch.setattr(output, "write", full)
        raise KeyError
    assert read_journal(output.path) == [{"file": "a.png"}]


def test_a_folder_in_use_is_refused_at_once(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "images"
    with reserved(folder, ""):
        outcome = cli("generate", *WORDS, "--model", sd_dir, "--output", folder)
        assert outcome.code == 2
        assert outcome.one_line().startswith(f"freeu: another run writes to --output {folder}: ")
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert not folder.exists()
    assert cli("generate", *WORDS, "--model", sd_dir, "--output", folder).code == 0


def test_two_runs_without_a_name_get_two_folders(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: form.split("-%")[0] + "-20240229-120000")
    with reserved(None, "freeu") as one, reserved(None, "freeu") as other:
        assert (one.name, other.name) == ("freeu-20240229-120000", "freeu-20240229-120000-2")
        (other / "a.png").write_bytes(b"")
    assert [path.name for path in tmp_path.iterdir()] == [other.name]
    assert [path.name for path in (tmp_path / other.name).iterdir()] == ["a.png"]


def test_what_cannot_be_reserved_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(FreeUValueError, match="is a file"), reserved(file, ""):
        pass
    with pytest.raises(FreeURuntimeError, match="cannot write to --output"), reserved(file / "inside", ""):
        pass

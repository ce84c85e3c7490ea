"""Preset files: read, refused where damaged, and taken by ``--preset``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import run_cli as run

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.pipelines.options.preset_file import PresetFile, read_preset

FOUND = PresetFile("x-tuned", FreeUConfig(b=(1.1, 1.2), skip_gain=1.05), "x", "abc", 3.0, 20, "better", {"trials": 9})


def written(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(FOUND.to_dict() | changes))
    return path


def test_a_preset_file_comes_back(tmp_path: Path) -> None:
    assert read_preset(written(tmp_path / "preset.json")) == FOUND


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "x"}, "is not a preset of freeu"),
        ({"schema": 2}, "a newer freeu may read it"),
        ({"config": {"b": [99, 1]}}, "b1 must lie in 0 to 10"),
        ({"guidance": "much"}, "is damaged"),
        ({"model": "x"}, "is damaged"),
        ({"verdict": 3}, "its names must be texts"),
    ],
)
def test_damaged_files(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FreeUValueError, match=message):
        read_preset(written(tmp_path / "preset.json", **changes))


def test_the_command_line_takes_it(sd_dir: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "preset.json")
    words = ("generate", "a red fox", "--model", sd_dir, "--steps", 1, "--seeds", 0, "--threads", 1)
    code, _, err = run(*words, "--preset", path, "--output", tmp_path / "out")
    assert code == 0
    assert f"--preset {path} was found for x, whose files are others than those of tiny-sd" in err
    plan = json.loads((tmp_path / "out" / "manifest.json").read_text())["plan"]
    assert FreeUConfig.from_dict(plan["config"]) == FOUND.config
    none = written(tmp_path / "none.json", config=None, verdict="None is best here.")
    code, _, err = run(*words, "--preset", none, "--output", tmp_path / "none")
    assert (code, err) == (2, f"freeu: --preset {none} has no settings of FreeU: None is best here.\n")
    assert run(*words, "--preset", tmp_path / "absent.json", "--output", tmp_path / "none")[0] == 2

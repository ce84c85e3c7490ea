"""``freeu metadata``: what a file says, and a copy for another tool."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import run_cli as run
from foreign_texts import TEXT, png

from freeu.config import FreeUConfig
from freeu.metadata import read

FOUR = "b1=1.2 b2=1.4 s1=0.9 s2=0.2 v=2"


def test_what_a_file_says(tmp_path: Path) -> None:
    path = png(tmp_path / "x.png", {"parameters": f"{TEXT}, FreeU: {FOUR}, Clip skip: 2"})
    code, said, _ = run("metadata", str(path))
    assert code == 0
    rows = {line[:16].strip(): line[16:].strip() for line in said.splitlines()}
    assert (rows["prompt"], rows["seed"], rows["size"], rows["FreeU"]) == ("a red fox", "5", "512x768", FOUR)
    assert rows["note"] == "not taken: Clip skip"
    code, said, _ = run("metadata", str(path), "--json")
    data = json.loads(said)
    assert (code, data["dialect"], data["steps"], data["notes"]) == (0, "freeu", 20, ["not taken: Clip skip"])
    assert FreeUConfig.from_dict(data["config"]) == FreeUConfig.parse(FOUR)


def test_a_copy_for_another_tool(tmp_path: Path) -> None:
    path = png(tmp_path / "x.png", {"parameters": f"{TEXT}, FreeU: {FOUR}"})
    copy = tmp_path / "y.png"
    assert run("metadata", str(path), "--to", "forge", "--output", str(copy))[0] == 0
    assert (read(copy).dialect, read(copy).prompt) == ("forge", "a red fox")
    words = ("metadata", str(path), "--to", "freeu", "--config", "sdxl=1", "--output", str(tmp_path / "z.png"))
    assert run(*words)[0] == 2
    assert not (tmp_path / "z.png").exists()


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    path = png(tmp_path / "x.png", {"parameters": TEXT})
    for words, message in (
        ((str(tmp_path / "none.png"),), "cannot read"),
        ((str(path), "--to", "forge"), "name it with --output"),
        ((str(path), "--output", "y.png"), "belong to --to"),
        ((str(path), "--to", "forge", "--output", str(tmp_path / "y.png")), "has no settings of FreeU"),
        ((str(path), "--to", "forg", "--config", FOUR, "--output", str(tmp_path / "y.png")), "did you mean forge"),
    ):
        code, _, told = run("metadata", *words)
        assert code == 2
        assert message in told
        assert len(told.strip().splitlines()) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["x.png"]

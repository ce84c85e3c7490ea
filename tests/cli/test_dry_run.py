"""``--dry-run`` of every command that computes for long: checked as ever, shown, nothing loaded, nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_cli
from made_plans import made_plan
from PIL import Image

pytest.importorskip("freeu_zoo")

LAST = "nothing was loaded or written: leave --dry-run out to do it"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with prompts, and images that show them."""
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("a fox\na car\n")
    Path("many.txt").write_text("".join(f"a 3d fox number {number}\n" for number in range(36)))
    Path("images").mkdir()
    for number in range(2):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(f"images/{number}.png")
    return tmp_path


def dry(*words: object) -> dict[str, Any]:
    """What a dry run says, as data; it says so in words too, loads nothing and writes nothing."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    outcome = run_cli(*words, "--dry-run")
    assert (outcome.code, outcome.err, outcome.loading) == (0, "", ())
    assert outcome.out.splitlines()[-1] == LAST
    data: dict[str, Any] = json.loads(run_cli(*words, "--dry-run", "--json").out)
    assert run_cli(*words, "--dry-run", "--quiet").out == ""
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    return data


def refused(*words: object) -> str:
    """What a dry run refuses, in one line."""
    outcome = run_cli(*words, "--dry-run")
    assert (outcome.code, outcome.out, outcome.loading) == (2, "", ())
    return outcome.one_line()


def test_a_dry_run_says_what_would_be_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("a 3d fox", "a flat car", "-n", "3", "--seed", "7", "--neg", "red", "--cfg", "4", "--sampler", "dpmpp_2m")
    outcome = run_cli("compare", *words, "--b", "1.3,1.4", "--dry-run", "--output", "out")
    assert (outcome.code, outcome.err, outcome.loading) == (0, "", ())
    for line in (
        "model: mini-sd (embedded)",
        "12 images: text-to-image",
        "arms: without FreeU, with FreeU",
        "FreeU: b1=1.3 b2=1.4 s1=1.0 s2=1.0 v=2",
        "  a flat car",
        "negative prompt: red",
        "seeds: 7-9",
        "size: 128 x 128",
        "CFG scale: 4.0",
        "sampler: dpm++2m",
        "folder: out",
    ):
        assert line in outcome.out.splitlines()
    data = json.loads(run_cli("generate", *words, "--dry-run", "--json").out)
    assert (data["images"], data["seeds"], data["arms"]) == (6, [7, 8, 9], ["with FreeU"])
    swept = json.loads(run_cli("sweep", "a fox", "--x", "b1=1,1.2", "--y", "seed=0-2", "--dry-run", "--json").out)
    assert (swept["cells"], swept["arms"]) == (6, ["b1 = b1 = 1, b1 = 1.2", "seed = seed = 0, seed = 1, seed = 2"])
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_what_the_command_would(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    outcome = run_cli("compare", "a fox", "--dry-run", "--output", tmp_path / "full")
    assert outcome.code == 2
    assert "holds other files already" in outcome.one_line()


def test_an_evaluation(here: Path) -> None:
    words = ("evaluate", "--prompts", "p.txt")
    data = dry(*words, "--arms", "none,sd14")
    assert (data["images"], data["arms"]) == (8, ["none", "sd14"])
    explained = dry(*words, "--explain", "sd14")
    assert explained["arms"] == ["none", "sd14", "each part of it"]
    assert "images" not in explained
    when = dry(*words, "--when", "--when-steps", "4,6", "--when-guidance", "3", "--when-settings", "b: b1=1.2")
    assert (when["cells"], when["images"], when["steps"]) == (10, 40, [4, 6])
    there = dry(*words, "--images", "images", "--reference", "images")
    assert (there["images"], there["arms"], there["reference"]) == (2, ["images"], 2)
    # What the command would refuse before it loads anything.
    assert "needs 'none'" in refused(*words, "--arms", "sd14")
    assert "--reference nowhere is no folder" in refused(*words, "--reference", "nowhere")
    assert "copies nothing" in refused(*words, "--reference", "s3://bucket/images")
    assert "--calibration-prompts must lie in" in refused(*words, "--calibration-prompts", "0")


def test_a_search(here: Path) -> None:
    few = ("--search-prompts", "8", "--confirm-prompts", "8")
    assert dry("tune", "--prompts", "many.txt", "--trials", "5", *few)["trials"] == 10
    votes = dry("tune", "--prompts", "many.txt", "--objective", "votes", "--votes", "12", "--final-votes", "10")
    assert votes["pairs"] == 22
    assert "a search needs 180 prompts or more" in refused("tune", "--prompts", "p.txt")
    assert "--guard must be none" in refused("tune", "--prompts", "many.txt", "--guard", "x", *few)


def test_an_analysis(here: Path) -> None:
    data = dry("analyze", "--figure", "7", "--figure", "3", "--random-baseline", "--prompts", "p.txt")
    assert (data["figures"], data["random_baseline"], data["steps"]) == ([3, 7], "yes", 12)
    assert len(dry("analyze", "--full")["figures"]) == 15
    assert "--figure 101 is for videos" in refused("analyze", "--figure", "101")


def test_a_check(here: Path) -> None:
    data = dry("check", "mini-sd", "--pairs", "5")
    assert (data["model"], data["pairs"]) == ("mini-sd", 5)
    assert "--offload sequential would be what is timed" in refused("check", "mini-sd", "--offload", "sequential")


def test_a_video_to_video(here: Path) -> None:
    pytest.importorskip("cv2")
    pytest.importorskip("av")
    frames = [Image.fromarray(np.full((64, 64, 3), value, np.uint8)) for value in (0, 90, 180)]
    frames[0].save("film.gif", save_all=True, append_images=frames[1:], duration=100)
    data = dry("rerender", "film.gif", "a fox", "--compare")
    assert (data["frames"], data["task"], data["arms"]) == (3, "video-to-video", ["without FreeU", "with FreeU"])
    assert (data["scheduler"], data["width"]) == ("ddim", None)
    assert "film.mp4" in refused("rerender", "film.mp4", "a fox")


def test_a_reproduction(here: Path) -> None:
    from freeu.pipelines.runs.manifest import Manifest

    plan = made_plan(seeds=(3, 4))
    Path("done").mkdir()
    Path("done/manifest.json").write_text(Manifest(plan, {}).to_json())
    data = dry("generate", "--from", "done")
    assert (data["images"], data["seeds"], data["model"]) == (2, [3, 4], "mini-sd")
    assert "leave --steps out" in refused("generate", "--from", "done", "--steps", "3")
    assert "is the folder of the manifest itself" in refused("generate", "--from", "done", "--output", "done")


def test_trainings(here: Path) -> None:
    for number in range(3):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(f"images/{number}.png")
        Path(f"images/{number}.txt").write_text("a <R> b")
    data = dry("reversion", "train", "images", "--output", "learned")
    assert (data["token"], len(data["images"]), data["folder"]) == ("<R>", 3, "learned")
    data = dry("dreambooth", "train", "images", "--class-noun", "cat")
    assert data["subject"].endswith(" cat")
    assert "nowhere" in refused("dreambooth", "train", "nowhere", "--class-noun", "cat")

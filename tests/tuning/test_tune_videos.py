"""``freeu tune`` and ``freeu.tune`` on the embedded model of videos."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import pytest
from command_line import run_cli as run
from PIL import Image

from freeu.presets.files import read_preset

pytest.importorskip("freeu_zoo_video")
pytest.importorskip("cv2")
SMALL = (*("--steps", 1, "--frames", 3, "--threads", 1), "--trials", 1, "--search-prompts", 8, "--confirm-prompts", 8)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from freeu_zoo import prompts, recipe

    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    prompts.write(recipe.shipped("mini-modelscope"), path, 36, None)
    return path


@pytest.fixture(scope="module")
def tuned(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "out"
    lines = prompts.read_text().splitlines()
    searched, decide = folder.parent / "searched.jsonl", folder.parent / "decide.jsonl"
    searched.write_text("\n".join(lines[:16]))
    decide.write_text("\n".join(lines[16:20]))
    words = ("tune", "mini-modelscope", "--prompts", searched, "--held-out", decide, *SMALL, "--output", folder)
    code, said, told = run(*words)
    assert code == 0, told
    assert "preset.json" in said
    return folder


def test_a_whole_search(tuned: Path) -> None:
    preset = read_preset(tuned / "preset.json")
    assert (preset.model, preset.steps) == ("mini-modelscope", 1)
    data = json.loads((tuned / "tuning.json").read_text())
    measured = {"objective", "clip_right", "noun", "clip_score", "saturation"}
    assert measured == set(data["verdict"]["differences"]["published"])
    results = json.loads((tuned / "held-out" / "results.json").read_text())
    assert (results["clips"], results["plan"]["frames"]) == (True, 3)
    page = (tuned / "report.html").read_text()
    assert " with 3 frames, " in page
    shown = re.search(r"data:image/webp;base64,([^\"]+)", page)
    assert shown is not None
    with Image.open(io.BytesIO(base64.b64decode(shown[1]))) as video:
        assert video.n_frames == 3


def test_a_search_measures_videos_as_evaluate_does(tuned: Path, tmp_path: Path) -> None:
    row = json.loads((tuned / "plain.json").read_text())["images"][0]
    line = (tuned.parent / "searched.jsonl").read_text().splitlines()[row["prompt"]]
    one = tmp_path / "one.jsonl"
    one.write_text(line)
    words = ("evaluate", "mini-modelscope", "--prompts", one, "--arms", "none", "--seeds", 0, *SMALL[:6])
    code, _, told = run(*words, "--output", tmp_path / "out")
    assert code == 0, told
    (video,) = json.loads((tmp_path / "out" / "results.json").read_text())["pictures"]
    measured = {name: value for name, value in row["values"].items() if name != "retrieval"}  # needs other prompts
    assert measured == pytest.approx(video["values"])


def test_what_is_not_for_videos(prompts: Path, tmp_path: Path) -> None:
    words = ("tune", "mini-modelscope", "--prompts", prompts, *SMALL, "--output", tmp_path / "out")
    (tmp_path / "real").mkdir()
    for number in range(2):
        Image.new("RGB", (32, 32)).save(tmp_path / "real" / f"{number}.png")
    for more, message in (
        (("--reference", tmp_path / "real"), "holds images, and this model makes videos"),
        (("--batch", 4), "--batch 4: only text-to-image generates several at once"),
        (("--ray",), "--ray generates images, and this model makes videos"),
    ):
        code, _, told = run(*words, *more)
        assert (code, message in told) == (2, True), told
        assert not (tmp_path / "out").exists()

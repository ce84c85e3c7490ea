"""``freeu tune`` and ``freeu.tune`` on the embedded model, in a few small images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import run_cli as run

import freeu
from freeu.errors import FreeUValueError
from freeu.presets.files import read_preset

SMALL = ("--steps", 2, "--width", 64, "--height", 64, "--threads", 1)
FEW = ("--guard", "saturation=0.5", "--trials", 3, "--search-prompts", 8, "--confirm-prompts", 8, "--finalists", 2)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    freeu_zoo = pytest.importorskip("freeu_zoo")
    from freeu_zoo import prompts, recipe

    rows = prompts.rows(prompts.scenes(recipe.shipped(freeu_zoo.DEFAULT_MODEL).world, 40))
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="module")
def tuned(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Any, ...]]:
    folder = tmp_path_factory.mktemp("tuned") / "out"
    words = ("tune", "--prompts", prompts, *SMALL, *FEW, "--output", folder)
    code, said, _ = run(*words)
    assert code == 0
    assert "preset.json" in said
    return folder, words


def test_what_a_run_leaves(tuned: tuple[Path, tuple[Any, ...]]) -> None:
    folder, _ = tuned
    preset = read_preset(folder / "preset.json")
    assert (preset.model, preset.steps, preset.guidance > 1.0) == ("mini-sd", 2, True)
    data = json.loads((folder / "tuning.json").read_text())
    parts = [set(data["split"][name]) for name in ("search", "confirm", "held_out")]
    assert [len(part) for part in parts] == [8, 8, 24]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    verdict = data["verdict"]
    assert verdict["best"] in ("freeu", "guidance", "none")
    assert (preset.config is None) == (verdict["best"] != "freeu")
    measured = {"objective", "all_asked", "noun", "clip_score", "saturation"}
    assert measured == set(verdict["differences"]["tuned"])
    results = json.loads((folder / "held-out" / "results.json").read_text())
    assert list(results["guidance"]) == ["none", "tuned", "effective:tuned", "guidance", "published"]
    mean = results["differences"]["tuned"]["clip_score"]["value"]
    assert verdict["differences"]["tuned"]["clip_score"]["value"] == pytest.approx(mean)
    page = (folder / "report.html").read_text()
    assert "@media (prefers-color-scheme: dark)" in page  # of the head that reports share
    assert data["preset"]["verdict"] in page.replace("&#39;", "'")
    assert page.count("data:image/png") == 12 * 5
    assert page.count("<svg") == 2
    gradients = json.loads((folder / "gradients.json").read_text())
    assert len(gradients["sites"]) == 9


def test_it_goes_on_where_it_ended(tuned: tuple[Path, tuple[Any, ...]]) -> None:
    folder, words = tuned
    before = json.loads((folder / "tuning.json").read_text())
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    (folder / "preset.json").unlink()
    code, _, err = run(*words)
    assert code == 0
    assert "kept 24 images" in err
    assert json.loads((folder / "tuning.json").read_text()) == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == times
    code, _, err = run(*words[:-2], "--objective", "clip_score", *words[-2:])
    assert code == 2
    assert "holds another search (other objective)" in err


def test_a_helper_searches_and_no_more(prompts: Path, tmp_path: Path) -> None:
    storage = ("--storage", f"sqlite:///{tmp_path / 'trials.db'}")
    words = ("tune", "--prompts", prompts, *SMALL, *FEW, *storage, "--search-only", "--sites", 1)
    code, said, _ = run(*words, "--output", tmp_path / "one")
    assert code == 0
    assert "the command without --search-only goes on" in said
    assert not (tmp_path / "one" / "preset.json").exists()
    # A second one finds the trials there, and makes none.
    code, _, _ = run(*words, "--output", tmp_path / "two")
    assert code == 0
    import optuna

    studies = optuna.get_all_study_summaries(f"sqlite:///{tmp_path / 'trials.db'}")
    assert [one.n_trials for one in studies] == [3, 3] or sorted(one.n_trials for one in studies) == [3, 9]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--search-prompts", 30), "a search needs 58 prompts or more"),
        (("--objective", "beauty"), "no image has the measure 'beauty' that --objective names: these have"),
        (("--guard", "beauty=1"), "no image has the measure 'beauty' that --guard names: these have"),
        (("--guard", "saturation"), "--guard must be none, or MEASURE=LARGEST_CHANGE"),
        (("--storage", "nowhere"), "not a storage that is known here"),
        (("--trials", 0), "--trials must"),
        (("--features", "eyes"), "--features must be clip or inception, got 'eyes'"),
        (("--judge", "none", "--no-reader"), "a search needs something that scores"),
    ],
)
def test_bad_input_is_one_line(prompts: Path, tmp_path: Path, words: tuple[Any, ...], message: str) -> None:
    code, _, err = run("tune", "--prompts", prompts, *SMALL, *FEW, *words, "--output", tmp_path / "out")
    assert code == 2
    lines = [line for line in err.splitlines() if "--dtype auto took" not in line]
    assert len(lines) == 1
    assert message in lines[0]


def test_held_out_prompts_are_others(prompts: Path, tmp_path: Path) -> None:
    code, _, err = run("tune", "--prompts", prompts, "--held-out", prompts, *SMALL, "--output", tmp_path / "out")
    assert code == 2
    assert "which --prompts has too: give other prompts" in err


def test_from_python(prompts: Path, tmp_path: Path) -> None:
    import freeu_zoo
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path("mini-sd"))
    pipe.set_progress_bar_config(disable=True)
    texts = [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()]
    few: dict[str, Any] = {
        "trials": 1,
        "search_prompts": 8,
        "confirm_prompts": 8,
        "steps": 2,
        "width": 64,
        "height": 64,
    }
    seen: list[int] = []
    found = freeu.tune(pipe, texts, output=tmp_path / "out", report=lambda done, total: seen.append(done), **few)
    assert found.verdict.best in ("freeu", "guidance", "none")
    assert str(found.tuning.settings.objective) == "clip_score"
    assert found.report(tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert seen[0] == 0
    with pytest.raises(FreeUValueError, match="a search needs 36 prompts or more"):
        freeu.tune(pipe, texts[:20], output=tmp_path / "other", **few)

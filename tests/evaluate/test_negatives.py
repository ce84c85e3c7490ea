"""Negative prompts of single prompts in ``freeu evaluate`` and ``freeu tune``: read, recorded, and generated with."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import run_cli as run
from made_plans import made_plan
from tiny_pipelines import save_pipeline

from freeu.errors import FreeUValueError
from freeu.evaluate.calibration.guidance import negative_of_each
from freeu.evaluate.experiment.prompts import Prompt, negatives_of, read_prompts
from freeu.pipelines.runs.manifest import read_manifest

A1111 = (
    '--prompt "a fox" --negative_prompt "blurry, red" --seed 5 --steps 20\n'
    "a car\n"
    '--prompt "a cat" --cfg_scale 7 --sampler_name "Euler a"\n'
)
LINES = ({"prompt": "a fox", "negative_prompt": "blurry"}, {"prompt": "a car"})


def test_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    found = read_prompts(str(path))
    assert [(one.text, one.negative) for one in found] == [("a fox", "blurry"), ("a car", None)]
    assert [one.to_dict().get("negative_prompt") for one in found] == ["blurry", None]
    assert negatives_of(found, "usual") == ("blurry", "usual")
    assert negatives_of(found[1:], "usual") == ()
    path.write_text('{"prompt": "a fox", "negative_prompt": 3}')
    with pytest.raises(FreeUValueError, match="line 1: negative_prompt must be a text, got 3"):
        read_prompts(str(path))


def test_lines_of_a1111(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text(A1111)
    with pytest.warns(
        UserWarning, match="not taken of its lines: --seed, --steps, --cfg_scale, --sampler_name"
    ) as told:
        found = read_prompts(str(path))
    assert len(told) == 1
    assert found == (Prompt("a fox", negative="blurry, red"), Prompt("a car"), Prompt("a cat"))
    path.write_text('--prompt "a fox" --negative_prompt "red"\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_prompts(str(path)) == (Prompt("a fox", negative="red"),)


def test_one_for_all_or_one_for_each() -> None:
    assert negative_of_each(["a", "b"], "c") == ["c", "c"]
    assert negative_of_each(["a", "b"], ["c", ""]) == ["c", ""]
    with pytest.raises(FreeUValueError, match="got 2 prompts and 1 negative prompt"):
        negative_of_each(["a", "b"], ["c"])


def test_an_evaluation_generates_with_them(tmp_path: Path) -> None:
    model = save_pipeline(tmp_path / "tiny-sd")
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("\n".join(map(json.dumps, LINES)))
    small = ("--model", model, "--steps", "2", "--threads", "1", "--negative-prompt", "dark", "--seeds", "0")
    assert run("generate", "--prompts", prompts, "--no-freeu", *small, "--output", tmp_path / "made").code == 0
    words = ("evaluate", *small[2:], "--prompts", prompts, model, "--judge", "none", "--batch", "1")
    arms = ("--arms", "none,sd14,calibrated:sd14", "--dtype", "float32", "--output", tmp_path / "out")
    outcome = run(*words, *arms)
    assert outcome.code == 0, outcome.err
    then, now = read_manifest(tmp_path / "made"), read_manifest(tmp_path / "out" / "arm-0-none")
    assert then.plan.negatives == now.plan.negatives == ("blurry", "dark")
    assert [one.sha256 for one in then.images.values()] == [one.sha256 for one in now.images.values()]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["plan"]["negatives"] == ["blurry", "dark"]
    assert [one.get("negative_prompt") for one in results["prompts"]] == ["blurry", None]


def test_the_verdict_of_a_search_generates_with_them(monkeypatch: pytest.MonkeyPatch, tiny_plan: Any) -> None:
    pytest.importorskip("optuna")
    from freeu.tuning import tuning

    seen: list[Any] = []
    monkeypatch.setattr(tuning, "run_experiment", lambda loaded, experiment, *_: seen.append(experiment))
    monkeypatch.setattr(tuning, "why_unguided", lambda *_: None)
    monkeypatch.setattr(tuning, "published_name", lambda _: "sd14")
    prepared = SimpleNamespace(plan=tiny_plan, loaded=SimpleNamespace(pipe=None))
    prompts = tuple(Prompt(f"a {number}", negative="red" if number == 1 else None) for number in range(3))
    run_of = tuning.Tuning(prepared, prompts, None, {}, None)  # type: ignore[arg-type]
    tuning._verdict_run(run_of, tuning.Split((2,), (), (0, 1)), {}, Path(), None, print, print, None)
    assert (seen[0].plan.prompts, seen[0].plan.negatives) == (("a 0", "a 1"), ("dark", "red"))


@pytest.fixture
def tiny_plan() -> Any:
    """A plan of no model."""
    return made_plan(prompts=("a 0", "a 1", "a 2"), negative_prompt="dark")

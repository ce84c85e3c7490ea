"""Cards are written from freeu-zoo.json and from what an evaluation found."""

from __future__ import annotations

import json
import shutil

import freeu_zoo
import pytest
from freeu_zoo import card
from freeu_zoo.errors import ZooError


def score(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "count": 3, "clusters": 3}


@pytest.fixture
def results() -> dict:
    return {
        "plan": {"prompts": ["a", "b", "c"], "seeds": [0], "steps": 20, "guidance": 3.0},
        "arms": [{"name": "none"}, {"name": "sd14"}],
        "summary": {"none": {"noun": score(0.5), "clip_score": score(30.0)}, "sd14": {"noun": score(0.4)}},
        "ceiling": {"summary": {"noun": score(0.9)}},
        "floor": {"summary": {"noun": score(0.1)}},
        "share_of_ceiling": {"none": {"noun": score(0.556)}, "sd14": {"noun": score(0.444)}},
    }


@pytest.fixture
def model(model_folder, tmp_path):
    for name in ("freeu-zoo.json", "README.md"):
        shutil.copy(model_folder / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", [*freeu_zoo.models(), "judge", "reader"])
def test_shipped_cards_say_what_the_facts_say(name) -> None:
    shipped = freeu_zoo.models() | {"judge": freeu_zoo.judge_path(), "reader": freeu_zoo.reader_path()}
    facts = json.loads((shipped[name] / "freeu-zoo.json").read_text(encoding="utf-8"))
    assert card.text(facts) == (shipped[name] / "README.md").read_text(encoding="utf-8")


def test_scores_come_into_the_card(model, results, tmp_path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    assert card.main([str(model), str(path)]) == 0
    written = (model / "README.md").read_text(encoding="utf-8")
    row = "| noun | 50.0 [45.0, 55.0] | 90.0 [85.0, 95.0] | 10.0 [5.0, 15.0] | 55.6 [50.6, 60.6] |"
    assert row in written
    assert "3 prompts, seed 0, 20 steps, CFG scale 3;" in written
    assert "--count 3 " in written
    facts = json.loads((model / "freeu-zoo.json").read_text(encoding="utf-8"))
    assert facts["alignment"]["scores"]["noun"]["share"]["value"] == 0.556
    assert card.text(facts) == written


@pytest.mark.parametrize("lost", ["plan", "ceiling", "share_of_ceiling"])
def test_other_results_are_refused(model, results, tmp_path, lost) -> None:
    before = (model / "README.md").read_bytes()
    with pytest.raises(ZooError, match="these are no results of"):
        card.alignment(results | {lost: None})
    path = tmp_path / "results.json"
    path.write_text("{", encoding="utf-8")
    assert card.main([str(model), str(path)]) == 2
    assert (model / "README.md").read_bytes() == before

"""Studies that version 0.1 made go on: plan, media, database and results keep their keys, columns and words."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from study.webapp import KEYS, Browser

from freeu.study.plan.folder import StudyFolder
from freeu.study.results.conclusions import conclusions, verdict
from freeu.study.results.exporting import RESULT_COLUMNS, result_rows
from freeu.study.results.report import make_report, thumbnails
from freeu.study.results.results import results
from freeu.study.store.database import FILE, database_url
from freeu.study.store.store import Store
from freeu.study.web.app import create_app

MADE = Path(__file__).parent / "made_by_0_1"
"""Of ``freeu study new`` 0.1, with the votes of two raters and the first three of a third."""
DEMONSTRATION = Path(__file__).parents[2] / "benchmarks" / "results" / "study-demonstration" / "results.json"
THIRD = "P296-PH52-CM7M-QRC9-52QT"
QUESTION = "Which one shows better what the text says?"


@pytest.fixture
def old(tmp_path):
    """A copy of the study with its database."""
    path = Path(shutil.copytree(MADE, tmp_path / "study"))
    with sqlite3.connect(path / FILE) as connection:
        connection.executescript((path / "votes.sql").read_text(encoding="utf-8"))
    connection.close()
    return StudyFolder.open(path)


def shape(value):
    """A value of results with texts for people left out."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items() if name != "text"}
    return [shape(one) for one in value] if isinstance(value, list) else value


def test_the_plan_keeps_its_hash_and_its_words(old):
    old.verify_media()
    stored = json.loads((MADE / "plan.json").read_text(encoding="utf-8"))
    assert old.plan.sha256 == stored["sha256"]
    assert old.plan.to_dict() == StudyFolder.open(MADE).plan.to_dict()
    assert json.loads(json.dumps(old.plan.to_dict())) == stored["plan"]
    assert old.plan.questions[0].text == {"en": QUESTION, "zh": "哪一个更符合文字描述？"}


def test_its_votes_give_the_results_of_then(old):
    with Store(database_url(old.path), old.plan) as store:
        votes = store.counted_votes()
        assert len(store.events()) == len(votes) + 2  # an undone vote and its undo
    found = results(old.plan, votes, draws=200)
    assert shape(json.loads(json.dumps(found))) == shape(
        json.loads((MADE / "results.json").read_text(encoding="utf-8"))
    )


def test_a_rater_of_then_goes_on(old):
    with Store(database_url(old.path), old.plan) as store:
        before = store.counted_votes()
        client = Browser(create_app(old, store, KEYS))
        token = client.field("csrf", client.get("/resume").text)
        assert client.post("/resume", data={"csrf": token, "code": THIRD}).status_code == 303
        state = client.state()
        assert (state["done"], state["task"]["task"]) == (3, old.plan.slots[2][3].id)
        assert state["task"]["question"] in {text for one in old.plan.questions for text in one.text.values()}
        assert QUESTION in client.undo().json()["state"]["task"]["question"] + client.get("/vote").text
        assert client.vote("tie").json()["outcome"] == "counted"
        assert client.vote("left").json()["state"]["done"] == 4
        assert len(store.counted_votes()) == len(before) + 1
        client.log_in()
        assert QUESTION in client.get("/admin/report").text


@pytest.mark.parametrize("file", [DEMONSTRATION, MADE / "results.json"], ids=["demonstration", "small"])
def test_results_of_then_are_reported(file, old):
    found = json.loads(file.read_text(encoding="utf-8"))
    images = thumbnails(old.plan, lambda item: old.media(item.id)) if file.parent == MADE else None
    page = make_report(found, images)
    for one in found["main"]["comparisons"]:
        assert f"{100 * one['preference']['share']:.2f}\N{NO-BREAK SPACE}%" in page
        assert verdict(one, found["level"]) in ("preferred", "not preferred", "inconclusive")
    told = conclusions(found)
    assert len(told["conclusions"]) == 2 + len(found["main"]["comparisons"])
    assert len(told["limits"]) >= 4
    assert set(RESULT_COLUMNS) == set(result_rows(found)[0])


def test_the_demonstration_says_what_the_documentation_says():
    found = json.loads(DEMONSTRATION.read_text(encoding="utf-8"))
    assert [verdict(one, found["level"]) for one in found["main"]["comparisons"]] == ["not preferred"] * 2

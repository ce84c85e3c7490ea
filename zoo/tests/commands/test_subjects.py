"""Subjects that mini-sd never saw: their images, their prompts, and what the prompts ask for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from freeu_zoo import subjects
from freeu_zoo.recipe import shipped
from freeu_zoo.world import captions, sprites
from freeu_zoo.world.scenes import compose
from PIL import Image


def test_classes_are_known_and_subjects_are_not() -> None:
    known = set(shipped("mini-sd").world.nouns)
    assert not known & subjects.CLASSES.keys()
    assert set(subjects.CLASSES.values()) <= known
    assert subjects.CLASSES.keys() <= sprites.table().nouns.keys()


@pytest.mark.parametrize("subject", subjects.CLASSES)
def test_examples_show_the_subject_alone_on_other_backgrounds(subject: str) -> None:
    found = subjects.examples(subject, "3d", 5)
    assert len({scene.background for scene in found}) == 5
    assert len({scene.things[0].width for scene in found}) > 1
    for scene in found:
        assert [thing.noun for thing in scene.things] == [subject]
        assert scene.style == "3d"
        assert scene.things[0].colour is None
    assert found == subjects.examples(subject, "3d", 5)
    assert found != subjects.examples(subject, "3d", 5, seed=1)


def test_prompts_ask_for_what_their_scenes_show(tmp_path: Path) -> None:
    subjects.write(tmp_path, "bear", prompts=20)
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    made = subjects.scenes("bear", "3d", 20)
    assert Counter(row["layout"] for row in rows) == subjects.SHARES
    assert len({row["prompt"] for row in rows}) == 20
    for number, (row, (kind, scene)) in enumerate(zip(rows, made, strict=True)):
        assert row["layout"] == kind
        assert "bear" in row["asked"]["nouns"]
        assert "bear" not in row["prompt"]
        assert "sks panda" in row["prompt"]
        assert row["asked"]["background"] == list(scene.background)
        with Image.open(tmp_path / "scenes" / f"{number:04}.png") as picture:
            assert picture.tobytes() == compose(scene).tobytes()
    assert {row["asked"]["style"] for row in rows if row["layout"] == "restyled"} <= {"flat", "line"}
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"{number:02}.png" for number in range(5)]
    texts = [(tmp_path / f"{number:02}.txt").read_text() for number in range(5)]
    assert all(text.startswith("a 3d sks panda on a ") for text in texts)
    assert len(set(texts)) == 5
    facts = json.loads((tmp_path / "subject.json").read_text())
    assert (facts["subject"], facts["class_noun"], facts["token"]) == ("bear", "panda", "sks")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("two 3d bears on a red background", "two 3d sks pandas on a red background"),
        ("an owl", "a sks penguin"),
        ("a 3d hat on top of an owl", "a 3d hat on top of a sks penguin"),
    ],
)
def test_called(text: str, wanted: str) -> None:
    subject, name = ("owl", "sks penguin") if "owl" in text else ("bear", "sks panda")
    assert subjects.called(text, subject, name) == wanted


def test_prompts_for_another_number_keep_the_proportions() -> None:
    kinds = Counter(kind for kind, _ in subjects.scenes("rose", "flat", 40))
    assert kinds == {kind: 2 * share for kind, share in subjects.SHARES.items()}
    assert all(captions.plain_caption(scene) for _, scene in subjects.scenes("rose", "line", 5))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--subject", "fox"), "no subject 'fox'; known: bear"),
        (("--style", "oil"), "no style 'oil'"),
        (("--count", "0"), "--count must lie in 1 to 9"),
        (("--count", "10"), "--count must lie in 1 to 9"),
        (("--prompts", "0"), "--prompts must be at least 1"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    assert subjects.main([str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""Alignment: each aspect worked by hand, inverses of relations, what is not asked, and the embedded reader's door."""

import importlib
import types
from dataclasses import dataclass

import pytest

from freeu.errors import FreeUValueError
from freeu.evaluate import PromptSpec, load_reader, score_alignment
from freeu.evaluate.metrics.alignment import ASPECTS, check_readable


@dataclass(frozen=True)
class Seen:
    """A reading written down by hand."""

    nouns: tuple[str, ...] = ("fox",)
    count: int = 1
    style: str = "3d"
    background: tuple[str, ...] = ("blue",)
    colours: tuple[str | None, ...] = (None,)
    relation: str | None = None


def two(first, relation, second, colours=(None, None)):
    return Seen(nouns=(first, second), count=2, relation=relation, colours=colours)


def test_what_is_not_asked_is_not_scored():
    assert score_alignment(PromptSpec(), Seen()) == dict.fromkeys(ASPECTS)
    scores = score_alignment(PromptSpec(nouns=("fox",)), Seen())
    assert {name: value for name, value in scores.items() if value is not None} == {
        "noun": 1.0,
        "noun_strict": 1.0,
        "all_asked": 1.0,
    }


def test_everything_right():
    spec = PromptSpec(nouns=("fox",), count=1, style="3d", background=("blue",))
    scores = score_alignment(spec, Seen())
    assert [scores[name] for name in ("noun", "count", "style", "colour", "all_asked")] == [1.0] * 5


@pytest.mark.parametrize(
    ("nouns", "share", "strict"),
    [(("dog", "fox"), 1.0, 1.0), (("fox",), 0.5, 0.0), (("fox", "dog", "cat"), 1.0, 0.0), (("cat", "car"), 0.0, 0.0)],
)
def test_nouns_as_a_multiset(nouns, share, strict):
    seen = Seen(nouns=nouns, colours=(None,) * len(nouns))
    scores = score_alignment(PromptSpec(nouns=("fox", "dog")), seen)
    assert (scores["noun"], scores["noun_strict"]) == (share, strict)


def test_two_equal_nouns_are_counted():
    assert score_alignment(PromptSpec(nouns=("cat", "cat")), Seen(nouns=("cat",)))["noun"] == 0.5


def test_colours():
    spec = PromptSpec(nouns=("fox", "car"), colours=(None, "red"), background=("blue", "pink"))
    right = two("car", None, "fox", ("red", None))

    def scores(seen, background):
        found = score_alignment(spec, Seen(nouns=seen.nouns, colours=seen.colours, background=background))
        return found["object_colour"], found["background"], found["colour"]

    assert scores(right, ("blue", "pink")) == (1.0, 1.0, 1.0)
    assert scores(right, ("pink", "blue")) == (1.0, 0.0, 0.0)  # a gradient has a top and a bottom
    assert scores(two("car", None, "fox", (None, "red")), ("blue", "pink")) == (0.0, 1.0, 0.0)  # the colour leaked


@pytest.mark.parametrize(
    ("seen", "right"),
    [
        (two("fox", "right of", "car"), 1.0),
        (two("car", "left of", "fox"), 1.0),
        (two("car", "right of", "fox"), 0.0),
        (two("fox", "left of", "car"), 0.0),
        (two("fox", "above", "car"), 0.0),
        (two("fox", None, "car"), 0.0),
    ],
)
def test_relations_hold_from_either_side(seen, right):
    scores = score_alignment(PromptSpec(nouns=("fox", "car"), relation="right of"), seen)
    assert (scores["relation"], scores["relation_given_nouns"], scores["all_asked"]) == (right, right, right)


def test_relations_without_an_inverse_and_without_the_nouns():
    spec = PromptSpec(nouns=("fox", "car"), relation="behind")
    assert score_alignment(spec, two("fox", "behind", "car"))["relation"] == 1.0
    assert score_alignment(spec, two("car", "behind", "fox"))["relation"] == 0.0
    scores = score_alignment(spec, two("fox", "behind", "cat"))
    assert (scores["relation"], scores["relation_given_nouns"]) == (0.0, None)


def test_plain_data_and_back():
    spec = PromptSpec(nouns=("fox", "car"), count=2, background=("blue",), colours=("red", None), relation="on")
    assert PromptSpec.from_dict(spec.to_dict()) == spec
    assert PromptSpec.from_dict({"nouns": ["fox"], "background": None}) == PromptSpec(nouns=("fox",))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "must be a JSON object"),
        ({"noun": ["fox"]}, "unknown field of 'asked' 'noun': did you mean nouns"),
        ({"nouns": "fox"}, "nouns must be names, got 'fox'"),
        ({"count": 1.5}, "count must be a whole number or absent, got 1.5"),
        ({"style": 3}, "style must be a name"),
        ({"nouns": ["a"], "colours": [None, "red"]}, "got 2 for 1"),
        ({"colours": [3]}, "colours must be names or null"),
        ({"background": ["a", "b", "c"]}, "two (top, bottom)"),
        ({"nouns": ["a", "b"], "relation": "left"}, "did you mean left of"),
        ({"nouns": ["a"], "relation": "on"}, "needs two nouns"),
    ],
)
def test_bad_expectations_are_named(data, message):
    with pytest.raises(FreeUValueError) as error:
        PromptSpec.from_dict(data)
    assert message in str(error.value)


def test_names_that_the_reader_never_saw():
    reader = types.SimpleNamespace(nouns=("fox",), styles=("3d",), colours=("blue",), read=lambda pictures: [])
    check_readable(PromptSpec(nouns=("fox",), style="3d", background=("blue",)), reader)
    with pytest.raises(
        FreeUValueError, match=r"unknown noun \(the scene reader was not trained on it\) 'foxx': did you mean fox"
    ):
        check_readable(PromptSpec(nouns=("foxx",)), reader)
    with pytest.raises(FreeUValueError, match="unknown colour"):
        check_readable(PromptSpec(nouns=("fox",), colours=("red",)), reader)


def test_a_zoo_without_a_reader_says_so(monkeypatch):
    zoo = importlib.import_module("freeu_zoo")
    monkeypatch.delattr(zoo, "load_reader", raising=False)
    with pytest.raises(FreeUValueError, match="this freeu-zoo has no scene reader"):
        load_reader()

    def nothing(device):
        raise ValueError("no weights")

    monkeypatch.setattr(zoo, "load_reader", nothing, raising=False)
    with pytest.raises(FreeUValueError, match=r"this freeu-zoo has no scene reader \(no weights\)"):
        load_reader()

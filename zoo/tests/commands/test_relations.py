from __future__ import annotations

import json

import numpy as np
import pytest
from freeu_zoo import recipe, relations
from freeu_zoo.errors import ZooError
from freeu_zoo.world import captions, scenes
from PIL import Image

WORLD = recipe.shipped("mini-sd").world


def _rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("relation", scenes.RELATIONS)
def test_exemplars_show_the_relation_and_prompts_have_other_nouns(tmp_path, relation) -> None:
    folder = tmp_path / "r"
    words = [str(folder), "--relation", relation, "--count", "6", "--prompts", "9", "--token", "<next>"]
    assert relations.main(words) == 0
    shown, tested = relations.divided(WORLD, 9000)
    made = relations.scenes_of(shown, relation, 6, 9000, held_out=False)
    assert sorted(path.name for path in folder.glob("*.png")) == [f"{i:04}.png" for i in range(6)]
    lines = _rows(folder / "captions.jsonl")
    for number, scene in enumerate(made):
        with Image.open(folder / f"{number:04}.png") as picture:
            np.testing.assert_array_equal(picture, scenes.compose(scene))
        assert scene.relation == relation
        assert not scene.held_out()
        texts = [line["caption"] for line in lines if line["file"] == f"{number:04}.png"]
        assert len(texts) == len(set(texts)) >= 2
        for text in texts:
            assert f" {scene.things[0].noun} <next> " in text
            assert scene.things[1].noun in text
    said = [phrase for phrases in captions.PHRASES.values() for phrase in phrases if phrase not in ("on", "in")]
    assert not [line for line in lines for phrase in said if f" {phrase} " in line["caption"]]
    rows = _rows(folder / "prompts.jsonl")
    assert len({frozenset(row["asked"]["nouns"]) for row in rows}) == len(rows) == 9
    for row in rows:
        assert row["prompt"].count("<next>") == 1
        assert row["asked"]["relation"] == relation
        assert set(row["asked"]["nouns"]) <= set(tested.nouns)
        assert not set(row["asked"]["nouns"]) & set(shown.nouns)


def test_no_pair_of_nouns_comes_twice() -> None:
    shown, _ = relations.divided(WORLD, 1)
    made = relations.scenes_of(shown, "on", 20, 1, held_out=False)
    assert len({frozenset(thing.noun for thing in scene.things) for scene in made}) == 20


def test_a_seed_gives_the_same_and_another_seed_others() -> None:
    def exemplars(seed: int) -> list[scenes.Scene]:
        return relations.scenes_of(relations.divided(WORLD, seed)[0], "behind", 3, seed, held_out=False)

    assert exemplars(2) == exemplars(2) != exemplars(3)


def test_a_caption_without_a_word_of_its_own_is_what_it_was() -> None:
    scene = relations.scenes_of(relations.divided(WORLD, 5)[0], "inside", 1, 5, held_out=False)[0]
    plain = captions.plain_caption(scene)
    assert captions.plain_caption(scene, relation="inside") == plain
    assert captions.plain_caption(scene, relation="<R>") == plain.replace(" inside ", " <R> ")


def test_a_world_can_be_too_small() -> None:
    with pytest.raises(ZooError, match="2 nouns make 1 pairs, and 5 are wanted"):
        relations.scenes_of(scenes.World(("fox", "cat"), layouts={"pair": 1.0}), "on", 5, 0, held_out=False)
    held_out = [("relation", a, "on", b) for a, b in (("car", "star"), ("star", "car"))]
    assert not any(map(scenes.is_held_out, held_out))
    lone = scenes.World(("car", "star"), ("3d",), ("black",), {"pair": 1.0}, gradients=0, recoloured=0)
    with pytest.raises(ZooError, match="no 1 pairs 'on', only some 0"):
        relations.scenes_of(lone, "on", 1, 0, held_out=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--relation", "beside"],
        ["--relation", "on", "--count", "0"],
        ["--relation", "on", "--token", "two words"],
        ["--relation", "on", "--recipe", "nothing"],
        ["--relation", "on", "--recipe", "mini-modelscope"],
        ["--relation", "on", "--count", "100000"],
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, arguments) -> None:
    assert relations.main([str(tmp_path / "r"), *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_left_alone(tmp_path, capsys) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert relations.main([str(tmp_path), "--relation", "on"]) == 2
    assert "name a folder that does not" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

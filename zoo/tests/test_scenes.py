from __future__ import annotations

import random

import numpy as np
import pytest

pytest.importorskip("PIL")

from freeu_zoo import scenes, sprites

NOUNS = ("fox", "apple", "rocket")


@pytest.fixture
def maker(sprite_folder) -> scenes.SceneMaker:
    return scenes.SceneMaker(NOUNS, sprite_folder, seed=3)


def test_same_number_same_picture(maker, sprite_folder) -> None:
    again = scenes.SceneMaker(NOUNS, sprite_folder, seed=3)
    for number in (0, 17, 10**6):
        assert maker.scene(number) == again.scene(number)
        np.testing.assert_array_equal(maker.picture(maker.scene(number)), again.picture(again.scene(number)))


def test_another_seed_moves_the_object(maker, sprite_folder) -> None:
    other = scenes.SceneMaker(NOUNS, sprite_folder, seed=4)
    assert [maker.scene(n) for n in range(20)] != [other.scene(n) for n in range(20)]


def test_consecutive_scenes_are_balanced(maker) -> None:
    kinds = [(s.noun, s.style, s.colour) for s in map(maker.scene, range(maker.combinations))]
    assert len(set(kinds)) == len(kinds) == 3 * 2 * 8


def test_object_is_large_and_inside(maker) -> None:
    for number in range(100):
        scene = maker.scene(number)
        assert 84 <= scene.long_side <= 112
        picture = np.asarray(maker.picture(scene)).astype(int)
        assert picture.shape == (128, 128, 3)
        changed = np.abs(picture - np.array(scenes.COLOURS[scene.colour])).sum(axis=2) > 30
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        assert scene.long_side - 12 <= extent <= scene.long_side + 1


def test_captions_say_what_is_there() -> None:
    scene = scenes.Scene("apple", "flat", "orange", 90, 0, 0)
    draw = random.Random(0)
    texts = [scenes.caption(scene, draw) for _ in range(300)]
    assert all("apple" in text for text in texts)
    assert not any(" a apple" in f" {text}" or "a orange" in text.split(",")[0] for text in texts if " a " not in text)
    assert "a flat apple on an orange background" in texts
    assert scenes.plain_caption("apple", "flat", "orange") == "a flat apple on an orange background"
    empty = [scenes.caption(scene, draw, drop=0.5) == "" for _ in range(300)]
    assert 100 < sum(empty) < 200


def test_every_noun_has_both_pictures(sprite_folder) -> None:
    for noun in sprites.table().nouns:
        for style in sprites.STYLES:
            assert max(sprites.load(sprite_folder, style, noun).size) == sprites.SIZE

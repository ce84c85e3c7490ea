from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("PIL")

from freeu_zoo.errors import ZooError
from freeu_zoo.world import captions, layouts, scenes, sprites
from freeu_zoo.world.scenes import Scene, SceneMaker, Thing, World

NOUNS = tuple(sprites.table().nouns)
WORLD = World(NOUNS)
LAYOUTS = ("single", "placed", "count", "pair", "trio")


@pytest.fixture(scope="module")
def some() -> list[Scene]:
    maker = SceneMaker(WORLD, seed=3)
    return [maker.scene(number) for number in range(1500)]


def test_same_number_same_picture() -> None:
    first, again, other = SceneMaker(WORLD, seed=3), SceneMaker(WORLD, seed=3), SceneMaker(WORLD, seed=4)
    for number in (0, 17, 10**6):
        assert first.scene(number) == again.scene(number)
        np.testing.assert_array_equal(scenes.compose(first.scene(number)), scenes.compose(again.scene(number)))
    assert [first.scene(n) for n in range(20)] != [other.scene(n) for n in range(20)]


def test_consecutive_scenes_are_balanced_in_noun_and_style() -> None:
    maker = SceneMaker(World(NOUNS[:7], layouts={"single": 1.0}), seed=0)
    seen = Counter((s.things[0].noun, s.style) for s in map(maker.scene, range(7 * 3 * 5)))
    assert set(seen.values()) == {5}
    assert len(seen) == 7 * 3


def test_every_kind_of_scene_appears(some: list[Scene]) -> None:
    assert {scene.layout for scene in some} == set(LAYOUTS)
    assert {scene.relation for scene in some} == {*layouts.RELATIONS, None}
    assert {scene.style for scene in some} == set(sprites.STYLES)
    assert {ground for scene in some for ground in scene.background} == set(scenes.COLOURS)
    assert {len(scene.things) for scene in some} == {1, 2, 3, 4}
    assert 0.05 < np.mean([len(scene.background) == 2 for scene in some]) < 0.2
    assert {scene.position for scene in some} >= set(layouts.POSITIONS)


def test_boxes_lie_in_the_picture(some: list[Scene]) -> None:
    for scene in some:
        for thing in scene.things:
            assert 0 <= thing.left <= thing.left + thing.width <= scenes.SIZE, scene
            assert 0 <= thing.top <= thing.top + thing.height <= scenes.SIZE, scene


def overlap(a: Thing, b: Thing) -> int:
    wide = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
    high = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
    return max(0, wide) * max(0, high)


def test_relations_hold_in_the_boxes(some: list[Scene]) -> None:
    """The claim of a caption can be seen: checked on the boxes, not on the code that drew them."""
    pairs = [scene for scene in some if scene.relation is not None]
    assert len(pairs) > 300
    for scene in pairs:
        a, b = scene.things
        middle = (a.left + a.width / 2, a.top + a.height / 2)
        if scene.relation in ("left of", "right of"):
            first, second = (a, b) if scene.relation == "left of" else (b, a)
            assert first.left + first.width <= second.left
        elif scene.relation in ("above", "below"):
            first, second = (a, b) if scene.relation == "above" else (b, a)
            assert first.top + first.height <= second.top
        elif scene.relation == "on":
            assert a.top + a.height / 2 < b.top
            assert 0 <= a.top + a.height - b.top < 0.3 * b.height  # touches, from above
        elif scene.relation == "inside":
            assert b.left < middle[0] < b.left + b.width
            assert b.top < middle[1] < b.top + b.height
            assert a.width * a.height < 0.4 * b.width * b.height or min(b.width, b.height) < 60
            assert scene.painting_order == (b, a)
        else:
            assert scene.relation == "behind"
            assert scene.painting_order == (a, b)
            assert 0.03 < overlap(a, b) / (a.width * a.height) < 0.8


def test_objects_that_are_counted_do_not_touch(some: list[Scene]) -> None:
    for scene in some:
        if scene.layout in ("count", "trio"):
            boxes = scene.things
            assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i]), scene


def test_colours_are_seen_on_other_colours(some: list[Scene]) -> None:
    for scene in some:
        for thing in scene.things:
            assert thing.colour not in scene.background


def test_pictures_show_background_and_object() -> None:
    maker = SceneMaker(World(NOUNS, layouts={"single": 1.0}, gradients=0.0), seed=5)
    for number in range(60):
        scene = maker.scene(number)
        picture = np.asarray(scenes.compose(scene)).astype(int)
        assert picture.shape == (128, 128, 3)
        changed = np.abs(picture - np.array(scenes.COLOURS[scene.background[0]])).sum(axis=2) > 30
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        thing = scene.things[0]
        assert thing.left <= columns.min() <= columns.max() < thing.left + thing.width
        assert thing.top <= rows.min() <= rows.max() < thing.top + thing.height
        assert changed.mean() > 0.02, scene


@pytest.mark.parametrize("style", sprites.STYLES)
@pytest.mark.parametrize("colour", scenes.COLOURS)
def test_recoloured_objects_have_the_colour(style: str, colour: str) -> None:
    """Weighed by its alpha, a recoloured sprite is nearer to its colour than to any other."""
    if style == "line" and colour in ("black", "white"):
        pytest.skip("a line drawing is black or white already")
    for noun in ("elephant", "rocket", "star"):
        sprite = np.asarray(scenes.coloured(style, noun, colour), dtype=float)
        weight = sprite[..., 3:] / sprite[..., 3].sum()
        mean = (sprite[..., :3] * weight).sum((0, 1))
        nearest = min(scenes.COLOURS, key=lambda name: float(np.abs(mean - scenes.COLOURS[name]).sum()))
        assert nearest == colour, (noun, mean)


def test_gradient_goes_from_top_to_bottom() -> None:
    picture = np.asarray(scenes.ground(("blue", "pink")))
    np.testing.assert_array_equal(picture[0, 5], scenes.COLOURS["blue"])
    np.testing.assert_array_equal(picture[-1, 9], scenes.COLOURS["pink"])
    assert (np.diff(picture[:, 0, 0].astype(int)) >= 0).all()


def test_training_never_shows_what_is_held_out() -> None:
    shown = SceneMaker(WORLD, seed=1, held_out=False)
    kept = SceneMaker(WORLD, seed=1, held_out=True)
    for number in range(400):
        assert not shown.scene(number).held_out()
        assert kept.scene(number).held_out()
    combinations = [
        ("relation", a, relation, b) for a in NOUNS[:40] for b in NOUNS[:40] for relation in layouts.RELATIONS
    ]
    assert 0.08 < np.mean([scenes.is_held_out(c) for c in combinations]) < 0.12


def test_the_first_lesson_holds_nothing_out() -> None:
    from freeu_zoo import recipe

    world = recipe.shipped("mini-sd-24").world
    maker = SceneMaker(world, seed=0)
    assert not any(maker.scene(number).held_out() for number in range(2000))


def test_captions_say_what_is_there() -> None:
    draw = random.Random(0)
    apple = Thing("apple", None, 10, 10, 90, 90)
    scene = Scene("flat", ("orange",), "single", (apple,))
    assert captions.plain_caption(scene) == "a flat apple on an orange background"
    assert captions.simple_caption("apple", "flat", "orange") == "a flat apple on an orange background"
    texts = [captions.caption(scene, draw) for _ in range(300)]
    assert all("apple" in text for text in texts)
    assert len(set(texts)) > 30
    empty = [captions.caption(scene, draw, drop=0.5) == "" for _ in range(300)]
    assert 100 < sum(empty) < 200


@pytest.mark.parametrize(
    ("scene", "plain"),
    [
        (
            Scene("3d", ("blue", "pink"), "single", (Thing("elephant", "purple", 0, 0, 90, 90),)),
            "a 3d purple elephant on a blue to pink gradient background",
        ),
        (
            Scene("line", ("green",), "count", (Thing("fox", None, 0, 0, 40, 40),) * 3),
            "three line foxes on a green background",
        ),
        (
            Scene(
                "flat",
                ("red",),
                "pair",
                (Thing("owl", None, 0, 0, 40, 40), Thing("pizza", "blue", 60, 0, 40, 40)),
                relation="left of",
            ),
            "a flat owl to the left of a blue pizza on a red background",
        ),
        (
            Scene(
                "flat",
                ("grey",),
                "trio",
                tuple(Thing(noun, None, 0, 0, 40, 40) for noun in ("owl", "fox", "apple")),
            ),
            "a flat owl, a fox and an apple on a grey background",
        ),
        (
            Scene("3d", ("white",), "placed", (Thing("car", None, 4, 4, 40, 40),), size="small", position="top left"),
            "a small 3d car in the top left corner on a white background",
        ),
    ],
)
def test_plain_captions(scene: Scene, plain: str) -> None:
    assert captions.plain_caption(scene) == plain


def test_full_captions_name_everything(some: list[Scene]) -> None:
    draw = random.Random(1)
    for scene in some[:500]:
        text = captions.full_caption(scene, draw)
        for thing in scene.things:
            assert thing.noun in text or sprites.plural(thing.noun) in text
            assert thing.colour is None or thing.colour in text
        assert scene.style in text
        assert all(colour in text for colour in scene.background)
        if scene.relation is not None:
            assert any(phrase in text for phrase in captions.PHRASES[scene.relation])
        if scene.layout == "count":
            assert captions.NUMBERS[len(scene.things) - 1] in text


def test_every_word_of_a_caption_is_known(some: list[Scene]) -> None:
    draw = random.Random(2)
    known = captions.words()
    for scene in some[:500]:
        text = captions.full_caption(scene, draw).replace(",", " ")
        assert set(text.split()) <= known, text


def test_no_object_vanishes_on_its_background() -> None:
    assert scenes.visible_share("flat", "star", None, "yellow") < 0.01
    assert scenes.visible_share("flat", "star", None, "blue") > 0.95
    maker = SceneMaker(World(("star", "key", "moon", "fox"), styles=("flat",), layouts={"single": 1.0}), seed=0)
    made = [maker.scene(number) for number in range(400)]
    assert {scene.things[0].noun for scene in made} == {"star", "key", "moon", "fox"}
    for scene in made:
        picture = np.asarray(scenes.compose(scene), dtype=int)
        plain = np.asarray(scenes.ground(scene.background), dtype=int)
        assert (np.abs(picture - plain).sum(axis=2) > 30).mean() > 0.01, scene


def test_a_world_without_scenes_is_refused() -> None:
    world = World(("star",), styles=("flat",), colours=("yellow",), layouts={"single": 1.0}, gradients=0, recoloured=0)
    with pytest.raises(ZooError, match="an object vanishes"):
        SceneMaker(world).scene(0)


@pytest.mark.parametrize(
    ("noun", "article"), [("unicorn", "a"), ("umbrella", "an"), ("hourglass", "an"), ("house", "a"), ("owl", "an")]
)
def test_articles(noun: str, article: str) -> None:
    scene = Scene("3d", ("red",), "pair", (Thing("fox", None, 0, 0, 9, 9), Thing(noun, None, 9, 9, 9, 9)), "on")
    assert f"on top of {article} {noun} " in captions.plain_caption(scene)

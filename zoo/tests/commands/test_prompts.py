from __future__ import annotations

import json

import numpy as np
import pytest
from freeu_zoo import prompts, recipe
from freeu_zoo.errors import ZooError
from freeu_zoo.world import captions, clips, scenes
from PIL import Image, ImageSequence


def test_prompts_ask_for_what_the_scenes_show(tmp_path) -> None:
    assert prompts.main([str(tmp_path / "p.jsonl"), "--count", "30", "--scenes", str(tmp_path / "real")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    made = prompts.scenes(recipe.shipped("mini-sd").world, 30)
    assert len(rows) == len(made) == 30
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == [f"{i:04}.png" for i in range(30)]
    for number, (row, scene) in enumerate(zip(rows, made, strict=True)):
        with Image.open(tmp_path / "real" / f"{number:04}.png") as picture:
            np.testing.assert_array_equal(picture, scenes.compose(scene))
        assert scene.held_out()
        asked = row["asked"]
        assert asked["count"] == len(scene.things)
        assert len(asked["nouns"]) == len(set(asked["nouns"])) == len(asked["colours"])
        assert (asked["relation"] is None) == (scene.layout != "pair")
        assert asked["style"] in row["prompt"]
        assert number % 2 or row["prompt"] == captions.plain_caption(scene)
    assert {row["layout"] for row in rows} == set(prompts.SHARES)


def test_another_seed_asks_other_things() -> None:
    world = recipe.shipped("mini-sd").world
    assert prompts.scenes(world, 9) == prompts.scenes(world, 9) != prompts.scenes(world, 9, seed=1)


def test_no_prompt_comes_twice() -> None:
    rows = prompts.rows(prompts.scenes(recipe.shipped("mini-sd").world, 1000))
    assert len({row["prompt"] for row in rows}) == 1000
    small = scenes.World(("fox", "cat"), styles=("line",), layouts={"single": 1.0}, gradients=0, recoloured=0)
    with pytest.raises(ZooError, match="no 50 different prompts"):
        prompts.scenes(small, 50)


@pytest.mark.parametrize("arguments", [["--count", "0"], ["--recipe", "nothing"]])
def test_bad_input_is_one_line(tmp_path, capsys, arguments) -> None:
    assert prompts.main([str(tmp_path / "p.jsonl"), *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_prompts_for_clips_and_the_clips_themselves(tmp_path) -> None:
    arguments = [str(tmp_path / "p.jsonl"), "--clips", "--count", "14", "--scenes", str(tmp_path / "real")]
    assert prompts.main(arguments) == 0
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    made = prompts.clips_of(recipe.shipped("mini-modelscope"), 14)
    assert [row["asked"]["motion"] for row in rows] == list(clips.MOTIONS) * 2
    for number, (row, clip) in enumerate(zip(rows, made, strict=True)):
        assert clip.held_out()
        assert any(phrase in row["prompt"] for phrase in clips.MOTIONS[clip.motion])
        with Image.open(tmp_path / "real" / f"{number:04}.png") as picture:
            assert picture.info["duration"] == 125
            frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
        np.testing.assert_array_equal(frames, [np.asarray(frame) for frame in clips.images(clip)])


@pytest.mark.parametrize("arguments", [["--clips", "--recipe", "mini-sd"], ["--recipe", "mini-modelscope"]])
def test_clips_go_with_a_video_recipe(tmp_path, capsys, arguments) -> None:
    assert prompts.main([str(tmp_path / "p.jsonl"), *arguments]) == 2
    assert "--clips goes with a recipe of kind video" in capsys.readouterr().err

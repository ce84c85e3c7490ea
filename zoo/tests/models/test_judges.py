"""The shipped judge and reader against real scenes that no training showed."""

from __future__ import annotations

import json
import random
import warnings

import freeu_zoo
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
# ruff: noqa: E402 (these imports need what is skipped for)
transformers = pytest.importorskip("transformers")

from freeu_zoo import recipe
from freeu_zoo.errors import ZooError
from freeu_zoo.reader import SceneReader
from freeu_zoo.training import judge
from freeu_zoo.training import reader as reader_training
from freeu_zoo.world import captions, degrade, scenes


@pytest.fixture(scope="module")
def reader() -> SceneReader:
    try:
        return freeu_zoo.load_reader()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def held_out() -> list[scenes.Scene]:
    """Other scenes than those of the accuracy in the card."""
    maker = scenes.SceneMaker(recipe.shipped("reader").world, seed=31337, held_out=True)
    return [maker.scene(number) for number in range(150)]


def test_reader_is_as_good_as_it_says(reader, held_out) -> None:
    stated = json.loads((freeu_zoo.reader_path() / "freeu-zoo.json").read_text(encoding="utf-8"))
    claims = stated["accuracy_on_1000_held_out"]
    draw = random.Random(0)
    clean = [scenes.compose(scene) for scene in held_out]
    worse = [degrade.some(picture, draw, 1.0) for picture in clean]
    for kind, pictures in (("clean", clean), ("degraded", worse)):
        found = reader_training.accuracy(reader, held_out, pictures)
        for aspect, value in found.items():
            claim = claims[kind][aspect]
            # Four standard errors of a share of 150 (fewer have a colour or a relation), and a little for luck.
            assert value >= claim - 4 * (claim * (1 - claim) / 40) ** 0.5 - 0.02, (kind, aspect, value, claim)


def test_reader_says_when_there_is_nothing(reader) -> None:
    """A plain image, and scenes blurred beyond recognition, have no confident noun."""
    plain = [Image.new("RGB", (128, 128), colour) for colour in scenes.COLOURS.values()]
    draw = random.Random(0)
    maker = scenes.SceneMaker(recipe.shipped("reader").world, seed=1)
    blots = [degrade.blot(scenes.compose(maker.scene(number)), draw) for number in range(40)]
    assert np.mean([reading.nouns == () for reading in reader.read(blots)]) > 0.8
    assert [reading.background for reading in reader.read(plain)] == [(name,) for name in scenes.COLOURS]


def test_reading_does_not_depend_on_batch_or_size(reader, held_out) -> None:
    pictures = [scenes.compose(scene) for scene in held_out[:7]]
    whole = reader.read(pictures)
    assert [reading.nouns for reading in reader.read(pictures, batch=2)] == [reading.nouns for reading in whole]
    large = [picture.resize((256, 256), Image.Resampling.BICUBIC) for picture in pictures]
    same = [a.nouns == b.nouns for a, b in zip(reader.read(large), whole, strict=True)]
    assert np.mean(same) > 0.8


def test_reader_directories_that_are_none_are_refused(tmp_path) -> None:
    with pytest.raises(ZooError, match="holds no scene reader"):
        SceneReader.load(tmp_path)
    (tmp_path / "freeu-zoo.json").write_text(
        '{"nouns": ["fox"], "styles": ["3d"], "colours": ["red"], "widths": [8, 8]}'
    )
    (tmp_path / "reader.safetensors").write_bytes(b"nothing")
    with pytest.raises(ZooError, match="holds no scene reader"):
        SceneReader.load(tmp_path)


@pytest.fixture(scope="module")
def clip():
    try:
        folder = freeu_zoo.judge_path()
    except ValueError as error:
        pytest.skip(str(error))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = transformers.CLIPModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
        return model, transformers.CLIPTokenizer.from_pretrained(folder), folder


def test_judge_finds_the_caption_of_a_scene(clip, held_out) -> None:
    model, tokenizer, folder = clip
    claim = json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))["retrieval_of_500_held_out"]
    found = judge.retrieval(model, tokenizer, held_out)
    assert found >= claim - 0.1  # among 150, which is easier than among 500
    assert found > 0.5


def test_judge_prefers_the_truth_in_every_aspect(clip) -> None:
    """With one word changed a caption scores lower, for nearly all scenes."""
    model, tokenizer, _ = clip
    draw = random.Random(0)
    world = scenes.World(recipe.shipped("reader").world.nouns, layouts={"single": 1.0}, recoloured=0, gradients=0)
    maker = scenes.SceneMaker(world, seed=5, held_out=True)
    pictures, right, wrong = [], [], {"noun": [], "style": [], "colour": []}
    for scene in map(maker.scene, range(100)):
        noun, style, colour = scene.things[0].noun, scene.style, scene.background[0]
        pictures.append(scenes.compose(scene))
        right.append(captions.simple_caption(noun, style, colour))
        other = [
            draw.choice([x for x in names if x != y])
            for names, y in ((world.nouns, noun), (world.styles, style), (world.colours, colour))
        ]
        wrong["noun"].append(captions.simple_caption(other[0], style, colour))
        wrong["style"].append(captions.simple_caption(noun, other[1], colour))
        wrong["colour"].append(captions.simple_caption(noun, style, other[2]))

    def score(texts: list[str]) -> torch.Tensor:
        from freeu_zoo.training import text

        with torch.no_grad():
            out = model(input_ids=text.tokens(tokenizer, texts), pixel_values=degrade.tensor(pictures))
        return (out.image_embeds * out.text_embeds).sum(-1)

    truth = score(right)
    for aspect, texts in wrong.items():
        assert float((truth > score(texts)).float().mean()) > 0.85, aspect


@pytest.mark.parametrize("find", [freeu_zoo.judge_path, freeu_zoo.reader_path])
def test_judges_are_small(find) -> None:
    try:
        folder = find()
    except ValueError as error:
        pytest.skip(str(error))
    assert 0 < sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 20e6

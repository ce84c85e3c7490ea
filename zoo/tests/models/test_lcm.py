"""The shipped distilled model: a small addition to the image model that needs four steps and no guidance."""

from __future__ import annotations

import json

import freeu_zoo
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
# ruff: noqa: E402 (these imports need what is skipped for)
from freeu_zoo import assemble, grid, recipe
from freeu_zoo.files import sha256
from freeu_zoo.prompts import scenes
from freeu_zoo.world import captions

import freeu

NAME = "mini-lcm"


@pytest.fixture(scope="module")
def folder():
    """As it is shipped."""
    if NAME not in freeu_zoo.models():
        pytest.skip(f"{NAME} is not in this checkout")
    return freeu_zoo.models()[NAME]


@pytest.fixture(scope="module")
def facts(folder) -> dict:
    return json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pipe(folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(assemble.CACHE, str(tmp_path_factory.mktemp("cache")))
        made = diffusers.StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path(NAME))
    made.set_progress_bar_config(disable=True)
    return made


def test_it_is_small_and_belongs_to_the_image_model(folder, facts) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 12e6
    parent = freeu_zoo.model_path(facts["parent"])
    assert facts["parent_sha256"] == sha256(parent / assemble.WEIGHTS)
    theirs = json.loads((parent / "freeu-zoo.json").read_text(encoding="utf-8"))
    assert facts["words"] == theirs["words"]


def test_four_steps_show_what_was_asked_for(pipe, facts) -> None:
    """Single objects: most nouns are right, which its parent needs more steps or guidance for."""
    made = [scene for scene in scenes(recipe.shipped(NAME).world, 60) if scene.layout == "single"][:16]
    asked = [captions.plain_caption(scene) for scene in made]
    steps, scale = facts["default_steps"], facts["default_guidance_scale"]
    assert (steps, scale) == (4, 1.0)
    images = grid.generate(pipe, asked, steps, scale, list(range(len(asked))))
    readings = freeu_zoo.load_reader().read(images)
    right = [scene.things[0].noun in reading.nouns for scene, reading in zip(made, readings, strict=True)]
    assert sum(right) / len(right) > 0.6


def test_freeu_acts_on_its_single_batch(pipe, facts) -> None:
    def draw():
        generator = torch.Generator().manual_seed(0)
        settings = {"num_inference_steps": 2, "guidance_scale": facts["default_guidance_scale"]}
        return pipe("a flat cat on a red background", generator=generator, output_type="latent", **settings).images

    plain = draw()
    changed = {}
    for guidance in ("both", "conditional"):
        with freeu.enabled(pipe, freeu.preset("sd14").replace(guidance=guidance)) as handle:
            changed[guidance] = draw()
            handle.verify()
    assert not torch.equal(changed["both"], plain)
    torch.testing.assert_close(changed["conditional"], changed["both"], rtol=0, atol=0)  # every row sees the prompt
    torch.testing.assert_close(draw(), plain, rtol=0, atol=0)

"""The shipped ControlNet is a genuine one for the shipped image model, and images get the edges that it is given."""

from __future__ import annotations

import json

import freeu_zoo
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("cv2")
# ruff: noqa: E402 (these imports need what is skipped for)
from freeu_zoo import recipe
from freeu_zoo.export import control as control_export
from freeu_zoo.training import control
from freeu_zoo.world import captions, edges, scenes


@pytest.fixture(scope="module")
def pipe():
    return control_export.pipeline(freeu_zoo.model_path("mini-sd"), freeu_zoo.control_path())


def test_it_fits_the_image_model(pipe) -> None:
    assert type(pipe).__name__ == "StableDiffusionControlNetPipeline"
    unet, network = pipe.unet.config, pipe.controlnet.config
    for name in ("block_out_channels", "layers_per_block", "cross_attention_dim", "in_channels"):
        assert network[name] == unet[name], name
    # Images shrink as often as on their way to latents.
    assert 2 ** (len(network.conditioning_embedding_out_channels) - 1) == pipe.vae_scale_factor == 4


def test_pictures_get_the_edges_that_it_is_given(pipe) -> None:
    shipped = recipe.shipped("mini-canny")
    made = scenes.held_out_scenes(shipped.world, 3, seed=77)
    pictures = [scenes.compose(scene) for scene in made]
    asked, seeds = [captions.plain_caption(scene) for scene in made], [0, 1, 2]
    found = {
        scale: control_export.generate(pipe, shipped, asked, control.condition(pictures), seeds, scale=scale)
        for scale in (0.0, 1.0)
    }
    wanted = [edges.canny(picture) for picture in pictures]
    mean = {
        scale: sum(edges.agreement(edges.canny(a), b) for a, b in zip(some, wanted, strict=True)) / 3
        for scale, some in found.items()
    }
    assert mean[1.0] > mean[0.0] + 0.15


def test_the_card_says_what_was_measured() -> None:
    folder = freeu_zoo.control_path()
    facts = json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))
    assert (facts["kind"], facts["parent"], facts["control"]) == ("control", "mini-sd", "canny")
    found = facts["edge_agreement"]
    assert found["without"] < found["with"] < found["coded"] <= 1.0
    assert f"| with the edges | {found['with']:.3f} |" in (folder / "README.md").read_text(encoding="utf-8")
    assert "mini-canny" not in freeu_zoo.models()

"""The nodes in ComfyUI's own core: the same images as its own nodes, and the model as it was."""

import pytest
import torch
from comfyui_model import run_node, sampled, small_model
from tolerances import COMFYUI, relative_error

import freeu

FACTORS = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}


def exact(nodes, model, **inputs):
    return run_node(nodes, "FreeUExact", model=model, **{**FACTORS, **inputs})


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize(("version", "name"), [("1", "FreeU"), ("2", "FreeU_V2")])
def test_the_same_image_as_the_cores_own_node(nodes, family, version, name):
    model = small_model(family)
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    plain = sampled(model)
    core = sampled(run_node(nodes, name, model=model, **FACTORS))
    ours = sampled(exact(nodes, model, version=version))
    assert relative_error(ours, core) < COMFYUI
    assert relative_error(plain, core) > 100 * COMFYUI
    assert torch.equal(sampled(model), plain)
    for key, value in model.model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_ones_change_nothing(nodes, model, plain):
    ours = exact(nodes, model, b1=1.0, b2=1.0, s1=1.0, s2=1.0)
    assert ours is not model
    assert torch.equal(sampled(ours), plain)


def test_sites_are_those_that_a_traced_pass_finds(nodes, model):
    unet = model.model.diffusion_model
    given = torch.randn(1, 4, 16, 16), torch.tensor([500.0]), torch.randn(1, 7, 16)
    found = freeu.inspect(unet, example_args=given).sites
    patch = exact(nodes, model).model_options["transformer_options"]["patches"]["output_block_patch"][0]
    named = [(site.path, site.backbone_channels, site.skip_channels, site.stage) for site in patch.sites]
    assert named == [(site.path, site.backbone_channels, site.skip_channels, site.stage) for site in found]
    assert [site.stage for site in patch.sites] == [1] * 7 + [2] * 3 + [3] * 2

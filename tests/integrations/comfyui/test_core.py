"""The nodes in ComfyUI's own core: the same images as its own nodes, and the model as it was."""

import asyncio
import importlib

import pytest
import torch
from comfyui_model import conditioning, run_node, sampled, small_model
from tolerances import COMFYUI, relative_error

import freeu

FACTORS = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}


def exact(nodes, model, **inputs):
    return run_node(nodes, "FreeUExact", model=model, **{**FACTORS, **inputs})


def patch_of(model):
    """The one patch of a MODEL's output blocks."""
    (found,) = model.model_options["transformer_options"]["patches"]["output_block_patch"]
    return found


def gated(model, core, acts):
    """The core's own node on a model, in the calls alone for which ``acts(transformer_options)`` is true."""
    whole = patch_of(core)
    clone = model.clone()
    clone.set_model_output_block_patch(lambda h, hsp, options: whole(h, hsp, options) if acts(options) else (h, hsp))
    return clone


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


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_sites_are_those_that_a_traced_pass_finds(nodes, family):
    model = small_model(family)
    unet = model.model.diffusion_model
    given = torch.randn(1, 4, 16, 16), torch.tensor([500.0]), torch.randn(1, 7, 16)
    found = freeu.inspect(unet, example_args=given).sites
    names = ("path", "backbone_channels", "skip_channels", "stage")
    sites = patch_of(exact(nodes, model)).sites
    assert [[getattr(site, name) for name in names] for site in sites] == [
        [getattr(site, name) for name in names] for site in found
    ]
    assert [site.stage for site in sites] == (
        [1] * 7 + [2] * 3 + [3] * 2 if family == "sd15" else [1] * 4 + [2] * 3 + [3] * 2
    )


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_as_diffusers_acts(nodes, family):
    sites = patch_of(exact(nodes, small_model(family), config="profile=diffusers")).sites
    assert [site.stage_in("diffusers") for site in sites] == [1] * 3 + [2] * 3 + [None] * (len(sites) - 6)


def test_a_window_in_percent_is_that_of_the_noise_level(nodes, model, plain):
    last = model.get_model_object("model_sampling").percent_to_sigma(0.5)
    core = run_node(nodes, "FreeU_V2", model=model, **FACTORS)
    wanted = sampled(gated(model, core, lambda options: float(options["sigmas"][0]) > last))
    ours = sampled(exact(nodes, model, end=0.5))
    assert relative_error(ours, wanted) < COMFYUI
    assert relative_error(ours, plain) > 100 * COMFYUI
    assert relative_error(ours, sampled(core)) > 100 * COMFYUI


@pytest.mark.parametrize("sampler", ["euler", "dpm_2"])
def test_a_fraction_is_one_of_the_samplers_steps(nodes, model, sampler):
    core = run_node(nodes, "FreeU_V2", model=model, **FACTORS)

    def acts(options):
        third = options["sample_sigmas"][2]  # of four steps, the first two
        return float(options["sigmas"][0]) > float(third) * (1.0 + 1e-4)

    wanted = sampled(gated(model, core, acts), sampler_name=sampler)
    ours = sampled(exact(nodes, model, config="end=0.5"), sampler_name=sampler)
    assert relative_error(ours, wanted) < COMFYUI


def test_a_schedule_by_timestep_and_by_sigma(nodes, model):
    sampling = model.get_model_object("model_sampling")
    sigma = float(sampling.sigma(torch.tensor(500.0)))
    by_timestep = sampled(exact(nodes, model, config="unit=timestep start=1000 end=500"))
    by_sigma = sampled(exact(nodes, model, config=f"unit=sigma start=1000 end={sigma}"))
    assert torch.equal(by_timestep, by_sigma)
    assert not torch.equal(by_sigma, sampled(exact(nodes, model)))


def predictions(model):
    """What the first step predicts for the positive and for the negative prompt."""
    seen = []
    clone = model.clone()

    def note(args):
        seen.append((args["cond_denoised"].clone(), args["uncond_denoised"].clone()))
        return args["uncond"] + args["cond_scale"] * (args["cond"] - args["uncond"])

    clone.set_model_sampler_cfg_function(note)
    sampled(clone, steps=2)
    return seen[0]


def test_the_positive_half_alone(nodes, model):
    positive, negative = predictions(exact(nodes, model, config="guidance=conditional"))
    assert relative_error(positive, predictions(exact(nodes, model))[0]) < COMFYUI
    assert relative_error(negative, predictions(model)[1]) < COMFYUI
    assert relative_error(positive, predictions(model)[0]) > 100 * COMFYUI


def test_a_shared_map_needs_both_halves_in_one_batch(nodes, model):
    ours = exact(nodes, model, config="share=guidance")
    assert not torch.equal(sampled(ours), sampled(exact(nodes, model)))
    assert torch.equal(sampled(ours, cfg=1.0), sampled(exact(nodes, model), cfg=1.0))
    with pytest.raises(freeu.FreeURuntimeError, match="one positive and one negative part"):
        sampled(ours, positive=conditioning(2) + conditioning(4))


def test_a_region(nodes, model, plain):
    whole = sampled(exact(nodes, model))
    assert relative_error(sampled(exact(nodes, model, region=torch.ones(1, 64, 64))), whole) < COMFYUI
    assert torch.equal(sampled(exact(nodes, model, region=torch.zeros(1, 64, 64))), plain)
    half = torch.zeros(2, 64, 64)
    half[1, :, 32:] = 1.0
    both = sampled(exact(nodes, model, region=half), images=2)
    alone = sampled(model, images=2)
    assert relative_error(both[:1], alone[:1]) < COMFYUI
    assert relative_error(both[1:], alone[1:]) > 100 * COMFYUI
    with pytest.raises(freeu.FreeURuntimeError, match="2 masks for 1 images"):
        sampled(exact(nodes, model, region=half))


def test_a_transformer_gets_one_line(nodes):
    from comfy.model_patcher import ModelPatcher
    from comfy.supported_models import Flux

    sizes = {"hidden_size": 32, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 6, 6]}
    config = Flux(
        {
            "image_model": "flux",
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "vec_in_dim": 8,
            "context_in_dim": 8,
            "mlp_ratio": 2.0,
            "theta": 10000,
            "qkv_bias": True,
            "guidance_embed": False,
            "txt_ids_dims": [],
            **sizes,
        }
    )
    model = ModelPatcher(config.get_model({}, "", device=torch.device("cpu")), torch.device("cpu"), torch.device("cpu"))
    with pytest.raises(KeyError):
        run_node(nodes, "FreeU_V2", model=model, **FACTORS)
    for name, inputs in (("FreeUExact", FACTORS), ("FreeUInspect", {})):
        with pytest.raises(freeu.NoSitesError) as caught:
            run_node(nodes, name, model=model, **inputs)
        assert "Flux of Flux is no such U-Net" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_inspector_names_every_place_and_other_nodes(nodes, model):
    ours = exact(nodes, model, end=0.5, config="skip_gain=0.5")
    lines = run_node(nodes, "FreeUInspect", model=ours).splitlines()
    assert lines[0] == "BaseModel: 12 concatenations, base width 32"
    assert lines[1].startswith("FreeU (exact) changes 12 of them: b1=1.3 b2=1.4")
    assert lines[4].split() == ["0", "output_blocks.0.0", "128", "128", "1", "1.3", "0.45", "0.5"]
    assert lines[-1].split() == ["11", "output_blocks.11.0", "32", "32", "3", "1", "0.5", "0.5"]
    twice = run_node(nodes, "FreeU_V2", model=ours, **FACTORS)
    assert "FreeU acts more than once" in run_node(nodes, "FreeUInspect", model=twice)
    assert "no FreeU (exact) on this model" in run_node(nodes, "FreeUInspect", model=model)


def test_presets_win_over_the_widgets(nodes, model, tmp_path):
    text = run_node(nodes, "FreeUPreset", preset="sd15")
    assert freeu.FreeUConfig.from_json(text) == freeu.preset("sd15")
    assert patch_of(exact(nodes, model, config=text)).config == freeu.preset("sd15")


def test_the_core_can_replace_its_nodes_by_ours(nodes, serving, monkeypatch):
    prompt = {
        "1": {"class_type": "FreeU_V2", "inputs": {"model": ["2", 0], **FACTORS}, "_meta": {"title": "FreeU_V2"}},
        "3": {"class_type": "ModelSave", "inputs": {"model": ["1", 0]}, "_meta": {"title": ""}},
    }
    kept = {number: dict(node) for number, node in prompt.items()}
    serving.node_replace_manager.apply_replacements(prompt)
    assert prompt == kept  # it has the node itself
    monkeypatch.delitem(nodes.NODE_CLASS_MAPPINGS, "FreeU_V2")
    serving.node_replace_manager.apply_replacements(prompt)
    assert prompt["1"]["class_type"] == "FreeUExact"
    assert prompt["1"]["inputs"] == {"model": ["2", 0], **FACTORS, "version": "2", "start": 0.0, "end": 1.0}
    assert prompt["3"]["inputs"] == {"model": ["1", 0]}
    required = nodes.NODE_CLASS_MAPPINGS["FreeUExact"].INPUT_TYPES()["required"]
    assert required.keys() == prompt["1"]["inputs"].keys()


def test_the_core_reads_the_packs_project_file(nodes):
    from comfy_config import config_parser
    from comfyui_model import PACK

    found = config_parser.extract_node_configuration(str(PACK))
    assert found.project.name == "freeu-nodes"
    assert found.project.dependencies == ["freeu"]
    assert found.tool_comfy.display_name == "FreeU (exact)"
    assert "comfyui" not in found.project.name.lower()


def test_every_node_is_documented_in_both_languages(nodes):
    from comfyui_model import PACK

    pack = nodes.NODE_CLASS_MAPPINGS["FreeUExact"].__module__.rpartition(".nodes.")[0]
    entry = importlib.import_module(f"{pack}.nodes").comfy_entrypoint
    extension = asyncio.run(entry())
    names = {node.GET_SCHEMA().node_id for node in asyncio.run(extension.get_node_list())}
    assert {path.name for path in (PACK / "web" / "docs").iterdir()} == names
    for name in names:
        inputs = nodes.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()
        for language in ("en", "zh"):
            text = (PACK / "web" / "docs" / name / f"{language}.md").read_text(encoding="utf-8")
            for given in (*inputs.get("required", {}), *inputs.get("optional", {})):
                assert f"`{given}`" in text, f"{name}/{language}.md does not mention {given}"

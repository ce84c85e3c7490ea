"""FreeUGuidance in diffusers' modular pipelines: against arithmetic by hand, by branch and step, saved and undone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import (
    AdaptiveProjectedGuidance,
    ClassifierFreeGuidance,
    HeunDiscreteScheduler,
    LayerSkipConfig,
    PerturbedAttentionGuidance,
    UNet2DConditionModel,
)
from diffusers.modular_pipelines import ComponentSpec, StableDiffusionXLAutoBlocks
from tiny_pipelines import tiny_xl_pipeline
from tolerances import UNET, relative_error

import freeu
from freeu.errors import FreeURuntimeError, FreeUValueError

PROMPTS = ["a fox", "a cat on a mat"]
STEPS = 4
SDXL = freeu.preset("sdxl")
CONDITIONAL = SDXL.replace(guidance="conditional")


@pytest.fixture(scope="module")
def made() -> Any:
    pipe = tiny_xl_pipeline()
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    modular = StableDiffusionXLAutoBlocks().init_pipeline()
    modular.update_components(**{name: getattr(pipe, name) for name in names})
    return pipe, modular


@pytest.fixture
def pipe(made: Any) -> Iterator[Any]:
    """A modular pipeline of tiny random weights, with plain guidance."""
    modular, scheduler = made[1], made[1].scheduler
    modular.update_components(guider=ClassifierFreeGuidance(5.0))
    yield modular
    modular.update_components(scheduler=scheduler)
    freeu.remove_all(modular)


def sample(pipe: Any, **settings: Any) -> torch.Tensor:
    """Latents of two images."""
    generator = torch.Generator().manual_seed(3)
    usual = {"prompt": PROMPTS, "width": 16, "height": 16, "num_inference_steps": STEPS, "generator": generator}
    made: torch.Tensor = pipe(**usual | settings, output_type="latent", output="latents")
    return made


def guided(pipe: Any, config: Any, inner: Any = None, **settings: Any) -> torch.Tensor:
    pipe.update_components(guider=freeu.FreeUGuidance(inner or ClassifierFreeGuidance(5.0), config))
    return sample(pipe, **settings)


def untouched(unet: Any) -> bool:
    """Whether nothing of FreeU is left in a U-Net."""
    hooks = [module._forward_hooks or module._forward_pre_hooks for module in unet.modules()]
    return not any(hooks) and not [name for name in vars(unet) if "freeu" in name]


def by_hand(pipe: Any, scale: float, first_step: int) -> torch.Tensor:
    """Classifier-free guidance with the published FreeU at the conditional call, written out."""
    unet, scheduler, reference = pipe.unet, pipe.scheduler, freeu.ops.reference
    text, empty, pooled, empty_pooled = pipe.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=True)
    ids = torch.tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]] * 2)
    acts = False

    def published(site: Any) -> Any:
        def hook(_module: Any, args: Any) -> Any:
            if not acts or site.stage not in (1, 2):
                return None
            b, s = SDXL.b[site.stage - 1], SDXL.s[site.stage - 1]
            h, skip = args[0][:, : site.backbone_channels], args[0][:, site.backbone_channels :]
            changed = reference.scale_backbone(h, b, version=2), reference.filter_skip(skip, s, threshold=1)
            return (torch.cat(changed, dim=1), *args[1:])

        return hook

    hooks = [site.module.register_forward_pre_hook(published(site)) for site in freeu.inspect(unet)]
    scheduler.set_timesteps(STEPS)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * scheduler.init_noise_sigma
    with torch.no_grad():
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.scale_model_input(latents, t)
            acts = i >= first_step
            added = {"text_embeds": pooled, "time_ids": ids}
            cond = unet(x, t, encoder_hidden_states=text, added_cond_kwargs=added).sample
            acts = False
            added = {"text_embeds": empty_pooled, "time_ids": ids}
            uncond = unet(x, t, encoder_hidden_states=empty, added_cond_kwargs=added).sample
            latents = scheduler.step(uncond + scale * (cond - uncond), t, latents).prev_sample
    for hook in hooks:
        hook.remove()
    return latents


@pytest.mark.parametrize("first_step", [0, 2])
def test_conditional_only_equals_arithmetic_by_hand(made, pipe, first_step):
    got = guided(pipe, CONDITIONAL.replace(start=first_step / STEPS))
    assert relative_error(got, by_hand(made[0], 5.0, first_step)) <= UNET
    pipe.update_components(guider=ClassifierFreeGuidance(5.0))
    assert relative_error(sample(pipe), by_hand(made[0], 5.0, STEPS)) <= UNET, "the arithmetic is that of the pipeline"


@pytest.mark.parametrize("fields", [{}, {"start": 0.3, "end": 0.8}, {"end": 400.0, "start": 900.0, "unit": "timestep"}])
def test_both_branches_equal_freeu_around_the_pipeline(pipe, fields):
    plain = sample(pipe)
    with freeu.enabled(pipe, SDXL, **fields):
        want = sample(pipe)
    assert not torch.equal(want, plain)
    assert torch.equal(guided(pipe, SDXL.replace(**fields)), want)
    assert untouched(pipe.unet)
    pipe.update_components(guider=ClassifierFreeGuidance(5.0))
    assert torch.equal(sample(pipe), plain)


def test_branches_are_those_of_the_inner_guider(pipe):
    """Of each step: two, one where guidance has stopped, or three."""
    attention = LayerSkipConfig([0], "mid_block.attentions.0.transformer_blocks", skip_ff=False)
    attention.skip_attention, attention.skip_attention_scores = False, True
    perturbed = {
        "perturbed_guidance_config": attention,
        "perturbed_guidance_start": 0.0,
        "perturbed_guidance_stop": 1.0,
    }
    # Diffusers' perturbed guidance begins behind its first step. A guider that stopped early cannot run twice there.
    for make, calls in (
        (lambda: ClassifierFreeGuidance(5.0), STEPS),
        (lambda: ClassifierFreeGuidance(5.0, stop=0.5), STEPS),
        (lambda: PerturbedAttentionGuidance(5.0, 2.0, **perturbed), 2 * STEPS - 1),
    ):
        got = guided(pipe, CONDITIONAL, make())
        assert set(pipe.guider.verify().values()) == {calls}
        pipe.update_components(guider=make())
        assert not torch.equal(got, sample(pipe))
    assert untouched(pipe.unet)


def test_without_guidance_the_one_branch_is_the_conditional_one(pipe):
    pipe.update_components(guider=ClassifierFreeGuidance(1.0))
    with freeu.enabled(pipe, SDXL):
        want = sample(pipe)
    assert torch.equal(guided(pipe, CONDITIONAL, ClassifierFreeGuidance(1.0)), want)
    guider = pipe.guider
    guider.guidance_scale = 5.0
    assert (guider.inner_guider.guidance_scale, guider.num_conditions) == (5.0, 2)
    guider.disable()
    assert guider.num_conditions == 1
    guider.set_state(0, 1, torch.tensor(500))
    assert len(guider.prepare_inputs({"x": (torch.zeros(1), torch.ones(1))})) == 1
    guider.prepare_models(pipe.unet)
    assert len(freeu.active(pipe.unet)[0].sites) == 5
    guider.cleanup_models(pipe.unet)
    assert untouched(pipe.unet)


def test_it_replaces_what_is_on_the_unet_and_brings_it_back(pipe):
    want = guided(pipe, CONDITIONAL)
    with freeu.enabled(pipe.unet, b=(1.8, 1.8)) as handle:
        assert torch.equal(sample(pipe), want)
        assert handle.active
        assert freeu.active(pipe.unet) == (handle,)


def test_nothing_is_left_after_an_exception_in_the_unet(pipe, monkeypatch):
    plain = sample(pipe)
    want = guided(pipe, SDXL)

    def fails(*_: Any, **__: Any) -> None:
        assert freeu.active(pipe.unet), "FreeU is there"
        raise MemoryError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(pipe.unet.up_blocks[1].resnets[0], "forward", fails)
        with pytest.raises(MemoryError):
            sample(pipe)
    assert untouched(pipe.unet)
    assert torch.equal(sample(pipe), want)
    pipe.update_components(guider=ClassifierFreeGuidance(5.0))
    assert torch.equal(sample(pipe), plain)


def test_saved_and_loaded(tmp_path):
    layers = LayerSkipConfig([0], "mid_block.attentions.0.transformer_blocks", skip_attention=False, skip_ff=False)
    layers.skip_attention_scores = True
    config = CONDITIONAL.replace(start=0.25, ramp=0.1).replace(sites={"up_blocks.0.resnets.0": (1.2, 0.5)})
    for inner in (
        AdaptiveProjectedGuidance(4.0, eta=0.5),
        PerturbedAttentionGuidance(perturbed_guidance_config=layers),
    ):
        guider = freeu.FreeUGuidance(inner, config)
        guider.save_pretrained(tmp_path)
        data = json.loads((tmp_path / "guider_config.json").read_text())
        assert (data["_class_name"], data["inner_guider"]["_class_name"]) == ("FreeUGuidance", type(inner).__name__)
        spec = ComponentSpec("guider", freeu.FreeUGuidance, pretrained_model_name_or_path=str(tmp_path))
        copies = [
            freeu.FreeUGuidance.from_pretrained(tmp_path),
            spec.load(),
            ComponentSpec.from_component("guider", spec.create(guider.config)).create(),
            guider.new(),
        ]
        for copy in copies:
            assert copy.freeu == config
            assert type(copy.inner_guider) is type(inner)
            assert json.loads(copy.inner_guider.to_json_string()) == json.loads(inner.to_json_string())


def test_a_saved_pipeline_keeps_it(pipe, tmp_path):
    """In ``modular_model_index.json`` guiders with loading fields stand with the module of their class."""
    freeu.FreeUGuidance(ClassifierFreeGuidance(3.0), SDXL).save_pretrained(tmp_path)
    spec = ComponentSpec("guider", freeu.FreeUGuidance, pretrained_model_name_or_path=str(tmp_path))
    pipe.update_components(guider=spec.load())
    entry = json.loads(json.dumps(pipe._component_spec_to_dict(pipe._component_specs["guider"])))
    loaded = pipe._dict_to_component_spec("guider", entry).load()
    assert isinstance(loaded, freeu.FreeUGuidance)
    assert (loaded.freeu, loaded.guidance_scale) == (SDXL, 3.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SDXL.replace(share="guidance"), "both halves of guidance in one batch"),
        (SDXL.replace(start=9.0, end=0.5, unit="sigma"), "no noise levels"),
        ("sd99", "sd99"),
        (3, "FreeUConfig or the name of a preset"),
        ({"b": [1.3], "colour": 1}, "colour"),
    ],
)
def test_settings_that_are_refused(config, message):
    with pytest.raises(FreeUValueError, match=message) as caught:
        freeu.FreeUGuidance(ClassifierFreeGuidance(), config)
    assert "\n" not in str(caught.value)


def test_guiders_that_are_refused():
    with pytest.raises(FreeUValueError, match="has FreeU already"):
        freeu.FreeUGuidance(freeu.FreeUGuidance(ClassifierFreeGuidance(), SDXL), SDXL)
    with pytest.raises(FreeUValueError, match="guider of diffusers, got 'cfg'"):
        freeu.FreeUGuidance("cfg", SDXL)
    with pytest.raises(FreeUValueError, match="no guider of the name 'system' is loaded"):
        freeu.FreeUGuidance({"_class_name": "system"}, SDXL)


def test_calls_that_are_refused(pipe):
    guider = freeu.FreeUGuidance(ClassifierFreeGuidance(), CONDITIONAL)
    with pytest.raises(FreeURuntimeError, match="no pipeline has run"):
        guider.verify()
    with pytest.raises(FreeURuntimeError, match="did not ask the guider for its inputs"):
        guider.prepare_models(pipe.unet)
    assert untouched(pipe.unet)
    pipe.update_components(scheduler=HeunDiscreteScheduler(beta_schedule="scaled_linear"))
    with pytest.raises(FreeURuntimeError, match="more than once for each"):
        guided(pipe, SDXL.replace(start=0.25))
    for setting in ({"guidance": "conditional"}, {"share": "guidance"}):
        with pytest.raises(FreeURuntimeError, match=r"freeu\.FreeUGuidance\(pipe\.guider, config\)"):
            freeu.apply(pipe, SDXL, **setting)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_compiled_blocks_are_accepted_and_a_compiled_unet_is_refused(pipe, monkeypatch):
    want = guided(pipe, CONDITIONAL)
    copy = UNet2DConditionModel.from_config(pipe.unet.config)
    copy.load_state_dict(pipe.unet.state_dict())
    whole = pipe.unet
    try:
        pipe.update_components(unet=copy.eval())
        copy.compile_repeated_blocks(backend="eager")
        assert relative_error(guided(pipe, CONDITIONAL), want) <= UNET
        assert set(pipe.guider.verify().values()) == {STEPS}
        copy.compile(backend="eager")
        with pytest.raises(FreeURuntimeError, match=r"the whole U-Net is compiled.*compile_repeated_blocks\(\)"):
            sample(pipe)
        assert untouched(copy)
    finally:
        pipe.update_components(unet=whole)
        torch._dynamo.reset()

"""Which rows of the batch see the prompt: in the pipelines of diffusers that are known, and refused in all others."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image

import freeu
from freeu.core.guidance import KINDS, kind_of
from freeu.errors import FreeURuntimeError

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
PICTURE = Image.fromarray(np.full((16, 16, 3), 128, dtype=np.uint8))


def pipeline(parts, name, **changes):
    import diffusers

    torch.manual_seed(0)
    components = {
        "vae": parts.vae(),
        "text_encoder": parts.text_encoder(),
        "tokenizer": parts.tokenizer(),
        "unet": parts.unet(),
        "scheduler": diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    pipe = getattr(diffusers, name)(**(components | changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def rows_of(pipe, prompts, negative="b", **arguments):
    """For each call of the U-Net: which rows got the words of the prompt, and which rows FreeU is to change."""
    seen = []
    encoded = pipe.encode_prompt(prompts[0], "cpu", 1, False)[0]

    def watch(_module, args, kwargs):
        words = kwargs.get("encoder_hidden_states", args[2] if len(args) > 2 else None)
        (handle,) = freeu.active(pipe)
        layout = handle._calls.current().layout
        changed = torch.zeros(len(words), dtype=torch.bool)
        changed[slice(None) if layout is None else layout.conditional(len(words))] = True
        # Encoded two at a time, the same words differ in the last bits.
        seen.append(([torch.allclose(row, encoded[0], atol=1e-4) for row in words], changed.tolist()))

    with freeu.enabled(pipe, **FACTORS, guidance="conditional"):
        hook = pipe.unet.register_forward_pre_hook(watch, with_kwargs=True)
        generator = torch.Generator().manual_seed(0)
        given = {"negative_prompt": [negative] * len(prompts), "generator": generator, "output_type": "latent"}
        try:
            pipe(prompts, num_inference_steps=2, **(given | arguments))
        finally:
            hook.remove()
    return seen


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("name", "changes"),
    [("StableDiffusionPipeline", {}), ("StableDiffusionPAGPipeline", {"pag_applied_layers": ["mid"]})],
)
def test_rows_with_the_prompt_are_the_conditional_ones(parts, name, changes, count, guidance):
    pipe = pipeline(parts, name, **changes)
    size = {"height": 16, "width": 16}
    seen = rows_of(pipe, ["a"] * count, guidance_scale=guidance, **size)
    assert seen
    for with_prompt, changed in seen:
        assert with_prompt == changed
        parts_of_batch = (2 if guidance > 1 else 1) + ("PAG" in name)
        assert len(changed) == count * parts_of_batch


def test_rows_of_instruct_pix2pix(parts):
    """The rows with the image alone and with neither are none of the prompt's."""
    pipe = pipeline(parts, "StableDiffusionInstructPix2PixPipeline", unet=parts.unet(in_channels=8))
    pipe.encode_prompt = lambda *_: (pipe._encode_prompt("a", "cpu", 1, False),)
    for prompts in (["a"], ["a", "a"]):
        for with_prompt, changed in rows_of(pipe, prompts, image=[PICTURE] * len(prompts), guidance_scale=5.0):
            assert len(changed) == 3 * len(prompts)
            assert with_prompt == changed
    with pytest.raises(FreeURuntimeError, match="stacks three parts: use the default"):
        freeu.apply(pipe, **FACTORS, share="guidance")


def test_rows_of_a_panorama(parts):
    pipe = pipeline(parts, "StableDiffusionPanoramaPipeline")
    for size in (1, 2):
        seen = rows_of(pipe, ["a"], guidance_scale=5.0, height=512, width=576, view_batch_size=size)
        assert seen
        for with_prompt, changed in seen:
            assert with_prompt == changed
    shares = []
    with freeu.enabled(pipe, **FACTORS, share="guidance") as handle:
        hook = pipe.unet.register_forward_pre_hook(lambda *_: shares.append(handle._calls.current().layout.share))
        pipe("a", num_inference_steps=1, height=512, width=576, output_type="latent")
        hook.remove()
    assert set(shares) == {2}


@pytest.mark.parametrize("setting", [{"guidance": "conditional"}, {"share": "guidance"}])
@pytest.mark.parametrize(
    "name", ["StableDiffusionSAGPipeline", "SemanticStableDiffusionPipeline", "StableDiffusionAttendAndExcitePipeline"]
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_pipelines_whose_rows_are_not_known_are_refused(parts, name, setting):
    pipe = pipeline(parts, name)
    with pytest.raises(FreeURuntimeError, match=f"how {name} stacks them is not known") as error:
        freeu.apply(pipe, **FACTORS, **setting)
    assert "\n" not in str(error.value)
    assert freeu.active(pipe) == ()
    with freeu.enabled(pipe, **FACTORS) as handle, pytest.raises(FreeURuntimeError, match="is not known"):
        handle.update(**setting)


def test_a_pipeline_that_calls_the_unet_in_its_own_way_is_not_known(parts):
    import diffusers

    class Own(diffusers.StableDiffusionPipeline):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    class Renamed(diffusers.StableDiffusionPipeline):
        pass

    assert kind_of(object.__new__(Own)) is None
    assert kind_of(object.__new__(Renamed)) == "halves"
    assert kind_of(None) is None


def test_a_bare_unet_is_refused(parts):
    for setting in ({"guidance": "conditional"}, {"share": "guidance"}):
        with pytest.raises(FreeURuntimeError, match="a U-Net alone cannot tell: apply FreeU to the pipeline"):
            freeu.apply(parts.unet(), **FACTORS, **setting)


def test_outside_a_call_of_the_pipeline(parts):
    pipe = pipeline(parts, "StableDiffusionPipeline")
    words = torch.zeros(2, 5, pipe.unet.config.cross_attention_dim)
    said = pytest.raises(FreeURuntimeError, match="which is not under way: call the pipeline")
    with freeu.enabled(pipe, **FACTORS, guidance="conditional"), said:
        pipe.unet(torch.zeros(2, 4, 8, 8), 1, words)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_table_says_what_diffusers_does(name):
    """A pipeline of the table says whether it guides, and takes its prediction apart into the parts of the table."""
    import diffusers

    cls = getattr(diffusers, name, None)
    if cls is None or "dummy" in cls.__module__:
        pytest.skip(f"{name} is not installed here")
    assert isinstance(cls.do_classifier_free_guidance, property)
    source = inspect.getsource(cls.__call__)
    if name.startswith("LatentConsistency"):
        assert not cls.do_classifier_free_guidance.fget(None)
        return
    first = {"halves": "noise_pred_uncond, ", "perturbed": "noise_pred_uncond, ", "edited": "noise_pred_text, "}
    taken_apart = "[::2], noise_pred[1::2]" if KINDS[name] == "views" else first[KINDS[name]]
    assert taken_apart in source
    if KINDS[name] == "perturbed":
        assert isinstance(cls.do_perturbed_attention_guidance, property)

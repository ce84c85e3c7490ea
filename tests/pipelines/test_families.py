"""FreeU inside the real pipelines of diffusers: text-to-image, image-to-image, inpainting, ControlNet, LCM, XL."""

import numpy as np
import pytest
import torch
from PIL import Image

import freeu

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
PICTURE = Image.fromarray(np.full((16, 16, 3), 128, dtype=np.uint8))
MASK = Image.fromarray(np.eye(16, dtype=np.uint8) * 255)


def stable_diffusion(parts, cls="StableDiffusionPipeline", **changes):
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
    pipe = getattr(diffusers, cls)(**(components | changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def text_to_image(parts):
    return stable_diffusion(parts), {}


def image_to_image(parts):
    return stable_diffusion(parts, "StableDiffusionImg2ImgPipeline"), {"image": PICTURE, "strength": 0.5}


def inpainting(parts):
    extra = {"image": PICTURE, "mask_image": MASK, "height": 16, "width": 16}
    return stable_diffusion(parts, "StableDiffusionInpaintPipeline"), extra


def controlnet(parts):
    from diffusers import ControlNetModel

    unet = parts.unet()
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4))
    torch.nn.init.normal_(control.controlnet_mid_block.weight, std=0.1)
    pipe = stable_diffusion(parts, "StableDiffusionControlNetPipeline", unet=unet, controlnet=control)
    return pipe, {"image": PICTURE.resize((8, 8))}


def latent_consistency(parts):
    from diffusers import LCMScheduler

    unet = parts.unet(time_cond_proj_dim=8)
    pipe = stable_diffusion(parts, "LatentConsistencyModelPipeline", unet=unet, scheduler=LCMScheduler())
    return pipe, {"original_inference_steps": 50}


def stable_diffusion_xl(parts):
    import diffusers

    torch.manual_seed(0)
    unet = parts.unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4,
    )
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=parts.vae(),
        text_encoder=parts.text_encoder(),
        text_encoder_2=parts.text_encoder("CLIPTextModelWithProjection", projection_dim=16),
        tokenizer=parts.tokenizer(),
        tokenizer_2=parts.tokenizer(),
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {"height": 16, "width": 16}


FAMILIES = [text_to_image, image_to_image, inpainting, controlnet, latent_consistency, stable_diffusion_xl]


def draw(pipe, extra, steps=4, guidance=3.0):
    generator = torch.Generator().manual_seed(0)
    options = {"num_inference_steps": steps, "guidance_scale": guidance, "generator": generator, "output_type": "np"}
    return torch.from_numpy(pipe("a red fox", **options, **extra).images)


@pytest.mark.parametrize("family", FAMILIES)
def test_changes_the_picture_and_is_undone_to_the_bit(parts, family):
    pipe, extra = family(parts)
    before = draw(pipe, extra)
    with freeu.enabled(pipe, **FACTORS) as handle:
        changed = draw(pipe, extra)
        handle.verify()
    assert before.isfinite().all()
    assert changed.isfinite().all()
    assert not torch.equal(changed, before)
    assert torch.equal(draw(pipe, extra), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_schedule_reads_the_pipelines_own_steps(parts, family):
    """Weights at the calls of the U-Net: FreeU acts in the second half of the scheduler's steps and nowhere else."""
    pipe, extra = family(parts)
    weights = []
    with freeu.enabled(pipe, **FACTORS, start=0.5) as handle:
        watch = pipe.unet.register_forward_pre_hook(lambda *_: weights.append(handle._calls.current().weights[0]))
        draw(pipe, extra, steps=8)
        watch.remove()
    # Image-to-image at strength 0.5 begins in the middle of the schedule: there FreeU acts at once.
    assert weights == [1.0] * 4 if family is image_to_image else [0.0] * 4 + [1.0] * 4


def test_an_exchanged_scheduler_is_followed(parts):
    from diffusers import EulerDiscreteScheduler

    pipe, extra = text_to_image(parts)
    weights = []
    with freeu.enabled(pipe, **FACTORS, start=0.5) as handle:
        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
        watch = pipe.unet.register_forward_pre_hook(lambda *_: weights.append(handle._calls.current().weights[0]))
        draw(pipe, extra, steps=6)
        watch.remove()
    assert weights == [0.0] * 3 + [1.0] * 3


def test_by_sigma(parts):
    pipe, extra = text_to_image(parts)
    weights = []
    with freeu.enabled(pipe, **FACTORS, start=5.0, end=0.0, unit="sigma") as handle:
        watch = pipe.unet.register_forward_pre_hook(lambda *_: weights.append(handle._calls.current().weights[0]))
        draw(pipe, extra, steps=8)
        watch.remove()
    assert weights[0] == 0.0
    assert weights[-1] == 1.0
    assert weights == sorted(weights)


def test_conditional_only_follows_the_pipelines_guidance(parts):
    """With guidance the conditional half alone is changed; without guidance there is nothing but the conditional."""
    pipe, extra = text_to_image(parts)
    with freeu.enabled(pipe, **FACTORS):
        both, alone = draw(pipe, extra), draw(pipe, extra, guidance=1.0)
    with freeu.enabled(pipe, **FACTORS, guidance="conditional"):
        assert not torch.equal(draw(pipe, extra), both)
        assert torch.equal(draw(pipe, extra, guidance=1.0), alone)


def test_a_copied_pipeline_has_its_own_clock(parts):
    import copy

    pipe, extra = text_to_image(parts)
    with freeu.enabled(pipe, **FACTORS, start=0.5):
        want = draw(pipe, extra, steps=6)
        twin = copy.deepcopy(pipe)
    twin.scheduler.set_timesteps(6)
    (handle,) = freeu.active(twin)
    assert handle._clock.pipe() is twin
    assert torch.equal(draw(twin, extra, steps=6), want)


def test_a_transformer_pipeline_is_refused_by_name():
    from diffusers import DiTTransformer2DModel

    class WithTransformer:
        transformer = DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=4, in_channels=4, num_layers=1, sample_size=8, norm_num_groups=4
        )

    with pytest.raises(freeu.NoSitesError, match="diffusion transformer"):
        freeu.apply(WithTransformer())

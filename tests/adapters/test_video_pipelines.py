"""FreeU on whole tiny video pipelines: AnimateDiff, Stable Video Diffusion, I2VGen-XL, and ModelScope's sampler."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import (
    tiny_animatediff_pipeline,
    tiny_i2vgenxl_pipeline,
    tiny_modelscope_unet,
    tiny_svd_pipeline,
    tiny_unet,
)
from tolerances import UNET, relative_error

import freeu
from freeu.adapters import adapter_for
from freeu.api import unet_of
from freeu.core.capture import Capture
from freeu.errors import NoSitesError

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
FRAMES, STEPS = 3, 4
PICTURE = Image.radial_gradient("L").resize((48, 32)).convert("RGB")
PIPELINES = {
    "animatediff": (tiny_animatediff_pipeline, ("a cat",), {"guidance_scale": 3.0}),
    "svd": (tiny_svd_pipeline, (PICTURE,), {"max_guidance_scale": 3.0}),
    # transformers 5 lacks what the default clip_skip asks for.
    "i2vgenxl": (tiny_i2vgenxl_pipeline, ("a cat", PICTURE), {"guidance_scale": 3.0, "clip_skip": None}),
}


def runner(name):
    """Calls a fresh pipeline with the same noise and returns the frames; ``run.pipe`` is the pipeline."""
    build, args, settings = PIPELINES[name]
    pipe = build()

    def call(**changes):
        size = {"height": 16, "width": 16, "num_frames": FRAMES, "num_inference_steps": STEPS}
        torch.manual_seed(1)
        whole = size | settings | changes
        return pipe(*args, **whole, generator=torch.manual_seed(0), output_type="np").frames

    call.pipe = pipe
    return call


@pytest.fixture(params=PIPELINES)
def run(request):
    return runner(request.param)


def test_two_lines_change_the_clip_and_are_undone(run):
    before = run()
    assert before.shape == (1, FRAMES, 16, 16, 3)
    with freeu.enabled(run.pipe, **FACTORS) as handle:
        changed = run()
        assert set(handle.verify().values()) == {STEPS}
        assert len(handle.sites) == 5
    assert np.isfinite(changed).all()
    assert np.abs(changed - before).max() > 1e-3
    assert np.array_equal(run(), before)


def rows_changed(pipe, run, **fields):
    """For each call of the U-Net, which rows of the first site's backbone FreeU changed."""
    unet = pipe.unet
    adapter = adapter_for(unet)
    found, before = {}, {}

    def look(features):
        if features.part == "backbone":
            if features.changed:
                same = (features.tensor == before[features.call]).flatten(1).all(1)
                found[features.call] = (~same).tolist()
            else:
                before[features.call] = features.tensor.clone()
                found[features.call] = [False] * len(features.tensor)

    with freeu.enabled(pipe, **fields), Capture(unet, adapter.find_sites(unet)[:1], adapter.host, look):
        run()
    return [found[call] for call in range(len(found))]


def test_a_schedule_counts_the_steps_of_the_pipelines_scheduler(run):
    rows = rows_changed(run.pipe, run, **FACTORS, start=0.5)
    assert rows == [[False] * 2 * FRAMES] * 2 + [[True] * 2 * FRAMES] * 2


def test_guidance_stacks_whole_clips(run):
    rows = rows_changed(run.pipe, run, **FACTORS, guidance="conditional")
    assert rows == [[False] * FRAMES + [True] * FRAMES] * STEPS


def test_the_pipeline_is_looked_into(run):
    pipe = run.pipe
    assert unet_of(pipe) is pipe.unet
    assert len(freeu.inspect(pipe)) == 6
    assert type(pipe.unet).__name__ in str(freeu.inspect(pipe))
    with freeu.enabled(pipe) as handle:
        assert handle.config == freeu.recommend(pipe)
        assert freeu.active(pipe) == (handle,)


def test_animatediff_from_a_unet_for_pictures_and_a_motion_adapter():
    from diffusers import AnimateDiffPipeline

    parts = tiny_animatediff_pipeline().components | {"unet": tiny_unet()}
    pipe = AnimateDiffPipeline(**parts)
    assert len(freeu.inspect(pipe).touched()) == 5
    assert {site.block_type for site in freeu.inspect(pipe)} == {"CrossAttnUpBlockMotion", "UpBlockMotion"}


def test_chunks_of_long_clips():
    """FreeNoise wraps the resnets of AnimateDiff so that they run on some frames at a time."""
    run = runner("animatediff")
    pipe, settings = run.pipe, {"num_frames": 6}
    pipe.enable_free_noise(context_length=4, context_stride=2)
    with freeu.enabled(pipe, **FACTORS) as whole:
        want = run(**settings)
        pipe.enable_free_noise_split_inference(temporal_split_size=4)
        assert np.abs(run(**settings) - want).max() <= 1e-5
        whole.verify()
    plain = run(**settings)
    assert np.abs(plain - want).max() > 1e-3
    with freeu.enabled(pipe, **FACTORS) as chunked:
        assert np.abs(run(**settings) - want).max() <= 1e-5
        assert set(chunked.verify().values()) == {STEPS}
    assert np.array_equal(run(**settings), plain)


class Holder:
    """A pipeline or model of ModelScope as far as freeu looks at it; the real ones load checkpoints."""

    def __init__(self, **parts):
        self.__dict__ |= parts


@pytest.fixture
def modelscope():
    return Holder(model=Holder(sd_model=tiny_modelscope_unet().eval()))


def test_modelscopes_own_sampler(modelscope):
    from modelscope.models.multi_modal.video_synthesis.diffusion import GaussianDiffusion, beta_schedule

    unet = modelscope.model.sd_model
    diffusion = GaussianDiffusion(
        betas=beta_schedule("linear_sd", 1000, init_beta=0.00085, last_beta=0.0120),
        mean_type="eps",
        var_type="fixed_small",
        loss_type="mse",
        rescale_timesteps=False,
    )
    noise, text = torch.randn(1, 4, FRAMES, 8, 8), torch.randn(2, 5, 1024)

    def sample():
        """50 steps in its pipeline; a call of the U-Net for each half of guidance."""
        kwargs = [{"y": text[:1]}, {"y": text[1:]}]
        return diffusion.ddim_sample_loop(
            noise=noise, model=unet, model_kwargs=kwargs, guide_scale=9.0, ddim_timesteps=STEPS, eta=0.0
        )

    before = sample()
    with freeu.enabled(modelscope, **FACTORS) as handle:
        changed = sample()
        assert set(handle.verify().values()) == {2 * STEPS}
    assert before.shape == changed.shape == noise.shape
    assert relative_error(changed, before) > 1e-3
    with freeu.enabled(modelscope, **FACTORS, start=0.4):  # timesteps 751, 501, 251, 1
        assert relative_error(sample(), changed) > UNET
    with freeu.enabled(modelscope, **FACTORS, start=0.9995):  # after the last of them
        assert torch.equal(sample(), before)
    assert torch.equal(sample(), before)


def test_unets_are_found_where_models_keep_them(modelscope):
    unet = modelscope.model.sd_model
    assert unet_of(modelscope) is unet
    assert unet_of(modelscope.model) is unet
    for name in ("generator", "model"):  # image-to-video and video-to-video; VideoComposer
        inner = torch.nn.Module()
        setattr(inner, name, unet)
        assert unet_of(inner) is unet
        assert unet_of(Holder(model=inner)) is unet
    assert unet_of(torch.compile(unet, backend="eager")) is unet
    with pytest.raises(NoSitesError, match=r"known families: .*UNetMotionModel.* of diffusers; UNetSD.* of ModelScope"):
        freeu.inspect(Holder(unet=torch.nn.Linear(2, 2)))
    with pytest.raises(NoSitesError, match="Holder has no U-Net"):
        freeu.inspect(Holder(model=torch.nn.Linear(2, 2)))


def test_a_decoder_of_another_form_is_refused():
    unet = tiny_modelscope_unet()
    unet.output_blocks[1] = torch.nn.ModuleList([torch.nn.Identity()])
    with pytest.raises(NoSitesError, match=r"output_blocks\.1\.0 should be a ResBlock of known width, got Identity"):
        freeu.inspect(unet)

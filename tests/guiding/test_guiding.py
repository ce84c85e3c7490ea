"""Guidance interval and FreSca in real pipelines: against arithmetic by hand, step by step, and undone exactly."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import diffusers
import pytest
import torch
from tiny_pipelines import (
    tiny_animatediff_pipeline,
    tiny_svd_pipeline,
    tiny_text_encoder,
    tiny_tokenizer,
    tiny_unet,
    tiny_vae,
    tiny_video_unet,
)
from tolerances import UNET, relative_error

import freeu
from freeu import scalecrafter
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.guiding import FreSca, Guiding, enabled
from freeu.guiding.hook import filtered
from freeu.guiding.settings import interval_text, parse_interval
from freeu.schedule import Schedule

NEVER = Guiding(Schedule(2000.0, 1500.0, unit="timestep"))
MIDDLE = Guiding(Schedule(0.3, 0.7))
SHARP = Guiding(fresca=FreSca(0.8, 1.5, 2))
BOTH = Guiding(MIDDLE.interval, SHARP.fresca)
SCALE = 5.0
SCHEDULERS = ("DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler")
# A batch of two rows against a batch of one, over all steps.
BATCHED = 2e-5


def pipeline(name: str = "StableDiffusionPipeline", scheduler: str = "DDIMScheduler", **parts: Any) -> Any:
    """A pipeline of random weights, made for images of 16x16."""
    torch.manual_seed(0)
    clipping = {"clip_sample": False} if scheduler == "DDIMScheduler" else {}
    whole = {
        "vae": tiny_vae(),
        "text_encoder": tiny_text_encoder(),
        "tokenizer": tiny_tokenizer(),
        "unet": tiny_unet(),
        "scheduler": getattr(diffusers, scheduler)(beta_schedule="scaled_linear", steps_offset=1, **clipping),
    }
    if "XL" not in name and "Video" not in name:
        whole |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    made = getattr(diffusers, name)(**whole | parts)
    made.set_progress_bar_config(disable=True)
    return made


def sample(pipe: Any, scale: float = SCALE, **settings: Any) -> torch.Tensor:
    """Latents of one image, or of several."""
    usual = {"width": 16, "height": 16, "num_inference_steps": 5, "output_type": "latent"}
    generator = torch.Generator().manual_seed(3)
    return pipe(**{"prompt": "a fox"} | usual | settings, guidance_scale=scale, generator=generator)[0]


def watched(pipe: Any, settings: Guiding, **more: Any) -> list[tuple[float, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Of each call: the timestep, both predictions of the network, and what the scheduler was told."""
    raw, told = [], []

    def keep(_unet: Any, args: Any, output: Any) -> None:
        raw.append((float(args[1]), *output[0].chunk(2)))

    step = pipe.scheduler.step

    def spy(model_output: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        told.append(model_output)
        return step(model_output, *args, **kwargs)

    # Pipelines ask which arguments the method takes.
    spy.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
    hook = pipe.unet.register_forward_hook(keep)
    pipe.scheduler.step = spy
    try:
        with enabled(pipe, settings):
            sample(pipe, **more)
    finally:
        hook.remove()
        del pipe.scheduler.step
    return [(*one, guided) for one, guided in zip(raw, told, strict=True)]


def by_fft(difference: torch.Tensor, fresca: FreSca) -> torch.Tensor:
    """FreSca's filter written with an FFT, bin by bin: -t..t-1 in height and width."""
    height, width = difference.shape[-2:]
    t = fresca.bins(height, width)
    rows, columns = (torch.fft.fftfreq(side, 1 / side).round() for side in (height, width))
    low = ((rows >= -t) & (rows < t))[:, None] & ((columns >= -t) & (columns < t))[None]
    gains = torch.where(low, fresca.low, fresca.high).double()
    return torch.fft.ifft2(torch.fft.fft2(difference.double()) * gains).real


# -- what it computes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pipeline, tiny_xl_pipeline, lambda: pipeline(scheduler="HeunDiscreteScheduler")])
@pytest.mark.parametrize("count", [1, 3])
def test_outside_everything_is_sampling_without_guidance(make, count):
    pipe = make()
    with enabled(pipe, NEVER, SCALE) as guided:
        found = sample(pipe, num_images_per_prompt=count)
    assert guided.calls == (9 if "Heun" in type(pipe.scheduler).__name__ else 5)
    plain = sample(pipe, 1.0, num_images_per_prompt=count)
    assert relative_error(found, plain) < BATCHED
    assert relative_error(sample(pipe, num_images_per_prompt=count), plain) > 0.01


def test_the_embedded_model(mini):
    arguments = {"prompt": ["a 3d fox", "a flat car"], "width": 64, "height": 64, "num_inference_steps": 4}
    with enabled(mini.pipe, NEVER):
        found = sample(mini.pipe, **arguments)
    assert relative_error(found, sample(mini.pipe, 1.0, **arguments)) < BATCHED
    plain = sample(mini.pipe, **arguments)
    with enabled(mini.pipe, Guiding(Schedule(0.0, 1.0), FreSca(1.0, 1.3))) as guided:
        assert not torch.equal(sample(mini.pipe, **arguments), plain)
    assert guided.calls == 4
    assert torch.equal(sample(mini.pipe, **arguments), plain)


@pytest.mark.parametrize("settings", [Guiding(), Guiding(Schedule()), Guiding(Schedule(0.0, 1.0), FreSca(1.0, 1.0))])
def test_the_identity_adds_no_hook(settings):
    pipe = pipeline()
    plain = sample(pipe)
    with enabled(pipe, settings) as guided:
        assert not pipe.unet._forward_hooks
        assert not pipe.unet._forward_pre_hooks
        assert torch.equal(sample(pipe), plain)
    assert guided.calls == 0


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_each_step_is_guided_inside_and_conditional_outside(scheduler):
    pipe = pipeline(scheduler=scheduler)
    calls = watched(pipe, MIDDLE, num_images_per_prompt=2)
    times = list(dict.fromkeys(t for t, *_ in calls))  # a second-order scheduler names each twice
    assert len(times) == 5
    inside = [t for number, t in enumerate(times) if 0.3 <= number / 5 < 0.7]
    assert len(inside) == 2
    for t, u, c, told in calls:
        assert len(told) == 2
        if t in inside:
            torch.testing.assert_close(told, u + SCALE * (c - u))
        else:
            assert torch.equal(told, c)


@pytest.mark.parametrize("unit", ["timestep", "sigma"])
def test_intervals_by_other_units(unit):
    pipe = pipeline()
    interval = Schedule(700.0, 300.0, unit="timestep") if unit == "timestep" else Schedule(3.0, 0.5, unit="sigma")
    alphas = pipe.scheduler.alphas_cumprod
    seen = set()
    for t, u, c, told in watched(pipe, Guiding(interval)):
        alpha = float(alphas[int(t)])
        position = t if unit == "timestep" else ((1 - alpha) / alpha) ** 0.5
        inside = interval.end < position <= interval.start
        seen.add(inside)
        torch.testing.assert_close(told, u + SCALE * (c - u) if inside else c)
    assert seen == {True, False}


@pytest.mark.parametrize("size", [(16, 16), (16, 40), (24, 16)])
def test_fresca_against_an_fft(size):
    pipe = pipeline()
    calls = watched(pipe, SHARP, height=size[0], width=size[1], num_images_per_prompt=2)
    assert len(calls) == 5
    for _, u, c, told in calls:
        expected = u + SCALE * by_fft(c - u, SHARP.fresca)
        assert relative_error(told, expected) < UNET * SCALE
        assert relative_error(u + SCALE * (c - u), expected) > 0.001


def test_both_together_with_freeu():
    pipe = pipeline()
    with freeu.enabled(pipe, "sd14") as handle:
        calls = watched(pipe, BOTH)
        handle.verify()
    for number, (_, u, c, told) in enumerate(calls):
        expected = u + SCALE * by_fft(c - u, BOTH.fresca) if number in (2, 3) else c.double()
        assert relative_error(told, expected) < UNET * SCALE


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 4, 3, 7, 10), (1, 3, 4, 9, 5)])
def test_every_plane_is_filtered_by_itself(shape):
    u, c = torch.randn(2, *shape)
    for fresca in (FreSca(0.5, 1.4), FreSca(1.2, 0.0, 2)):
        expected = u + by_fft(c - u, fresca)
        assert relative_error(filtered(u, c, fresca), expected) < UNET
        half = filtered(u.bfloat16(), c.bfloat16(), fresca)
        assert half.dtype == torch.bfloat16
        rounded = u.bfloat16() + by_fft(c.bfloat16().float() - u.bfloat16().float(), fresca)
        assert relative_error(half, rounded) < 4e-3


def test_equal_gains_are_another_scale():
    pipe = pipeline()
    with enabled(pipe, Guiding(fresca=FreSca(1.4, 1.4))):
        found = sample(pipe)
    assert relative_error(found, sample(pipe, 1.4 * SCALE)) < BATCHED


# -- videos --------------------------------------------------------------------------------------------------------


def modelscope() -> Any:
    return pipeline("TextToVideoSDPipeline", unet=tiny_video_unet())


@pytest.mark.parametrize("make", [modelscope, tiny_animatediff_pipeline])
def test_videos(make):
    pipe = make()
    settings = {"num_frames": 3}
    with enabled(pipe, NEVER, SCALE):
        found = sample(pipe, **settings)
    assert relative_error(found, sample(pipe, 1.0, **settings)) < BATCHED
    plain = sample(pipe, **settings)
    with enabled(pipe, SHARP, SCALE) as guided:
        assert not torch.equal(sample(pipe, **settings), plain)
    assert guided.calls == 5
    assert torch.equal(sample(pipe, **settings), plain)


def test_a_scale_for_each_frame():
    """Stable Video Diffusion guides every frame by another scale; outside the interval none is guided."""
    from PIL import Image

    pipe = tiny_svd_pipeline()

    def draw(most: float) -> torch.Tensor:
        image = Image.new("RGB", (16, 16), "red")
        arguments = {"num_frames": 3, "height": 16, "width": 16, "num_inference_steps": 3, "output_type": "latent"}
        generator = torch.Generator().manual_seed(3)
        return pipe(image, max_guidance_scale=most, min_guidance_scale=1.0, generator=generator, **arguments).frames

    with enabled(pipe, Guiding(Schedule(0.99, 1.0))):
        found = draw(SCALE)
    assert relative_error(found, draw(1.0)) < BATCHED
    assert relative_error(draw(SCALE), draw(1.0)) > 1e-3


# -- beside ScaleCrafter -------------------------------------------------------------------------------------------


def test_what_noise_damped_guidance_gives_is_edited():
    """It gives e + w (c - u), so its value at scale 1, outside an interval, is on the line through two other scales."""
    pipe = pipeline(scheduler="EulerDiscreteScheduler")
    damping = scalecrafter.ScaleCrafter(2.0, (2, 2), 1.0, "damped")
    settings = {"num_inference_steps": 1, "width": 32, "height": 32}
    with scalecrafter.enabled(pipe, damping):
        two, three = sample(pipe, 2.0, **settings), sample(pipe, 3.0, **settings)
    outer, inner = (lambda: scalecrafter.enabled(pipe, damping)), (lambda: enabled(pipe, NEVER))
    for first, second in ((outer, inner), (inner, outer)):
        with first() as one, second() as other:
            found = sample(pipe, **settings)
        assert {one.calls, other.calls} == {1}  # that of the second call is not edited
        assert relative_error(found, 2.0 * two - three) < BATCHED
    assert not pipe.unet._forward_hooks


# -- undone --------------------------------------------------------------------------------------------------------


def test_undone_to_the_bit():
    pipe = pipeline()
    plain = sample(pipe)
    attributes = set(pipe.unet.__dict__)
    for settings in (MIDDLE, SHARP, BOTH):
        with enabled(pipe, settings) as guided:
            assert not torch.equal(sample(pipe), plain)
        guided.remove()  # a second time does nothing
        assert torch.equal(sample(pipe), plain)
    assert set(pipe.unet.__dict__) == attributes
    unet = pipe.unet
    hooks = (unet._forward_hooks, unet._forward_pre_hooks, unet._forward_hooks_always_called)
    assert not any(hooks)
    assert not any((unet._forward_hooks_with_kwargs, unet._forward_pre_hooks_with_kwargs))


@pytest.mark.parametrize("error", [RuntimeError("lost"), KeyboardInterrupt()])
def test_undone_after_an_exception_in_the_network(error):
    pipe = pipeline()
    plain = sample(pipe)

    def fail(*_: Any) -> None:
        raise error

    hook = pipe.unet.mid_block.register_forward_hook(fail)
    guided = enabled(pipe, BOTH)
    with pytest.raises(type(error)):
        sample(pipe)
    hook.remove()
    with enabled(pipeline(), BOTH):  # another model is another matter
        pass
    once = sample(pipe)  # the same handle goes on: the call that failed is over
    guided.remove()
    with enabled(pipe, BOTH):
        assert torch.equal(sample(pipe), once)
    assert torch.equal(sample(pipe), plain)


# -- refused -------------------------------------------------------------------------------------------------------


def test_what_has_no_two_predictions_is_refused():
    with pytest.raises(FreeUValueError, match=r"guidance interval 0.3-0.7 needs a CFG scale above 1, got 1"):
        enabled(pipeline(), MIDDLE, 1.0)
    pipe = pipeline(unet=tiny_unet(time_cond_proj_dim=8))
    with pytest.raises(FreeUValueError, match="this U-Net takes the CFG scale as an input"):
        enabled(pipe, SHARP)
    with pytest.raises(FreeUValueError, match="how StableDiffusionPAGPipeline stacks its batch is not known"):
        enabled(pipeline("StableDiffusionPAGPipeline", pag_applied_layers=["mid"]), SHARP)
    with pytest.raises(FreeUValueError, match="TextToVideoSDPipeline does not tell its CFG scale: give guidance="):
        enabled(modelscope(), SHARP)
    with pytest.raises(FreeUValueError, match="how UNet2DConditionModel stacks its batch is not known"):
        enabled(pipeline().unet, SHARP)


def test_a_pipeline_that_was_called_without_guidance():
    pipe = pipeline()
    with enabled(pipe, MIDDLE), pytest.raises(FreeURuntimeError, match="was called without guidance: use a CFG scale"):
        sample(pipe, 1.0)
    video = modelscope()
    with enabled(video, MIDDLE, SCALE), pytest.raises(FreeURuntimeError, match="was called without guidance"):
        sample(video, 1.0, num_frames=3)


def test_one_block_at_a_time_and_no_copies():
    pipe = pipeline()
    with enabled(pipe, MIDDLE):
        with pytest.raises(FreeURuntimeError, match="is changed already"):
            enabled(pipe, SHARP)
        with pytest.raises(FreeURuntimeError, match="cannot be copied while its guidance is changed"):
            copy.deepcopy(pipe.unet)
    copy.deepcopy(pipe.unet)


def test_a_band_that_is_wider_than_the_spectrum():
    pipe = pipeline()
    with enabled(pipe, Guiding(fresca=FreSca(1.0, 1.5, 20))), pytest.raises(FreeUValueError, match="at most 4"):
        sample(pipe)


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [MIDDLE, SHARP, BOTH, NEVER, Guiding(Schedule(5.0, 0.3, unit="sigma"))])
def test_round_trips(settings):
    assert Guiding.from_dict(settings.to_dict()) == settings
    if settings.interval is not None:
        assert parse_interval(interval_text(settings.interval)) == settings.interval
    if settings.fresca is not None:
        assert FreSca.parse(str(settings.fresca)) == settings.fresca


def test_the_border_follows_the_size():
    assert [FreSca(1, 1.2).bins(side, 2 * side) for side in (4, 32, 64, 128)] == [1, 5, 10, 20]
    assert parse_interval("1e-05-.5") == Schedule(1e-5, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.2", "must look like 0.2-0.8, timestep:800-200 or sigma:5-0.3, got '0.2'"),
        ("0.8-0.2", "start must be smaller than end"),
        ("0.2-1.8", "end must lie in 0 to 1"),
        ("sigma:0.3-5", "sigma falls during denoising, so start must be larger than end"),
        ("step:1-5", "must look like"),
        ("nan-1", "must look like"),
    ],
)
def test_bad_intervals(text, message):
    with pytest.raises(FreeUValueError, match=message):
        parse_interval(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "FreSca must be LOW:HIGH such as 1:1.25, or LOW:HIGH:BINS, got '1'"),
        ("1:1.5:2.5", "FreSca must be"),
        ("-1:1", "FreSca must be"),
        ("1:11", "high must lie in 0 to 10, got 11"),
        ("1:1.5:0", "threshold must be at least 1 frequency bin"),
    ],
)
def test_bad_bands(text, message):
    with pytest.raises(FreeUValueError, match=message):
        FreSca.parse(text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "guiding must have interval, fresca or both"),
        ({"ramp": 1}, "guiding must have interval"),
        ({"interval": {"start": 0.2}}, "guiding.interval must have the fields end, start, unit"),
        ({"fresca": {"low": "x", "high": 1, "threshold": None}}, "low must be a number"),
        ([], "guiding must have"),
    ],
)
def test_damaged_data(data, message):
    with pytest.raises(FreeUValueError, match=message):
        Guiding.from_dict(data)


def test_no_ramp():
    with pytest.raises(FreeUValueError, match="a guidance interval has no ramp"):
        Guiding(Schedule(0.2, 0.8, ramp=0.1))

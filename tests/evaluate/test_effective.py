"""GA-Eval's effective scale against a case by hand, on real pipelines, and the CFG scale at which it is that of plain
sampling."""

from __future__ import annotations

import inspect
import math
from typing import Any

import diffusers
import pytest
import torch
from tiny_pipelines import tiny_text_encoder, tiny_tokenizer, tiny_unet, tiny_vae, tiny_video_unet

import freeu
from freeu.errors import FreeUValueError
from freeu.evaluate import EffectiveScale, effective_scale, neutral_scale, projected_scale
from freeu.evaluate.calibration.effective import HIGHEST, _OwnPath
from freeu.guiding import FreSca, Guiding
from freeu.schedule import Schedule

PROMPTS = ("a 3d fox on a blue background", "a flat car on a red background")
SHORT = {"steps": 4, "width": 64, "height": 64}
HALF = Guiding(Schedule(0.25, 0.75))
FACTORS = freeu.FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))


def pipeline(cls: str = "StableDiffusionPipeline", scheduler: str = "DDIMScheduler", **changes: Any) -> Any:
    torch.manual_seed(0)
    parts = {
        "vae": tiny_vae(),
        "text_encoder": tiny_text_encoder(),
        "tokenizer": tiny_tokenizer(),
        "unet": tiny_unet() if cls == "StableDiffusionPipeline" else tiny_video_unet(),
        "scheduler": getattr(diffusers, scheduler)(beta_schedule="scaled_linear", steps_offset=1, **changes),
    }
    if cls == "StableDiffusionPipeline":
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = getattr(diffusers, cls)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def measured(scale: float, effective: float) -> EffectiveScale:
    return EffectiveScale(scale, effective, None, None, 1, (effective,))


# -- one step ------------------------------------------------------------------------------------------------------


def test_by_hand():
    """d = (3, 4). e - eps_u = (10, 5): its projection is <(10, 5), (3, 4)> / 25 d = 2 d, whatever lies across."""
    plain = torch.tensor([[[1.0, 1.0], [4.0, 5.0]]])
    assert projected_scale(plain, torch.tensor([[11.0, 6.0]])).tolist() == [2.0]
    assert projected_scale(plain, torch.tensor([[11.0 - 8.0, 6.0 + 6.0]])).tolist() == [2.0]
    # The norm of the projection: a prediction against d is as strong as one along it.
    assert projected_scale(plain, torch.tensor([[-9.0, -4.0]])).tolist() == [2.0]
    # As written in the official code, by norms of the projection itself.
    v, d = torch.tensor([10.0, 5.0]), torch.tensor([3.0, 4.0])
    projection = torch.dot(v, 7.0 * d) / torch.dot(7.0 * d, 7.0 * d) * 7.0 * d
    assert projected_scale(plain, torch.tensor([[11.0, 6.0]])).item() == pytest.approx(float(projection.norm() / 5.0))


def test_plain_guidance_gives_its_scale_for_each_image():
    plain = torch.randn(3, 2, 4, 8, 8)
    u, c = plain.unbind(1)
    scales = torch.tensor([1.0, 5.0, 7.5])[:, None, None, None]
    torch.testing.assert_close(projected_scale(plain, u + scales * (c - u)).float(), scales.flatten())
    assert math.isnan(projected_scale(plain[:1, :1].repeat(1, 2, 1, 1, 1), u[:1]).item())


# -- on a pipeline -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheduler",
    [
        {"clip_sample": False},
        {"clip_sample": False, "prediction_type": "v_prediction"},
        {"clip_sample": False, "prediction_type": "sample"},
        {"scheduler": "HeunDiscreteScheduler"},
    ],
)
def test_plain_sampling_has_its_own_scale(scheduler):
    found = effective_scale(pipeline(**scheduler), None, PROMPTS, guidance=4.0, steps=4, width=16, height=16)
    assert found.effective == pytest.approx(4.0, rel=1e-5)
    assert len(found.per_step) == (7 if "scheduler" in scheduler else 4)
    assert (found.guidance, found.prompts) == (4.0, 2)


def test_an_interval_has_the_mean_of_scale_and_one():
    found = effective_scale(pipeline(clip_sample=False), None, PROMPTS, guidance=5.0, steps=4, guiding=HALF)
    assert found.per_step == pytest.approx((1.0, 5.0, 5.0, 1.0), rel=1e-5)
    assert (found.low, found.effective, found.high) == pytest.approx((3.0, 3.0, 3.0), rel=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        {"config": FACTORS},
        {"config": None, "rescale": 0.7},
        {"config": FACTORS, "rescale": 0.4, "guiding": Guiding(HALF.interval, FreSca(0.7, 1.4))},
    ],
)
def test_it_measures_what_the_scheduler_is_told_and_changes_nothing(method):
    """Every guided prediction again, by the pipeline itself, and the plain ones by a pass of their own."""
    pipe, scale = pipeline(clip_sample=False), 5.0
    config, guiding, rescale = method["config"], method.get("guiding"), method.get("rescale")
    told: list[torch.Tensor] = []
    states: list[tuple[Any, ...]] = []
    step = pipe.scheduler.step

    def spy(model_output: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        told.append(model_output)
        return step(model_output, *args, **kwargs)

    spy.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
    pipe.scheduler.step = spy
    hook = pipe.unet.register_forward_hook(lambda _, args, kwargs, __: states.append((args, kwargs)), with_kwargs=True)

    def draw() -> torch.Tensor:
        told.clear(), states.clear()
        more = {} if rescale is None else {"guidance_rescale": rescale}
        arguments = {"num_inference_steps": 4, "width": 16, "height": 16, "output_type": "latent", **more}
        return pipe(PROMPTS[0], guidance_scale=scale, generator=torch.Generator().manual_seed(0), **arguments).images

    with _OwnPath(pipe, config, scale, guiding, rescale) as path:
        found = draw()
    expected = []
    with torch.no_grad():
        for guided, (args, kwargs) in zip(list(told), list(states), strict=True):
            expected.append(projected_scale(pipe.unet(*args, **kwargs)[0][None], guided).item())
    assert path.scales == pytest.approx(expected, rel=1e-4)
    hook.remove()
    pipe.scheduler.step = step
    assert not pipe.unet._forward_hooks
    assert not freeu.active(pipe)
    from freeu.guiding import enabled

    with freeu.enabled(pipe, config or freeu.FreeUConfig()), enabled(pipe, guiding or Guiding()):
        assert torch.equal(draw(), found)


def test_videos():
    pipe = pipeline("TextToVideoSDPipeline", clip_sample=False)
    settings: dict[str, Any] = {"guidance": 5.0, "steps": 4, "frames": 3, "width": 16, "height": 16}
    found = effective_scale(pipe, None, PROMPTS[:1], guiding=HALF, **settings)
    assert found.per_step == pytest.approx((1.0, 5.0, 5.0, 1.0), rel=1e-5)
    assert found.low is None
    assert effective_scale(pipe, FACTORS, PROMPTS[:1], **settings).effective != pytest.approx(5.0, rel=1e-3)
    with pytest.raises(FreeUValueError, match="TextToVideoSDPipeline has no guidance rescale"):
        effective_scale(pipe, None, PROMPTS[:1], rescale=0.5, **settings)


def test_the_embedded_model(mini):
    seen: list[int] = []
    sd14 = freeu.preset("sd14")
    found = effective_scale(mini.pipe, sd14, PROMPTS, guidance=5.0, progress=seen.append, **SHORT)
    assert found.low < found.effective < found.high
    assert seen == [1, 2]
    assert len(found.per_step) == 4
    late = effective_scale(mini.pipe, sd14.replace(start=0.5), PROMPTS, guidance=5.0, **SHORT)
    assert late.per_step[:2] == pytest.approx((5.0, 5.0))

    def measure(scale: float) -> EffectiveScale:
        return effective_scale(mini.pipe, sd14, PROMPTS, guidance=scale, **SHORT)

    neutral = neutral_scale(measure, 5.0)
    assert neutral.evaluations[0] == (5.0, found.effective)
    assert neutral.evaluations[-1] == (neutral.matched, neutral.effective)
    assert abs(neutral.effective - 5.0) <= neutral.tolerance * 5.0
    assert measure(neutral.matched).effective == neutral.effective
    assert neutral.prompts == 2


def test_bad_input_is_named(mini):
    settings: dict[str, Any] = {"guidance": 3.0, **SHORT}
    with pytest.raises(FreeUValueError, match="calibration needs a CFG scale above 1, got 1"):
        effective_scale(mini.pipe, FACTORS, PROMPTS, **settings | {"guidance": 1.0})
    with pytest.raises(FreeUValueError, match="at least one prompt"):
        effective_scale(mini.pipe, FACTORS, [], **settings)
    with pytest.raises(FreeUValueError, match="2 prompts and 1 seed"):
        effective_scale(mini.pipe, FACTORS, PROMPTS, seeds=[1], **settings)


def test_a_prompt_that_is_the_negative_prompt():
    with pytest.raises(FreeUValueError, match="guidance has no effect here"):
        effective_scale(pipeline(clip_sample=False), None, ["a"], guidance=3.0, steps=2, negative_prompt="a")


# -- the search ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "target"),
    [
        (lambda w: w, 7.5),
        (lambda w: 0.5 * w + 0.5, 5.0),
        (lambda w: 1.36 * w, 5.5),
        (lambda w: w + 2.0, 5.0),
        (lambda w: 3.0 * math.sqrt(w), 9.0),
        (lambda w: 0.02 * w**2 + 1.0, 6.0),
        (lambda w: abs(w - 4.0), 3.0),  # what lies against d counts too
        (lambda w: 5.0 + 3.0 * math.atan(4.0 * (w - 9.0)), 5.5),
    ],
)
def test_the_root_is_found(function, target):
    found = neutral_scale(lambda scale: measured(scale, function(scale)), target)
    assert abs(function(found.matched) - target) <= found.tolerance * target
    assert found.evaluations[0][0] == target
    assert len(found.evaluations) <= 12
    assert found.effective == function(found.matched)


def test_no_root():
    def weak(scale: float) -> EffectiveScale:
        return measured(scale, 2.0)

    with pytest.raises(FreeUValueError, match=f"no CFG scale from 1 to {HIGHEST:g} has an effective scale of 5"):
        neutral_scale(weak, 5.0)
    with pytest.raises(FreeUValueError, match=r"at 1.001 it is 9, above that; use another --guidance-scale"):
        neutral_scale(lambda scale: measured(scale, 9.0), 5.0)
    with pytest.raises(FreeUValueError, match="was found in 5 trials: the nearest was"):
        neutral_scale(lambda scale: measured(scale, 1.0 if scale < 6.0 else 9.0), 5.0, most=5)

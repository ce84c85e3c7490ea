"""Settings, the scheduler's steps, and the constraints as functions of tensors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tolerances import UNET, relative_error

from freeu.errors import FreeUValueError
from freeu.motion.measure import Flow
from freeu.rerender.denoise.encoding import Autoencoder
from freeu.rerender.denoise.fusion import View, at_latents, composited
from freeu.rerender.denoise.settings import DEFAULT_STAGES, STAGES, KeyFrameSettings, Windows
from freeu.rerender.denoise.stages import softened, toward, warped, with_colours
from freeu.rerender.denoise.steps import Steps


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# -- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": 0}, "steps must lie in 1 to 1000, got 0"),
        ({"strength": 1.1}, "strength must lie in 0 to 1, got 1.1"),
        ({"strength": float("nan")}, "strength must lie in 0 to 1"),
        ({"strength": 0.3, "steps": 3}, "strength 0.3 of 3 steps is less than one step"),
        ({"guidance": -1.0}, "guidance must lie in 0 to 100"),
        ({"control_scale": 3.0}, "control_scale must lie in 0 to 2"),
        ({"pixel_strength": 2.0}, "pixel_strength must lie in 0 to 1"),
        ({"seed": -1}, "seed must lie in"),
        ({"stages": ("pixels",)}, "unknown stage 'pixels': did you mean pixel"),
        ({"stages": "pixel"}, "a collection of names"),
    ],
)
def test_settings_outside_their_ranges(fields, words):
    with pytest.raises(FreeUValueError, match=words):
        KeyFrameSettings("a cat", **fields)


@pytest.mark.parametrize("window", [(0.5, 0.2), (-0.1, 1.0), (0.0, 1.1), (0.5,), 0.5])
def test_windows_that_are_none(window):
    with pytest.raises(FreeUValueError, match="window pixel must"):
        Windows(pixel=window)


def test_when_stages_act():
    assert KeyFrameSettings("a cat").stages == DEFAULT_STAGES
    settings = KeyFrameSettings("a cat", stages=STAGES)
    assert settings.made == 12
    acting = {
        name: [step for step in range(10) if settings.acts(name, step, 10)] for name in STAGES if name != "fidelity"
    }
    pixel = [5, 6, 7]
    assert acting == {
        "cross-frame": list(range(10)),
        "shape": [0],
        "outline": pixel,
        "pixel": pixel,
        "colour": [8, 9],
    }
    short = [[settings.acts(name, step, 2) for step in range(2)] for name in ("shape", "pixel", "colour")]
    assert short == [[True, False], [False, True], [False, True]]
    whole = KeyFrameSettings("a cat", stages=STAGES, windows=Windows(shape=(0.0, 0.7), pixel=(0.3, 0.3)))
    assert [step for step in range(10) if whole.acts("shape", step, 10)] == list(range(7))
    assert not any(whole.acts("pixel", step, 10) for step in range(10))
    without = KeyFrameSettings("a cat", stages={"pixel", "colour"})
    assert not any(without.acts("shape", step, 10) for step in range(10))
    assert without == KeyFrameSettings("a cat", stages=["colour", "pixel"])


def test_settings_as_json():
    import json

    record = KeyFrameSettings("a cat", stages=("pixel",)).record()
    assert json.loads(json.dumps(record)) == record
    again = KeyFrameSettings(**record | {"windows": Windows(**record["windows"])})
    assert again == KeyFrameSettings("a cat", stages=("pixel",))


# -- steps --------------------------------------------------------------------------------------------------------

SCHEDULERS = ("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler")


def steps_of(name: str, prediction: str, count: int = 10, strength: float = 0.7) -> Steps:
    import types

    import diffusers

    more = {"clip_sample": False} if name == "DDIMScheduler" else {}
    scheduler = getattr(diffusers, name)(beta_schedule="scaled_linear", prediction_type=prediction, **more)
    holder = types.SimpleNamespace(scheduler=scheduler)
    return Steps(holder, count, strength, torch.device("cpu"), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        *itertools.product(SCHEDULERS, ("epsilon", "v_prediction")),
        *((name, "sample") for name in SCHEDULERS if name != "PNDMScheduler"),  # which has none of these
    ],
)
def test_the_clean_picture_is_found_again(name, prediction):
    steps = steps_of(name, prediction)
    picture, noise = random(1, 4, 6, 6), random(1, 4, 6, 6, seed=1)
    noisy = steps.noisy(picture, noise)
    # What the U-Net is shown is of unit variance whatever the scheduler: shares a and b with a^2 + b^2 = 1.
    shown = steps.scaled(noisy, 0)
    kept = float(steps.scheduler.alphas_cumprod[int(steps.times[0])])
    torch.testing.assert_close(shown, kept**0.5 * picture + (1 - kept) ** 0.5 * noise, rtol=1e-3, atol=1e-3)
    output = {"epsilon": noise, "v_prediction": kept**0.5 * noise - (1 - kept) ** 0.5 * picture, "sample": picture}
    torch.testing.assert_close(steps.clean(output[prediction], noisy, 0), picture, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_moving_is_ddim_with_another_picture(prediction):
    """x_{t-1} = a x0' + b eps, as if the U-Net had predicted x0', with the noise that it did predict."""
    steps = steps_of("DDIMScheduler", prediction)
    latents, output, change = random(1, 4, 6, 6), random(1, 4, 6, 6, seed=1), random(1, 4, 6, 6, seed=2)
    kept = steps.scheduler.alphas_cumprod.double()
    now, after = kept[int(steps.times[0])], kept[int(steps.times[1])]
    clean = steps.clean(output, latents, 0).double()
    noise = (latents.double() - now**0.5 * clean) / (1 - now) ** 0.5
    wanted = after**0.5 * (clean + change) + (1 - after) ** 0.5 * noise
    got = steps.moved(steps.step(output, latents, 0), change, 0)
    assert relative_error(got, wanted) < UNET


@pytest.mark.parametrize("name", SCHEDULERS)
def test_after_the_last_step_the_whole_change_is_there(name):
    steps = steps_of(name, "epsilon")
    latents, change = random(1, 4, 6, 6), random(1, 4, 6, 6, seed=2)
    torch.testing.assert_close(steps.moved(latents, change, len(steps) - 1), latents + change)


def test_schedulers_that_flow_are_refused():
    import types

    from diffusers import FlowMatchEulerDiscreteScheduler

    holder = types.SimpleNamespace(scheduler=FlowMatchEulerDiscreteScheduler())
    with pytest.raises(FreeUValueError, match="FlowMatchEulerDiscreteScheduler predicts None: key frames need"):
        Steps(holder, 5, 1.0, torch.device("cpu"), torch.Generator())


# -- shape, colour, pixel ------------------------------------------------------------------------------------------


def test_latents_follow_the_flow():
    latents = random(1, 4, 5, 7)
    displacement = np.zeros((5, 7, 2), np.float32)
    assert torch.equal(warped(latents, displacement), latents)
    displacement[..., 0], displacement[..., 1] = 2.3, -1.4  # two to the right, one up
    got = warped(latents, displacement)
    assert torch.equal(got[..., 1:, :5], latents[..., :-1, 2:])
    assert torch.equal(got[..., 0, :5], latents[..., 0, 2:])  # the rim is repeated
    assert torch.equal(got[..., 1:, 6], latents[..., :-1, 6])


def test_colours_become_those_of_another_picture():
    latents, like = random(1, 4, 8, 8), 3.0 * random(1, 4, 8, 8, seed=1) + 2.0
    got = with_colours(latents, like)
    torch.testing.assert_close(got.mean((2, 3)), like.mean((2, 3)))
    torch.testing.assert_close(got.std((2, 3)), like.std((2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(with_colours(like, like), like, rtol=1e-4, atol=1e-4)
    assert with_colours(torch.ones(1, 4, 8, 8), like).isfinite().all()


def test_where_nothing_is_asked_nothing_moves():
    latents, target = random(1, 4, 8, 8), random(1, 4, 8, 8, seed=1)
    weight = torch.zeros(1, 1, 8, 8)
    weight[..., :4] = 1.0
    got = toward(latents, target, weight)
    assert torch.equal(got[..., 4:], latents[..., 4:])
    torch.testing.assert_close(got[..., :4], target[..., :4])


def test_soft_edges():
    covered = np.zeros((15, 15), bool)
    covered[:, :5] = True
    (row,) = softened(covered, 2)[0, 0, 7:8]
    assert (row[:5] == 0.0).all()
    assert (row[9:] == 1.0).all()
    assert (row.diff() >= -1e-6).all()
    assert (softened(np.zeros((6, 6), bool), 1) == 1.0).all()
    assert (softened(np.ones((6, 6), bool), 1) == 0.0).all()


def test_views_lie_over_the_draft_the_first_on_top(pipe):
    visible = np.zeros((2, 32, 32), bool)
    visible[0, :, :16] = True  # the first key frame shows the left half, the previous one the upper half
    visible[1, :16] = True
    still = np.zeros((32, 32, 2), np.float32)
    views = [
        View(Flow(still, visible[number]), np.full((32, 32, 3), value, np.float32))
        for number, value in enumerate((255.0, 0.0))
    ]
    picture, weight = composited(torch.zeros(1, 3, 32, 32), views, Autoencoder(pipe))
    assert picture[0, 0, 4, 4] == picture[0, 0, 28, 4] == 1.0
    assert picture[0, 0, 4, 28] == -1.0
    assert picture[0, 0, 28, 28] == 0.0
    assert weight[0, 0, 28, 28] == 0.0
    assert weight[0, 0, 4, 28] == weight[0, 0, 28, 4] == weight[0, 0, 4, 4] == 1.0
    small = at_latents(weight, (8, 8))
    torch.testing.assert_close(small[0, 0, 3, 6], weight[0, 0, 12:16, 24:28].min())

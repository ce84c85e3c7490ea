"""Schedules on the timestep that the U-Net receives, under real schedulers and pipelines."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import freeu
from conftest import guided, tiny_inputs
from freeu.core.schedule import Clock, tensor_weight
from freeu.errors import FreeURuntimeError
from freeu.schedule import Schedule

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    ends=st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True),
    ramp=st.floats(0, 1),
    position=st.floats(0, 1),
    unit=st.sampled_from(["fraction", "timestep"]),
)
def test_weights_of_tensors_are_those_of_numbers(ends, ramp, position, unit):
    start, end = sorted(ends, reverse=unit == "timestep")
    schedule = Schedule(start, end, ramp * abs(start - end), unit)
    got = tensor_weight(schedule, torch.tensor(position, dtype=torch.float64)).item()
    assert got == pytest.approx(schedule.weight(position), abs=1e-9)


SCHEDULERS = [
    ("DDIMScheduler", {}),
    ("PNDMScheduler", {"skip_prk_steps": True}),
    ("EulerDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("HeunDiscreteScheduler", {}),
    ("LCMScheduler", {}),
    ("UniPCMultistepScheduler", {}),
]


@pytest.mark.parametrize(("name", "options"), SCHEDULERS)
def test_half_of_the_steps_are_half_under_every_scheduler(unet, name, options):
    import diffusers

    scheduler = getattr(diffusers, name)(**options)
    scheduler.set_timesteps(10)
    sample, _, text = tiny_inputs()
    plain = {}
    with torch.no_grad():
        for t in scheduler.timesteps:
            plain[float(t)] = unet(sample, t, text).sample
        with freeu.enabled(unet, **FACTORS, start=0.5, scheduler=scheduler):
            acted = [not torch.equal(unet(sample, t, text).sample, plain[float(t)]) for t in scheduler.timesteps]
    assert acted == sorted(acted), "acts from some step on"
    assert abs(sum(acted) - len(acted) / 2) <= 1


def test_a_bare_unet_goes_by_the_noise_level(unet, run):
    plain = {t: run(unet, torch.tensor(t)) for t in (999, 601, 400, 0)}
    with freeu.enabled(unet, **FACTORS, start=0.2, end=0.5):
        acted = {t: not torch.equal(run(unet, torch.tensor(t)), out) for t, out in plain.items()}
    assert acted == {999: False, 601: True, 400: False, 0: False}


@pytest.mark.parametrize("timestep", [601, 601.0, torch.tensor(601.0), torch.tensor([601, 601])])
def test_every_form_of_timestep(unet, run, timestep):
    plain = run(unet, timestep)
    with freeu.enabled(unet, **FACTORS, start=700, end=600, unit="timestep"):
        assert not torch.equal(run(unet, timestep), plain)
    with freeu.enabled(unet, **FACTORS, start=600, end=500, unit="timestep"):
        assert torch.equal(run(unet, timestep), plain)


def test_keyword_timestep(unet):
    sample, t, text = tiny_inputs()
    with torch.no_grad():
        plain = unet(sample, t, text).sample
        with freeu.enabled(unet, **FACTORS, start=0.9):
            assert torch.equal(unet(sample=sample, timestep=t, encoder_hidden_states=text).sample, plain)


def test_ramp_interpolates_the_factors(unet, run):
    with freeu.enabled(unet, **FACTORS, strength=0.5):
        want = run(unet, torch.tensor(500))
    with freeu.enabled(unet, **FACTORS, start=600, end=100, ramp=200, unit="timestep"):
        assert torch.equal(run(unet, torch.tensor(500)), want)  # half way up the ramp


def test_different_timesteps_in_one_batch_are_refused(unet, run):
    with (
        freeu.enabled(unet, **FACTORS, start=0.2),
        pytest.raises(FreeURuntimeError, match=r"one timestep for the whole batch, got \[1, 2\]"),
    ):
        run(unet, torch.tensor([1, 2]))


def test_sigma_of_stable_diffusion():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    clock = Clock(scheduler=scheduler)
    # The noise levels that k-diffusion gives for Stable Diffusion 1.x.
    assert clock.position(torch.tensor(999), "sigma").item() == pytest.approx(14.6146, abs=1e-3)
    assert clock.position(torch.tensor(0), "sigma").item() == pytest.approx(0.0292, abs=1e-4)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_sigma_of_edm(name):
    import diffusers

    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(10)
    clock = Clock(scheduler=scheduler)
    clock.check(Schedule(5.0, 1.0, unit="sigma"))
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        assert clock.position(t, "sigma").item() == pytest.approx(sigma.item(), rel=1e-4)


def test_sigma_needs_a_scheduler(unet):
    with pytest.raises(FreeURuntimeError, match="sigma needs the scheduler's noise levels"):
        freeu.apply(unet, **FACTORS, start=10, end=1, unit="sigma")
    assert freeu.active(unet) == ()


def test_conditional_half_only(unet):
    sample, t, text = tiny_inputs(4)
    pipe = guided(unet)
    with torch.no_grad():
        plain = unet(sample, t, text).sample
        with freeu.enabled(pipe, **FACTORS):
            both = unet(sample, t, text).sample
        with freeu.enabled(pipe, **FACTORS, guidance="conditional"):
            half = unet(sample, t, text).sample
            with pytest.raises(FreeURuntimeError, match="got 3 rows"):
                unet(sample[:3], t, text[:3])
    assert torch.equal(half[:2], plain[:2])
    assert torch.allclose(half[2:], both[2:], atol=1e-6)
    assert not torch.equal(half[2:], plain[2:])
    # The same where autograd looks, which changes nothing in place.
    with freeu.enabled(pipe, **FACTORS, guidance="conditional"):
        assert torch.allclose(unet(sample, t, text).sample, half, atol=1e-6)


def test_shared_map_makes_the_halves_agree(unet):
    sample, t, text = tiny_inputs(1)
    pipe = guided(unet)
    twice = torch.cat([sample, sample]), t, torch.cat([text, text])
    with torch.no_grad():
        with freeu.enabled(pipe, **FACTORS, share="guidance"):
            shared = unet(*twice).sample
        with freeu.enabled(pipe, **FACTORS):
            own = unet(*twice).sample
    # Equal halves have equal maps anyway, so sharing changes nothing there ...
    assert torch.allclose(shared, own, atol=1e-6)
    with torch.no_grad():
        other = torch.cat([sample, sample.flip(-1) * 2]), t, twice[2]
        with freeu.enabled(pipe, **FACTORS, share="guidance"):
            shared = unet(*other).sample
        with freeu.enabled(pipe, **FACTORS):
            own = unet(*other).sample
    # ... and does where they differ.
    assert not torch.allclose(shared, own, atol=1e-6)

"""Looking at an image while it is generated: the same image, and the spectra of what was really there."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

import freeu
from freeu.analysis import FeatureSpectra, SpectrumSum, watch
from freeu.analysis.measurement.trace import FeatureKey, decode, read_trace, trace, write_trace
from freeu.pipelines.runs.generate import generate_image

CONFIG = freeu.preset("sd14")


@pytest.fixture(params=["baseline", "freeu"])
def case(request, plan):
    """A plan with one image."""
    config = CONFIG if request.param == "freeu" else None
    made = replace(plan, arms=(request.param,), config=config)
    return made, next(made.images())


def test_the_picture_is_the_same_to_the_bit(mini, case):
    plain, _ = generate_image(mini.pipe, *case)
    seen = trace(mini.pipe, *case, maps_at=(0, 2), decode_at=(0, 2))
    assert np.array_equal(np.asarray(plain), np.asarray(seen.image))
    assert len(seen.timesteps) == len(seen.latents) == 3
    assert sorted(seen.timesteps, reverse=True) == list(seen.timesteps)
    assert sorted(seen.stages) == [0, 2]
    # The last latents are what the image is decoded from.
    np.testing.assert_allclose(seen.stages[2], np.asarray(plain) / 255.0, atol=0.5 / 255 + 1e-3)


def test_places_and_steps(mini, case):
    plan, _ = case
    seen = trace(mini.pipe, *case, maps_at=(1,))
    sites = freeu.inspect(mini.pipe)
    on = plan.config is not None
    touched = {site.path for site in sites.touched(config=CONFIG)} if on else set()
    expected = {FeatureKey(site.path, part, False) for site in sites for part in ("backbone", "skip")}
    expected |= {FeatureKey(path, part, True) for path in touched for part in ("backbone", "skip")}
    expected |= {FeatureKey(site.path, "fused", on) for site in sites}
    assert set(seen.features) == expected
    assert {len(found) for found in seen.features.values()} == {3}
    assert {step for _, step in seen.maps} == {1}
    assert {place for place, _ in seen.maps} == expected
    assert all(one.energy > 0 for found in seen.features.values() for one in found)


def test_spectra_are_those_of_the_features(mini, case):
    """Summed up while running, against the features kept and transformed afterwards."""
    kept = {}

    def keep(features):
        kept.setdefault((features.site.path, features.part, features.changed), []).append(features.tensor.clone())

    with watch(mini.pipe, keep):
        generate_image(mini.pipe, *case)
    seen = FeatureSpectra(form="diagonal", parts=("skip", "backbone"))
    with watch(mini.pipe, seen):
        generate_image(mini.pipe, *case)
    for place, steps in seen.spectra().items():
        for tensor, found in zip(kept[place], steps, strict=True):
            assert found.energy == pytest.approx(float(tensor.double().square().mean()), rel=1e-6)
            curve = SpectrumSum().add(tensor.double()).relative_log_amplitude("diagonal")
            np.testing.assert_allclose(found.curve.value, curve.value, atol=1e-4)
            assert sum(found.shares) == pytest.approx(1.0)


def test_a_trace_is_read_as_it_was_written(mini, case, tmp_path):
    seen = trace(mini.pipe, *case, maps_at=(0,), decode_at=(2,))
    path = tmp_path / "one.npz"
    path.write_bytes(write_trace(seen))
    again = read_trace(path, seen.image)
    assert again is not None
    assert write_trace(again) == write_trace(seen)
    assert again.timesteps == seen.timesteps
    assert again.features.keys() == seen.features.keys()
    assert again.latents[1].high == seen.latents[1].high


@pytest.mark.parametrize("data", [b"", b"no archive", None])
def test_a_damaged_trace_is_no_trace(mini, case, tmp_path, data):
    path = tmp_path / "one.npz"
    if data is None:
        buffer = io.BytesIO()
        np.savez(buffer, places=np.array([{"a": 1}], dtype=object))
        data = buffer.getvalue()  # pickled: it must not be loaded
    path.write_bytes(data)
    assert read_trace(path, None) is None
    assert read_trace(tmp_path / "none.npz", None) is None


def test_calls_with_the_same_timestep_are_one_step(mini):
    seen = FeatureSpectra()
    unet = mini.pipe.unet
    text = torch.zeros(1, 4, unet.config.cross_attention_dim)
    with watch(unet, seen), torch.no_grad():
        for timestep in (900, 900, 5):
            unet(torch.randn(1, 4, 16, 16), timestep, text)
    assert seen.timesteps == [900.0, 5.0]
    assert {len(found) for found in seen.spectra().values()} == {2}


def test_decoding_undoes_the_scaling(mini):
    picture = torch.zeros(1, 3, 128, 128)
    picture[:, 0] = 0.5
    with torch.no_grad():
        latents = mini.pipe.vae.encode(picture).latents * mini.pipe.vae.config.scaling_factor
    np.testing.assert_allclose(decode(mini.pipe, latents).mean(axis=(0, 1)), [0.75, 0.5, 0.5], atol=0.02)

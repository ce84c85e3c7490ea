"""Fourier measures against images whose spectrum is known, and against the formulas written out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import freeu
from freeu.analysis.measurement.measure import Curve, SpectrumSum, TransferSum, channel_mean, fourier_split, power_law

SIZES = [(32, 32), (33, 33), (16, 24), (31, 20), (8, 8), (2, 2), (3, 5)]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_spectrum(height, width, amplitude, seed=0):
    """A real plane with the given amplitude(angular radius), random phases, and 1 at frequency 0."""
    phases = np.fft.fft2(np.random.default_rng(seed).standard_normal((height, width)))
    phases /= np.abs(phases)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    distance = 2 * math.pi * np.hypot(rows, columns)
    sizes = np.where(distance > 0, amplitude(np.where(distance > 0, distance, 1.0)), 1.0)
    return torch.from_numpy(np.fft.ifft2(phases * sizes).real)


@pytest.mark.parametrize("exponent", [-0.5, -1.0, -2.0])
@pytest.mark.parametrize("size", [(128, 128), (96, 64), (65, 65)])
def test_a_power_law_is_recovered(size, exponent):
    plane = with_spectrum(*size, lambda r: r**exponent)
    curve = SpectrumSum().add(plane).relative_log_amplitude()
    assert power_law(curve) == pytest.approx(exponent, rel=0.01)
    diagonal = SpectrumSum().add(plane).relative_log_amplitude("diagonal")
    if size[0] == size[1] and size[0] % 2 == 0:
        at = Curve(diagonal.frequency * math.sqrt(2), diagonal.value)
        assert power_law(at, high=9) == pytest.approx(exponent, rel=0.01)


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_a_sine_lies_in_its_band_alone(size):
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    wave = torch.sin(2 * math.pi * (y * 0.125 + x * 0.25))  # angular radius sqrt(.25^2 + .5^2) pi = 0.559 pi
    shares = SpectrumSum().add(wave).band_shares([0.5 * math.pi, 0.6 * math.pi])
    np.testing.assert_allclose(shares, [0, 1, 0], atol=1e-12)
    shifted = SpectrumSum().add(wave + 3)
    np.testing.assert_allclose(shifted.band_shares([0.5 * math.pi, 0.6 * math.pi]), [9 / 9.5, 0.5 / 9.5, 0], atol=1e-12)
    np.testing.assert_allclose(shifted.band_shares([1.6, 1.9], mean=False), [0, 1, 0], atol=1e-12)


def test_white_noise_is_flat():
    """Bands hold power as they hold bins; the log amplitude is the same everywhere."""
    planes = noise(4000, 32, 32, dtype=torch.float32)
    found = SpectrumSum().add(planes)
    rows, columns = np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32)[None]
    distance = 2 * math.pi * np.hypot(rows, columns)
    expected = [(distance < 1).mean(), ((distance >= 1) & (distance < 2)).mean(), (distance >= 2).mean()]
    np.testing.assert_allclose(found.band_shares([1.0, 2.0]), expected, rtol=0.01)
    curve = found.relative_log_amplitude()
    # The bin of frequency 0 and those of the Nyquist frequency are real, so their mean logarithm is another one.
    assert np.ptp(curve.value[1:-1]) < 0.02
    assert power_law(curve, low=curve.frequency[2], high=curve.frequency[-2]) == pytest.approx(0.0, abs=0.01)


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=st.floats(1e-3, 1e3),
    half=st.booleans(),
)
def test_parseval(height, width, scale, half):
    x = noise(3, height, width) * scale
    x = x.half().double().half() if half else x
    found = SpectrumSum().add(x)
    assert found.energy() == pytest.approx(float(x.double().square().mean()), rel=1e-6)
    assert found.planes == 3


@pytest.mark.parametrize("size", SIZES)
def test_rings_are_means_over_the_full_spectrum(size):
    x = noise(2, 3, *size)
    curve = SpectrumSum().add(x).relative_log_amplitude()
    height, width = size
    log = np.log(np.abs(np.fft.fft2(x.numpy()))).mean(axis=(0, 1))
    count = min(size) // 2
    rings: dict[int, list[tuple[float, float]]] = {}
    for row in range(height):
        for column in range(width):
            fy, fx = (min(i, n - i) / n for i, n in ((row, height), (column, width)))
            distance = 2 * math.pi * math.hypot(fy, fx)
            ring = round(distance * count / math.pi)
            if ring <= count and distance <= math.pi + 1e-9:
                rings.setdefault(ring, []).append((distance, log[row, column]))
    expected = np.array([np.mean(rings[ring], axis=0) for ring in sorted(rings)])
    np.testing.assert_allclose(curve.frequency, expected[:, 0], atol=1e-12)
    np.testing.assert_allclose(curve.value, expected[:, 1] - log[0, 0], atol=1e-9)


@pytest.mark.parametrize("side", [8, 32, 64])
def test_the_diagonal_is_that_of_park_and_kim(side):
    x = noise(2, 5, side, side)
    shifted = np.fft.fftshift(np.log(np.abs(np.fft.fft2(x.numpy()))).mean(axis=(0, 1)))
    expected = shifted.diagonal()[side // 2 :]
    curve = SpectrumSum().add(x).relative_log_amplitude("diagonal")
    np.testing.assert_allclose(curve.value, expected - expected[0], atol=1e-9)
    np.testing.assert_allclose(curve.frequency, np.arange(side // 2) * 2 * math.pi / side)


def test_sums_do_not_depend_on_how_planes_are_added():
    x = noise(6, 4, 16, 16)
    whole = SpectrumSum().add(x)
    parts = SpectrumSum()
    for sample in x:
        parts.add(sample)
    np.testing.assert_allclose(parts.power(), whole.power(), rtol=1e-12)
    for form in ("radial", "diagonal"):
        a, b = (s.relative_log_amplitude(form).value for s in (parts, whole))
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_planes_of_zeros_have_power_but_no_logarithm():
    x = noise(1, 16, 16)
    found = SpectrumSum().add(torch.cat([x, torch.zeros_like(x)]))
    alone = SpectrumSum().add(x)
    curves = [one.relative_log_amplitude().value for one in (found, alone)]
    np.testing.assert_allclose(*curves, atol=1e-12)
    assert found.energy() == pytest.approx(alone.energy() / 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_a_split_adds_up_and_separates(size, dtype):
    x = noise(2, 3, *size).to(dtype)
    low, high = fourier_split(x, 1.0)
    assert low.dtype == high.dtype == dtype
    tolerance = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(low + high, x, rtol=tolerance, atol=tolerance)
    if dtype == torch.float64:
        spectrum = torch.fft.fft2(low)
        rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in size)
        far = 2 * math.pi * torch.hypot(rows[:, None], columns[None]) >= 1.0
        assert float((spectrum.abs() * far).max()) < 1e-10
        assert float((torch.fft.fft2(high).abs() * ~far).max()) < 1e-10


def test_a_split_beyond_the_corner_is_all_low():
    x = noise(1, 8, 8)
    low, high = fourier_split(x, 5.0)
    torch.testing.assert_close(low, x)
    assert float(high.abs().max()) < 1e-14


@pytest.mark.parametrize("scale", [0.0, 0.2, 0.9, 1.5])
@pytest.mark.parametrize("size", [(8, 8), (16, 16), (9, 12), (32, 32)])
def test_the_skip_filter_has_the_gains_of_the_published_code(size, scale):
    """DC -> s; (0, +-1), (+-1, 0) and +-(1, 1) -> (1 + s) / 2; all others, (1, -1) and (-1, 1) among them, -> 1."""
    found = TransferSum()
    for seed in range(3):
        skip = noise(2, 4, *size, seed=seed)
        found.add(skip, freeu.ops.filter_skip(skip, scale))
    expected = np.ones(size)
    expected[0, 0] = scale
    for row, column in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1)):
        expected[row, column] = (1 + scale) / 2
    np.testing.assert_allclose(found.gains(), expected, atol=1e-10)


def test_gains_of_a_shift_are_its_phases():
    x = noise(2, 9, 8)
    gains = TransferSum().add(x, x.roll(1, dims=-1)).gains()
    expected = np.exp(-2j * np.pi * np.fft.fftfreq(8))[None].repeat(9, axis=0)
    keep = np.arange(8) != 4  # the Nyquist column of a real plane is real too
    np.testing.assert_allclose(gains[:, keep], expected[:, keep], atol=1e-10)


def test_gains_are_unknown_where_nothing_went_in():
    x = torch.ones(1, 4, 4, dtype=torch.float64)
    gains = TransferSum().add(x, 2 * x).gains()
    assert gains[0, 0] == 2
    assert np.isnan(gains.ravel()[1:]).all()


def test_channel_mean():
    x = noise(2, 3, 4, 5, dtype=torch.float16)
    torch.testing.assert_close(channel_mean(x), x.float().sum(1) / 3)


def bad_add(first, second):
    return lambda: SpectrumSum().add(first).add(second)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpectrumSum().add(torch.zeros(5)), r"planes of shape \(\.\.\., H, W\), got \(5,\)"),
        (lambda: SpectrumSum().add(torch.zeros(0, 4, 4)), "planes of shape"),
        (lambda: SpectrumSum().add(torch.zeros(2, 2, dtype=torch.int64)), "real floating-point values"),
        (lambda: SpectrumSum().add(torch.full((2, 2), math.nan)), "not finite"),
        (bad_add(torch.ones(4, 4), torch.ones(4, 5)), "planes of 4x5 cannot be added to those of 4x4"),
        (lambda: SpectrumSum().energy(), "no plane was added"),
        (lambda: SpectrumSum().add(torch.zeros(4, 4)).relative_log_amplitude(), "value other than 0"),
        (lambda: SpectrumSum().add(torch.ones(1, 8)).relative_log_amplitude(), "at least 2x2, got 1x8"),
        (lambda: SpectrumSum().add(torch.ones(4, 4)).relative_log_amplitude("square"), "radial, diagonal"),
        (lambda: SpectrumSum().add(torch.ones(4, 4)).band_shares([2, 1]), "must ascend"),
        (lambda: SpectrumSum().add(torch.ones(4, 4)).band_shares([0, 1]), "must ascend"),
        (lambda: SpectrumSum().add(torch.ones(4, 4)).band_shares([1], mean=False), "no power"),
        (lambda: fourier_split(torch.ones(4, 4), 0), "above 0"),
        (lambda: fourier_split(torch.ones(4, 4), math.nan), "above 0"),
        (lambda: channel_mean(torch.ones(4, 4)), r"\(B, C, H, W\)"),
        (lambda: TransferSum().add(torch.ones(4, 4), torch.ones(4, 5)), "one shape, got 4x4, 4x5"),
        (lambda: TransferSum().gains(), "no plane"),
        (lambda: power_law(Curve(np.array([0.0, 1.0]), np.zeros(2))), "two frequencies"),
    ],
)
def test_wrong_input_is_one_line(call, message):
    with pytest.raises(freeu.FreeUValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)

"""filter_skip: parity with the FFT reference and the properties that users rely on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FILTER, GRADIENT, relative_error

from freeu.config import DC, MASKS
from freeu.errors import FreeUValueError
from freeu.ops import _lowband as lowband
from freeu.ops import filter_skip, freeu, reference

LAYOUTS = ("contiguous", "slice", "channels_last", "channels_last_slice", "strided", "expanded")


def features(layout: str, shape: tuple[int, int, int, int], dtype: torch.dtype) -> torch.Tensor:
    """Random features with a mean, so that the low band carries weight; the slice of a buffer is the main case."""
    b, c, h, w = shape
    buffer = (torch.randn(b, c + 3, h, w) + 0.5).to(dtype)
    if layout == "contiguous":
        return buffer[:, 3:].contiguous()
    if layout == "slice":
        return buffer[:, 3:]
    if layout == "channels_last":
        return buffer[:, 3:].contiguous(memory_format=torch.channels_last)
    if layout == "channels_last_slice":
        return buffer.contiguous(memory_format=torch.channels_last)[:, 3:]
    if layout == "strided":
        return torch.randn(b, c, h, 2 * w).to(dtype)[..., ::2]
    return buffer[:1, 3:].expand(b, c, h, w)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data())
def test_parity_with_the_fft_reference(data):
    threshold = data.draw(st.sampled_from([1, 1, 1, 2, 3, 4, 6, 9]))
    low = 2 * threshold if threshold > 1 else 1
    height, width = (data.draw(st.one_of(st.integers(low, min(low + 3, 96)), st.integers(low, 96))) for _ in range(2))
    dtype = data.draw(st.sampled_from(list(FILTER)))
    mask = data.draw(st.sampled_from(MASKS))
    scale = data.draw(st.sampled_from([0.0, 0.2, 0.9, 1.0, 1.7, -0.5]))
    high = data.draw(st.sampled_from([1.0, 1.0, 1.1, 0.0, scale]))
    dc = data.draw(st.sampled_from(DC))
    layout = data.draw(st.sampled_from(LAYOUTS))
    torch.manual_seed(data.draw(st.integers(0, 10**6)))
    x = features(layout, (2, 5, height, width), dtype)
    before = x.clone()
    want = reference.filter_skip(x.double(), scale, threshold, mask, high, dc)

    got = filter_skip(x, scale, threshold, mask, dc=dc, high_gain=high)
    assert torch.equal(x, before), "the input was modified"
    assert got.dtype == dtype
    assert got.shape == x.shape
    # Relative to the larger of input and output: a filter with scale 0 may leave nothing but rounding.
    size = max(want.abs().max(), before.double().abs().max())
    assert (got.double() - want).abs().max() / size <= FILTER[dtype]

    if layout != "expanded":  # rows of an expanded tensor share memory: nothing can be written there
        with torch.no_grad():
            assert filter_skip(x, scale, threshold, mask, dc=dc, high_gain=high, inplace=True) is x
        assert (x.double() - want).abs().max() / size <= FILTER[dtype]


def test_reference_is_the_published_listing():
    """The window of the published code around the shifted centre, spelled out."""
    x = torch.randn(1, 2, 6, 9, dtype=torch.float64)
    spectrum = torch.fft.fftshift(torch.fft.fftn(x, dim=(-2, -1)), dim=(-2, -1))
    spectrum[..., 3 - 2 : 3 + 2, 4 - 2 : 4 + 2] *= 0.3
    want = torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real
    assert relative_error(reference.filter_skip(x, 0.3, 2), want) <= FILTER[torch.float64]


def test_reference_agrees_with_diffusers():
    from diffusers.utils.torch_utils import fourier_filter

    x = torch.randn(2, 3, 12, 20)
    assert relative_error(reference.filter_skip(x, 0.2), fourier_filter(x, threshold=1, scale=0.2)) <= FILTER[x.dtype]


@pytest.mark.parametrize(("threshold", "rank"), [(1, 7), (2, 23), (3, 47), (4, 79)])
@pytest.mark.parametrize("size", [(11, 12), (14, 15)])  # the dense and the separable form
def test_rank_of_the_window(threshold, rank, size):
    pixels = size[0] * size[1]
    impulses = torch.eye(pixels, dtype=torch.float64).view(pixels, 1, *size)
    matrix = filter_skip(impulses, 2.0, threshold).flatten(1) - torch.eye(pixels)
    assert torch.linalg.matrix_rank(matrix) == rank
    assert torch.allclose(matrix, matrix.T)


def test_effective_gains_of_the_window():
    """DC -> s; (0, +-1), (+-1, 0), +-(1, 1) -> (1 + s) / 2; (1, -1) -> 1."""
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    for (ky, kx), gain in {(0, 0): 0.2, (0, 1): 0.6, (1, 0): 0.6, (1, 1): 0.6, (1, -1): 1.0, (0, 2): 1.0}.items():
        wave = torch.cos(2 * torch.pi * (ky * y + kx * x) / 8).double()[None, None]
        assert relative_error(filter_skip(wave, 0.2), gain * wave) <= 1e-6


def test_single_pixel_is_scaled():
    assert filter_skip(torch.full((1, 1, 1, 1), 3.0), 0.2).item() == pytest.approx(0.6)


@pytest.mark.parametrize("dtype", FILTER)
def test_identity_is_exact_and_a_copy(dtype):
    x = torch.randn(2, 3, 5, 7).to(dtype)
    y = filter_skip(x, 1.0)
    assert torch.equal(x, y)
    assert y.data_ptr() != x.data_ptr()
    # Factors in tensors are never looked at, and still the identity is exact.
    assert torch.equal(filter_skip(x, torch.tensor(1.0)), x)


def test_affine_in_the_scale():
    x = torch.randn(2, 3, 9, 6, dtype=torch.float64)
    ends = filter_skip(x, 0.0), filter_skip(x, 1.0)
    assert relative_error(filter_skip(x, 0.3), 0.7 * ends[0] + 0.3 * ends[1]) <= FILTER[torch.float64]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_tensor_factors_equal_numbers(mask, layout):
    x = features(layout, (2, 4, 10, 12), torch.float32)
    number = filter_skip(x, 0.2, 2, mask, high_gain=1.1)
    assert relative_error(filter_skip(x, torch.tensor(0.2), 2, mask, high_gain=torch.tensor(1.1)), number) <= 1e-6


@pytest.mark.parametrize("size", [(6, 7), (14, 15)])  # the dense and the separable form
@pytest.mark.parametrize("threshold", [1, 3])
def test_gradients_are_those_of_the_reference(threshold, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    weight = torch.randn_like(x)
    grads = []
    for function in (filter_skip, reference.filter_skip):
        leaf = x.clone().requires_grad_()
        scale = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
        (function(leaf, scale, threshold) * weight).sum().backward()
        grads.append((leaf.grad, scale.grad))
    for got, want in zip(*grads, strict=True):
        assert relative_error(got, want) <= GRADIENT


def test_sums_stay_in_float32_under_autocast():
    x = torch.randn(2, 8, 16, 16) + 4.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = filter_skip(x, 0.2)
    assert relative_error(got, reference.filter_skip(x, 0.2)) <= FILTER[torch.float32]


def test_memory_format_is_kept():
    x = torch.randn(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    assert filter_skip(x, 0.2).is_contiguous(memory_format=torch.channels_last)


def test_cache_is_bounded_and_keeps_no_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    for size in range(1, 200):
        filter_skip(torch.randn(1, 1, size, 3), 0.5)
    assert len(lowband._cache) <= lowband._CACHE_SIZE
    lowband._cache.clear()
    with FakeTensorMode():
        filter_skip(torch.randn(1, 2, 4, 4), 0.5)
    assert not lowband._cache


def test_basis_made_in_inference_mode_serves_training_later():
    lowband._cache.clear()
    with torch.inference_mode():
        filter_skip(torch.randn(1, 2, 11, 13), 0.5)
    x = torch.randn(1, 2, 11, 13, requires_grad=True)
    filter_skip(x, 0.5).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skip": torch.randn(3, 4, 4)}, r"4 dimensions \(B, C, H, W\), got shape \(3, 4, 4\)"),
        ({"skip": torch.zeros(1, 1, 4, 4, dtype=torch.int64)}, "floating-point tensor, got torch.int64"),
        ({"skip": torch.zeros(1, 1, 0, 4)}, "at least one pixel"),
        ({"scale": float("nan")}, "scale must be finite, got nan"),
        ({"scale": float("inf")}, "scale must be finite, got inf"),
        ({"scale": torch.tensor(float("nan"))}, "scale must be finite, got nan"),
        ({"scale": torch.ones(2)}, r"0-dimensional, got shape \(2,\)"),
        ({"scale": "0.5"}, "scale must be a number"),
        ({"threshold": 0}, "at least 1 frequency bin, got 0"),
        ({"threshold": 1.5}, "whole number of frequency bins, got 1.5"),
        ({"threshold": 5}, "threshold 5 covers 10 .* 8x8 map: use a threshold of at most 4"),
        ({"mask": "windows"}, "unknown mask 'windows': did you mean window"),
        ({"dc": "skip"}, "unknown dc 'skip': did you mean"),
        ({"inplace": True}, "inplace=True needs torch.no_grad"),
    ],
)
def test_bad_input(change, message):
    arguments = {"skip": torch.randn(1, 2, 8, 8), "scale": 0.5} | change
    with pytest.raises(FreeUValueError, match=message):
        filter_skip(**arguments)


def test_inplace_refuses_a_tensor_that_requires_grad():
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    with torch.no_grad(), pytest.raises(FreeUValueError, match="does not require grad"):
        filter_skip(x, 0.5, inplace=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inference_in_place_allocates_no_tensor_of_feature_size(dtype):
    """The profiler's largest single allocation stays far below the features."""
    from torch.profiler import ProfilerActivity, profile

    buffer = torch.randn(2, 2560, 32, 32).to(dtype)
    h, skip = buffer[:, :1280], buffer[:, 1280:]
    with torch.no_grad():
        freeu(h, skip, 1.3, 0.2, inplace=True)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            freeu(h, skip, 1.3, 0.2, inplace=True)
    largest = max(event.self_cpu_memory_usage for event in record.events())
    assert 0 < largest < skip.numel() * skip.element_size() / 2

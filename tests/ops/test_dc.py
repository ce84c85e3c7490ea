"""What the filter does to each channel's mean, and gains of the whole skip."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FILTER, GRADIENT, relative_error

from freeu.config import DC, MASKS
from freeu.ops import _lowband as lowband
from freeu.ops import filter_skip, freeu, reference

SIZES = ((1, 1), (1, 6), (2, 2), (3, 2), (8, 8), (13, 14), (16, 16), (21, 32))
F64 = FILTER[torch.float64]


def features(size, dtype=torch.float64):
    return (torch.randn(2, 3, *size) + 0.5).to(dtype)


def mean_of(x):
    return x.mean(dim=(2, 3), keepdim=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask", MASKS)
def test_keep_leaves_the_mean_and_only_touches_nothing_else(size, mask):
    x = features(size)
    kept = filter_skip(x, 0.2, mask=mask, dc="keep")
    assert (mean_of(kept) - mean_of(x)).abs().max() <= F64
    only = filter_skip(x, 0.2, mask=mask, dc="only")
    assert (mean_of(only) - 0.2 * mean_of(x)).abs().max() <= F64
    assert ((only - mean_of(only)) - (x - mean_of(x))).abs().max() <= 4 * F64


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask", MASKS)
def test_keep_and_then_only_is_scale(size, mask):
    """The two bands are disjoint and make up the whole, so one after the other equals both at once."""
    x = features(size)
    both = filter_skip(filter_skip(x, 0.3, mask=mask, dc="keep"), 0.3, mask=mask, dc="only")
    want = filter_skip(x, 0.3, mask=mask)
    assert (both - want).abs().max() / x.abs().max() <= F64


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.sampled_from(SIZES),
    mask=st.sampled_from(MASKS),
    dc=st.sampled_from(DC),
    s=st.floats(0, 2),
    high=st.floats(0, 2),
    g=st.floats(0, 2),
)
def test_a_gain_of_the_whole_is_in_both_factors(size, mask, dc, s, high, g):
    """g * (high * x + (s - high) L x)."""
    torch.manual_seed(0)
    x = features(size)
    got = filter_skip(x, g * s, mask=mask, dc=dc, high_gain=g * high)
    want = g * reference.filter_skip(x, s, 1, mask, high, dc)
    assert (got - want).abs().max() / x.abs().max() <= 8 * F64


@pytest.mark.parametrize("dtype", FILTER)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_pure_gain_is_a_multiplication(dtype, inplace):
    x = features((8, 8), dtype)[:, 1:]
    want = x * 0.78
    lowband._cache.clear()
    with torch.no_grad():
        assert torch.equal(filter_skip(x, 0.78, high_gain=0.78, inplace=inplace), want)
    assert not lowband._cache, "a band was built for nothing"


@pytest.mark.parametrize("dc", ["keep", "only"])
@pytest.mark.parametrize("size", [(1, 1), (6, 7), (14, 15)])
def test_gradients_are_those_of_the_reference(dc, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    weight = torch.randn_like(x)
    grads = []
    for function in (filter_skip, reference.filter_skip):
        leaf = x.clone().requires_grad_()
        scale = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
        (function(leaf, scale, dc=dc) * weight).sum().backward()
        grads.append((leaf.grad, scale.grad))
    for got, want in zip(*grads, strict=True):
        assert (got - want).abs().max() <= GRADIENT


@pytest.mark.parametrize("dc", DC)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("time_threshold", [1, 2])
def test_over_time_the_mean_is_that_of_each_frame(dc, mask, time_threshold):
    clip = features((6, 5))[:1].repeat(5, 1, 1, 1) + 0.3 * torch.randn(5, 3, 6, 5, dtype=torch.float64)
    got = filter_skip(clip, 0.2, 2, mask, dc=dc, high_gain=1.1, frames=5, time_threshold=time_threshold)
    want = reference.filter_clip(clip, 0.2, 2, mask, time_threshold, 1.1, dc)
    assert relative_error(got, want) <= F64
    if dc == "keep":
        assert (mean_of(got) - 1.1 * mean_of(clip)).abs().max() <= F64


@pytest.mark.parametrize("dc", DC)
def test_both_operators_hand_it_on(dc):
    h, skip = features((8, 8)), features((8, 8))
    assert torch.equal(freeu(h, skip, 1.2, 0.3, dc=dc)[1], filter_skip(skip, 0.3, dc=dc))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("dc", ["keep", "only"])
@pytest.mark.parametrize("mask", ["window", "radial", "gaussian"])
def test_every_form_compiles(dc, mask):
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, s, high: filter_skip(x, s, mask=mask, dc=dc, high_gain=high), backend="aot_eager", fullgraph=True
    )
    for size in ((9, 10), (17, 16)):
        x = features(size)
        want = filter_skip(x, 0.2, mask=mask, dc=dc, high_gain=1.1)
        assert relative_error(compiled(x, torch.tensor(0.2), torch.tensor(1.1)), want) <= FILTER[torch.float32]
    torch._dynamo.reset()

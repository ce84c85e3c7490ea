"""Maps of one and three dimensions: the operators equal the transform as published, in their number of dimensions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import relative_error

from freeu.errors import FreeUValueError
from freeu.ops import filter_skip, reference, scale_backbone

LINES = st.tuples(st.just(1), st.integers(1, 40))
VOLUMES = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 8))


@settings(max_examples=60, deadline=None)
@given(
    sizes=LINES | VOLUMES,
    mask=st.sampled_from(["window", "radial", "symmetric"]),
    dc=st.sampled_from(["scale", "keep", "only"]),
    s=st.floats(0.0, 2.0),
    high=st.sampled_from([1.0, 1.2]),
    inplace=st.booleans(),
)
def test_the_skip_filter_equals_the_transform(sizes, mask, dc, s, high, inplace) -> None:
    x = torch.randn(2, 3, *sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    want = reference.filter_skip(x, s, 1, mask, high, dc)
    given = x.clone()
    with torch.no_grad():
        found = filter_skip(given, s, 1, mask, dc=dc, high_gain=high, inplace=inplace)
    assert found.shape == x.shape
    assert (found is given) == inplace
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("sizes", "threshold"), [((1, 12), 3), ((8, 8, 8), 2), ((9, 6, 7), 3)])
def test_wider_bands(sizes, threshold) -> None:
    x = torch.randn(2, 3, *sizes, dtype=torch.float64)
    for mask in ("window", "radial", "symmetric"):
        found = filter_skip(x, 0.3, threshold, mask)
        torch.testing.assert_close(found, reference.filter_skip(x, 0.3, threshold, mask), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sizes", [(1, 11), (4, 6, 5)])
@pytest.mark.parametrize("version", [1, 2])
def test_the_backbone_equals_the_published_form(sizes, version) -> None:
    x = torch.randn(2, 6, *sizes, dtype=torch.float64)
    want = reference.scale_backbone(x, 1.4, version)
    torch.testing.assert_close(scale_backbone(x, 1.4, version), want)
    with torch.no_grad():
        assert scale_backbone(x, 1.4, version, inplace=True) is x
    torch.testing.assert_close(x, want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_parts_of_a_buffer_in_any_order(dtype) -> None:
    buffer = torch.randn(2, 8, 4, 6, 8).to(dtype)
    for x in (buffer, buffer.to(memory_format=torch.channels_last_3d), buffer.transpose(2, 4)):
        part, want = x[:, 3:], reference.filter_skip(x[:, 3:].double(), 0.2)
        with torch.no_grad():
            found = filter_skip(part.clone(memory_format=torch.preserve_format), 0.2, inplace=True)
        assert relative_error(found.double(), want) <= 1e-2
        changed = x.clone(memory_format=torch.preserve_format)
        with torch.no_grad():
            filter_skip(changed[:, 3:], 0.2, inplace=True)
        assert relative_error(changed[:, 3:].double(), want) <= 1e-2
        assert torch.equal(changed[:, :3], x[:, :3])


def test_gradients_are_those_of_the_formula() -> None:
    x = torch.randn(1, 4, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: filter_skip(x, 0.4), x)
    assert torch.autograd.gradcheck(lambda x: scale_backbone(x, 1.3), x)


def test_bad_maps_and_bands_are_told() -> None:
    with pytest.raises(FreeUValueError, match=r"volumes have 5 \(B, C, D, H, W\)"):
        filter_skip(torch.zeros(2, 3, 4), 0.5)
    with pytest.raises(FreeUValueError, match="would wrap round the 8x3x8 volume: use a threshold of at most 1"):
        filter_skip(torch.zeros(1, 1, 8, 3, 8), 0.5, 2)
    with pytest.raises(FreeUValueError, match="gaussian has no narrow band in three dimensions"):
        filter_skip(torch.zeros(1, 1, 8, 8, 8), 0.5, mask="gaussian")
    with pytest.raises(FreeUValueError, match="would wrap round"):
        filter_skip(torch.zeros(1, 1, 1, 5), 0.5, 3)

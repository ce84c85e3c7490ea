"""scale_backbone: parity with the published formula, channel choices, shared maps, constant maps."""

import pytest
import torch
from tolerances import BACKBONE, GRADIENT, relative_error

from freeu.config import CHANNELS
from freeu.errors import FreeUValueError
from freeu.ops import freeu, reference, scale_backbone, structure_gain
from freeu.ops.backbone import channel_slice


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", BACKBONE)
@pytest.mark.parametrize("shape", [(2, 6, 8, 8), (1, 5, 3, 7), (3, 2, 1, 4)])
def test_parity_with_the_reference(version, dtype, shape):
    h = torch.randn(shape).to(dtype)
    before = h.clone()
    want = reference.scale_backbone(h.double(), 1.4, version)
    got = scale_backbone(h, 1.4, version)
    assert torch.equal(h, before), "the input was modified"
    assert got.dtype == dtype
    assert relative_error(got, want) <= BACKBONE[dtype]
    with torch.no_grad():
        assert scale_backbone(h, 1.4, version, inplace=True) is h
    assert relative_error(h, want) <= BACKBONE[dtype]


@pytest.mark.parametrize("version", [1, 2])
def test_identity_is_exact(version):
    h = torch.randn(2, 4, 5, 5)
    assert torch.equal(scale_backbone(h, 1.0, version), h)
    assert torch.equal(scale_backbone(h, torch.tensor(1.0), version), h)


def test_zero_is_a_value():
    h = torch.randn(2, 4, 5, 5)
    assert not scale_backbone(h, 0.0, 1)[:, :2].any()
    assert torch.equal(scale_backbone(h, 0.0, 1)[:, 2:], h[:, 2:])


def test_constant_map_has_gain_one_where_the_published_code_gives_nan():
    h = torch.full((2, 4, 3, 3), 0.7)
    assert reference.scale_backbone(h, 1.5).isnan().any()
    assert torch.equal(scale_backbone(h, 1.5), h)
    mixed = torch.cat([h[:1], torch.randn(1, 4, 3, 3)])
    assert relative_error(scale_backbone(mixed, 1.5)[1:], reference.scale_backbone(mixed[1:], 1.5)) <= 1e-6


def test_structure_gain_spans_one_to_b():
    alpha = structure_gain(torch.randn(2, 8, 6, 6), 1.6)
    assert alpha.shape == (2, 1, 6, 6)
    assert torch.allclose(alpha.amin(dim=(1, 2, 3)), torch.ones(2))
    assert torch.allclose(alpha.amax(dim=(1, 2, 3)), torch.full((2,), 1.6))


@pytest.mark.parametrize(
    ("spec", "count", "chosen"),
    [
        ("first", 8, [0, 1, 2, 3]),
        ("first", 7, [0, 1, 2]),
        ("second", 7, [4, 5, 6]),
        ("even", 7, [0, 2, 4]),
        ("all", 3, [0, 1, 2]),
        ("first-inclusive", 8, [0, 1, 2, 3, 4]),
        (0.25, 8, [0, 1]),
        (0.3, 10, [0, 1, 2]),
        ((0.5, 0.75), 8, [4, 5]),
    ],
)
def test_channels(spec, count, chosen):
    assert list(range(count))[channel_slice(spec, count)] == chosen
    h = torch.ones(1, count, 2, 2)
    for grad in (False, True):
        scaled = scale_backbone(h.clone().requires_grad_(grad), 3.0, 1, channels=spec)
        assert (scaled[0, :, 0, 0] == 3.0).nonzero().flatten().tolist() == chosen


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("version", [1, 2])
def test_gradients_by_differences(channels, version):
    h = torch.randn(2, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(1.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h, b: scale_backbone(h, b, version, channels=channels), (h, b), atol=1e-6)


def test_gradients_are_those_of_the_reference():
    h = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    grads = []
    for function in (scale_backbone, reference.scale_backbone):
        leaf = h.clone().requires_grad_()
        function(leaf, 1.4).square().sum().backward()
        grads.append(leaf.grad)
    assert relative_error(*grads) <= GRADIENT


def test_guidance_halves_share_one_map():
    h = torch.randn(4, 6, 5, 5)
    shared = structure_gain(h, 1.5, "guidance")
    assert torch.equal(shared[:2], shared[2:])
    means = h.mean(1, keepdim=True)
    want = structure_gain((means[:2] + means[2:]) / 2, 1.5)
    assert relative_error(shared[:2], want) <= 1e-6


def test_frames_share_one_map():
    shared = structure_gain(torch.randn(6, 4, 5, 5), 1.5, 3)
    assert torch.equal(shared[0], shared[2])
    assert torch.equal(shared[3], shared[5])
    assert not torch.equal(shared[2], shared[3])


def test_both_operators_together():
    h, skip = torch.randn(2, 6, 8, 8), torch.randn(2, 4, 8, 8)
    for got, want in zip(freeu(h, skip, 1.3, 0.2), reference.freeu(h, skip, 1.3, 0.2), strict=True):
        assert relative_error(got, want) <= 2e-6
    with pytest.raises(FreeUValueError, match="agree in batch and map size"):
        freeu(h, skip[..., :4], 1.3, 0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": torch.randn(4, 4)}, "4 dimensions"),
        ({"b": float("nan")}, "b must be finite"),
        ({"b": True}, "b must be a number"),
        ({"version": 3}, r"version must be 1 \(constant\) or 2"),
        ({"channels": "frist"}, "unknown channels 'frist': did you mean first"),
        ({"channels": 1.5}, "fractions with 0 <= start < stop <= 1"),
        ({"share": "guidance"}, "both halves of guidance in the batch, got 3"),
        ({"share": 2}, "divisor of the batch size 3, got 2"),
    ],
)
def test_bad_input(change, message):
    arguments = {"h": torch.randn(3, 4, 5, 5), "b": 1.4} | change
    with pytest.raises(FreeUValueError, match=message):
        scale_backbone(**arguments)

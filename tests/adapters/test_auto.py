"""Sites found by one traced call: what counts as one, and what does not. On real classes: test_contract.py."""

from __future__ import annotations

import pytest
import torch
from tolerances import UNET, relative_error
from torch import Tensor, nn
from unet_contract import FACTORS, published_at

import freeu
from freeu.errors import FreeUValueError, NoSitesError


class Tiny(nn.Module):
    """Two levels, and a choice of what goes wrong."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.down, self.low = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.up, self.other = nn.Conv2d(8, 2, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.norm(self.down(x))
        h = nn.functional.interpolate(self.low(skip), scale_factor=2)
        if self.kind == "added":
            return self.down(x) + h
        if self.kind == "unrelated":
            return self.up(torch.cat([self.down(x), self.down(x.flip(0))], dim=1))
        joined = torch.cat([2**-0.5 * skip, h] if self.kind == "skip first" else [h, skip], dim=1)
        if self.kind == "two readers":
            return self.up(joined) + self.other(joined)
        if self.kind == "read beside":
            return self.up(joined) + joined[:, :2]
        if self.kind == "within":
            return nn.functional.conv2d(joined, self.up.weight, padding=1)
        return self.up(joined)


def tiny(kind: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Tiny(kind), torch.randn(2, 2, 8, 8)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("added", "concatenates nothing along channels"),
        ("unrelated", "never what comes up a decoder"),
        ("two readers", r"two modules read it: up and other"),
        ("read beside", r"beside up, getitem\(\) reads it"),
        ("within", "no module receives it: the model concatenates and works on in one forward"),
    ],
)
def test_what_is_no_site_is_told(kind: str, reason: str) -> None:
    model, x = tiny(kind)
    with pytest.raises(NoSitesError, match=reason) as caught:
        freeu.apply(model, **FACTORS, example_args=(x,))
    assert "\n" not in str(caught.value)


def test_the_skip_may_stand_first_and_scaled() -> None:
    model, x = tiny("skip first")
    (site,) = freeu.inspect(model, example_args=(x,)).sites
    assert (site.path, site.backbone_first, site.backbone_channels, site.skip_channels) == ("up", False, 4, 4)
    model.eval()
    with torch.no_grad():
        before = model(x)
        with published_at((site,), 2):
            want = model(x)
        with freeu.enabled(model, **FACTORS):
            found = model(x)
        assert relative_error(found, want) <= UNET
        assert torch.equal(model(x), before)
    with freeu.enabled(model, **FACTORS):
        assert relative_error(model(x).detach(), want) <= UNET


def test_the_traced_call_leaves_the_model_as_it_was() -> None:
    model, x = tiny("plain")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    freeu.inspect(model, example_args=(x,))
    assert model.training
    assert model.norm.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in model.modules())


def test_an_example_is_needed_once_and_must_fit() -> None:
    model, x = tiny("plain")
    with pytest.raises(NoSitesError, match=r"Tiny has no skip concatenation .* example_args=\(x, t\)"):
        freeu.apply(model, **FACTORS)
    with pytest.raises(FreeUValueError, match=r"Tiny does not take these example_args .*RuntimeError"):
        freeu.apply(model, **FACTORS, example_args=(x[:, :1],))
    freeu.apply(model, **FACTORS, example_args=(x,)).remove()
    assert len(freeu.inspect(model).sites) == 1
    freeu.apply(model, **FACTORS).remove()

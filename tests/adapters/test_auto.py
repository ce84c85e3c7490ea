"""Sites found by one traced call: those of the named adapters, and those of real U-Nets of other packages."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from foreign_unets import FOREIGN, Foreign
from tolerances import FOREIGN_UNET, UNET, relative_error
from torch import Tensor, nn
from video_families import FAMILIES

import freeu
from conftest import tiny_unet
from freeu.adapters import adapter_for
from freeu.adapters.auto import find
from freeu.core.site import Site
from freeu.errors import FreeUValueError, NoSitesError
from freeu.ops import reference

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


COMPILED = ("guided-diffusion UNetModel (ADM)", "MONAI DiffusionModelUNet, 3-D")


@pytest.fixture(scope="module", params=FOREIGN)
def foreign(request: pytest.FixtureRequest) -> tuple[Foreign, nn.Module]:
    row = FOREIGN[request.param]
    try:
        model = row.build()
    except ImportError as error:
        pytest.skip(f"{row.module} is not installed: {error}")
    found = freeu.inspect(model, example_args=row.args(), example_kwargs=row.kwargs())
    assert [site.path for site in found.sites] == [*row.sites]
    assert [one.where for one in found.unsure] == [*row.left]
    return row, model


@contextmanager
def published_at(sites: tuple[Site, ...], version: int) -> Iterator[list[Site]]:
    """The published operator in the place of ``torch.cat``, at the next site that a concatenation's widths fit."""
    wanted = list(sites)
    concatenate = torch.cat

    def cat(tensors: Any, dim: int = 0, **more: Any) -> Tensor:
        parts = list(tensors)
        axis = more.pop("axis", dim)
        if wanted and len(parts) == 2 and parts[0].dim() > 2 and axis % parts[0].dim() == 1:
            site = wanted[0]
            places = (0, 1) if site.backbone_first else (1, 0)
            if [parts[place].shape[1] for place in places] == [site.backbone_channels, site.skip_channels]:
                wanted.pop(0)
                b, s = (FACTORS[name][site.stage - 1] if site.stage in (1, 2) else 1.0 for name in "bs")
                if (b, s) != (1.0, 1.0):
                    h, skip = (parts[place].unsqueeze(2) if parts[0].dim() == 3 else parts[place] for place in places)
                    changed = reference.freeu(h, skip, b, s, version)
                    for place, one in zip(places, changed, strict=True):
                        parts[place] = one.view(parts[place].shape)
        return concatenate(parts, axis, **more)

    with mock.patch.object(torch, "cat", cat):
        yield wanted


@pytest.mark.parametrize("version", [1, 2])
def test_it_equals_the_published_operator_in_the_host(foreign: tuple[Foreign, nn.Module], version: int) -> None:
    row, model = foreign
    with torch.no_grad():
        before = row.run(model)
        with freeu.enabled(model, **FACTORS, version=version) as handle:
            found = row.run(model)
            assert [*handle.verify().values()] == [1] * len(handle.sites)
        with published_at(freeu.inspect(model).sites, version) as left:
            want = row.run(model)
        assert left == []
        assert relative_error(found, want) <= FOREIGN_UNET
        assert relative_error(before, want) > 10 * FOREIGN_UNET
        assert torch.equal(row.run(model), before)


def test_it_nests_copies_and_has_gradients(foreign: tuple[Foreign, nn.Module]) -> None:
    row, model = foreign
    with torch.no_grad(), freeu.enabled(model, **FACTORS):
        strong = row.run(model)
        with freeu.enabled(model, b=(1.1, 1.1)):
            assert relative_error(row.run(model), strong) > 10 * FOREIGN_UNET
        assert torch.equal(row.run(model), strong)
        alone = copy.deepcopy(model)
        assert torch.equal(row.run(alone), strong)
    with freeu.enabled(model, **FACTORS):
        out = row.run(model)  # gradients are on: nothing may be changed in place
        assert relative_error(out.detach(), strong) <= FOREIGN_UNET
        out.square().mean().backward()
        weights = [weight.grad for weight in model.parameters() if weight.grad is not None]
        assert weights
        assert all(grad.isfinite().all() for grad in weights)
        model.zero_grad(set_to_none=True)


def test_it_compiles(foreign: tuple[Foreign, nn.Module]) -> None:
    row, model = foreign
    if row.family not in COMPILED:
        pytest.skip("compiling one class of each kind is enough: it takes half a minute")
    with torch.no_grad(), freeu.enabled(model, **FACTORS):
        want = row.run(model)
    fresh = copy.deepcopy(model)
    freeu.apply(fresh, **FACTORS, example_args=row.args(), example_kwargs=row.kwargs())
    torch._dynamo.reset()
    compiled = torch.compile(fresh, backend="eager")
    with torch.no_grad():
        assert relative_error(row.run(compiled), want) <= FOREIGN_UNET
    torch._dynamo.reset()


KNOWN: dict[str, Callable[[], tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]] = {
    name: lambda family=family: (
        family.model(),
        (family.sample(), family.timestep(10, 2)),
        {**family.conditions(2), **family.options},
    )
    for name, family in FAMILIES.items()
}
KNOWN["UNet2DConditionModel"] = lambda: (
    tiny_unet(cross_attention_dim=12),
    (torch.randn(2, 4, 16, 16), torch.tensor(5), torch.randn(2, 7, 12)),
    {},
)


@pytest.mark.parametrize("name", KNOWN)
def test_a_traced_call_finds_what_the_named_adapter_finds(name: str) -> None:
    model, args, kwargs = KNOWN[name]()
    found, named = find(model, args, kwargs), adapter_for(model).find_sites(model)
    for mine, theirs in itertools.zip_longest(found.sites, named):
        for field in ("path", "backbone_channels", "skip_channels", "stage"):
            assert getattr(mine, field) == getattr(theirs, field), field
    assert found.unsure == ()


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


def test_a_schedule_reads_the_timestep_of_the_example() -> None:
    row = next(iter(FOREIGN.values()))
    try:
        model = row.build()
    except ImportError as error:
        pytest.skip(f"{row.module} is not installed: {error}")
    x = row.args()[0]
    with torch.no_grad():
        plain = [model(x, torch.tensor([time, time])) for time in (900, 100)]
        with freeu.enabled(model, **FACTORS, unit="timestep", start=1000, end=500, example_args=row.args()):
            early, late = (model(x, torch.tensor([time, time])) for time in (900, 100))
    assert relative_error(early, plain[0]) > 10 * UNET
    assert torch.equal(late, plain[1])

"""What every adapter promises, as one list of checks that run on any real U-Net class; each raises where it fails.

``tests/adapters/test_contract.py`` runs them, and ``scripts/coverage.py`` writes what they find into docs/unets.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from foreign_unets import Foreign
from tolerances import FOREIGN_UNET, relative_error
from torch import Tensor, nn

import freeu
from freeu.adapters import ADAPTERS, adapter_for
from freeu.adapters.auto import find
from freeu.core.site import Site
from freeu.ops import reference

FACTORS: dict[str, Any] = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
FAR = 10 * FOREIGN_UNET
"""What counts as changed."""


def factors(row: Foreign) -> dict[str, Any]:
    """Published ones, with the version that the class takes."""
    return {**FACTORS, "version": row.version}


def known(model: nn.Module) -> bool:
    """Whether a named adapter, and not only a traced call, finds the sites."""
    return any(adapter.matches(model) for adapter in ADAPTERS)


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


def sites(row: Foreign, model: nn.Module) -> str:
    """The expected concatenations, and how many they are."""
    found = freeu.inspect(model, example_args=row.args(), example_kwargs=row.kwargs())
    assert [site.path for site in found.sites] == [*row.sites]
    return str(len(found.sites))


def auto(row: Foreign, model: nn.Module) -> str:
    """One traced call finds what the named adapter finds, and lists what it leaves alone."""
    traced = find(model, row.args(), row.kwargs())
    assert [one.where for one in traced.unsure] == [*row.left]
    if not known(model):
        return "only"
    named = freeu.inspect(model).sites
    for name in ("path", "backbone_channels", "skip_channels", "stage", "backbone_first"):
        assert [getattr(site, name) for site in traced.sites] == [getattr(site, name) for site in named], name
    return "yes"


def _parity(row: Foreign, model: nn.Module, version: int) -> str:
    with torch.no_grad():
        before = row.run(model)
        with freeu.enabled(model, **FACTORS, version=version) as handle:
            found = row.run(model)
            assert [*handle.verify().values()] == [1] * len(handle.sites)
        with published_at(freeu.inspect(model).sites, version) as left:
            want = row.run(model)
    assert left == []
    assert relative_error(found, want) <= FOREIGN_UNET
    assert relative_error(before, want) > FAR
    return "yes"


def version_1(row: Foreign, model: nn.Module) -> str:
    """The published operator of version 1, put in the place of the host's own ``torch.cat``."""
    return _parity(row, model, 1)


def version_2(row: Foreign, model: nn.Module) -> str:
    """The same of version 2; refused where the backbone has no structure map."""
    if row.version == 1:
        with pytest.raises(freeu.FreeURuntimeError, match="use version=1") as caught:
            freeu.apply(model, **FACTORS, version=2)
        assert "\n" not in str(caught.value)
        freeu.apply(model, s=FACTORS["s"], version=2).remove()
        return "refused"
    return _parity(row, model, 2)


def schedule(row: Foreign, model: nn.Module) -> str:
    """The timestep of the call is read: FreeU acts in a window around it, and not at all in one elsewhere."""
    with torch.no_grad():
        plain = row.run(model)
        with freeu.enabled(model, **factors(row)):
            whole = row.run(model)
        timed = adapter_for(model).host.timestep(row.args(), row.kwargs()) is not None
        with freeu.enabled(model, **factors(row), unit="timestep", start=1000, end=0):
            if not timed:
                with pytest.raises(freeu.FreeURuntimeError, match="this call of the U-Net has none"):
                    row.run(model)
                return "no timestep"
            assert torch.equal(row.run(model), whole)
        with freeu.enabled(model, **factors(row), unit="timestep", start=1000, end=600):
            assert torch.equal(row.run(model), plain)
    return "yes"


def restore(row: Foreign, model: nn.Module) -> str:
    """Equal to the bit afterwards, without a hook left."""
    with torch.no_grad():
        before = row.run(model)
        hooks = _hooks(model)
        with freeu.enabled(model, **factors(row)):
            assert relative_error(row.run(model), before) > FAR
            assert _hooks(model) > hooks
        assert torch.equal(row.run(model), before)
        assert _hooks(model) == hooks
    return "yes"


def _hooks(model: nn.Module) -> int:
    return sum(len(one._forward_pre_hooks) + len(one._forward_hooks) for one in model.modules())


def nests(row: Foreign, model: nn.Module) -> str:
    """An inner block replaces the outer one and gives it back to the bit; a deep copy takes FreeU along."""
    with torch.no_grad(), freeu.enabled(model, **factors(row)):
        strong = row.run(model)
        with freeu.enabled(model, b=(1.1, 1.1), version=row.version):
            assert relative_error(row.run(model), strong) > FAR
        assert torch.equal(row.run(model), strong)
        assert torch.equal(row.run(copy.deepcopy(model)), strong)
    return "yes"


def autograd(row: Foreign, model: nn.Module) -> str:
    """Gradients of the sample are those of the published operator in the host, and no weight's is lost."""

    def gradient(call: Callable[[], Tensor]) -> Tensor:
        call().square().mean().backward()
        assert sample.grad is not None
        found, sample.grad = sample.grad, None
        return found

    sample = row.args()[0].clone().requires_grad_()
    model.zero_grad(set_to_none=True)
    with freeu.enabled(model, **factors(row)):
        found = gradient(lambda: row.run(model, sample))
    weights = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert weights
    assert all(grad.isfinite().all() for grad in weights)
    with published_at(freeu.inspect(model).sites, row.version):
        want = gradient(lambda: row.run(model, sample))
    assert relative_error(found, want) <= FAR
    plain = gradient(lambda: row.run(model, sample))
    assert relative_error(plain, want) > FAR
    model.zero_grad(set_to_none=True)
    return "yes"


def compiles(row: Foreign, model: nn.Module) -> str:
    """Traced by torch.compile (backend "eager") after ``apply``, with the same output; new factors reach it."""
    with torch.no_grad():
        with freeu.enabled(model, **factors(row)):
            want = row.run(model)
        with freeu.enabled(model, b=(1.1, 1.2), s=(0.8, 0.5), version=row.version):
            other = row.run(model)
        fresh = copy.deepcopy(model)
        handle = freeu.apply(fresh, **factors(row), example_args=row.args(), example_kwargs=row.kwargs())
        torch._dynamo.reset()
        compiled = torch.compile(fresh, backend="eager")
        assert relative_error(row.run(compiled), want) <= FOREIGN_UNET
        handle.update(b=(1.1, 1.2), s=(0.8, 0.5))
        assert relative_error(row.run(compiled), other) <= FOREIGN_UNET
        torch._dynamo.reset()
    return "yes"


CHECKS: dict[str, Callable[[Foreign, nn.Module], str]] = {
    "sites": sites,
    "v1": version_1,
    "v2": version_2,
    "schedule": schedule,
    "compile": compiles,
    "autograd": autograd,
    "restore": restore,
    "nests, copies": nests,
    "auto equals named": auto,
}
"""By the head of its column; each returns what stands in the cell."""

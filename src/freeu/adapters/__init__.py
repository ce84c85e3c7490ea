"""Adapters: which module of a U-Net receives each concatenation of backbone and skip. They only find sites."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from freeu.adapters import diffusers, diffusers_own, lucidrains, modelscope, openai, others
from freeu.adapters.auto import AutoUNet
from freeu.adapters.diffusers import DiffusersUNet
from freeu.adapters.modelscope import ModelScopeUNet
from freeu.adapters.named import NamedUNet
from freeu.core.hooks import Host
from freeu.core.site import Site
from freeu.errors import NoSitesError


class Adapter(Protocol):
    """Knows one family of U-Nets."""

    host: Host

    def matches(self, model: nn.Module) -> bool:
        """True if the model belongs to the family."""

    def find_sites(self, model: nn.Module) -> list[Site]:
        """Every decoder concatenation in the order of execution."""


_NAMED = (*diffusers_own.FAMILIES, *lucidrains.FAMILIES, *others.FAMILIES)

ADAPTERS: tuple[Adapter, ...] = (
    DiffusersUNet(),
    DiffusersUNet(frames_axis=2),
    DiffusersUNet(frames_axis=1),
    ModelScopeUNet(),
    # Last those that are known by their structure.
    *map(NamedUNet, (*_NAMED, *openai.FAMILIES)),
)


_TRACED: weakref.WeakKeyDictionary[nn.Module, AutoUNet] = weakref.WeakKeyDictionary()
"""What traced calls found, so that an example is needed once for a model."""


def knows(model: nn.Module) -> bool:
    """Whether an adapter knows the model's family, or a traced call has found its sites."""
    return model in _TRACED or any(adapter.matches(model) for adapter in ADAPTERS)


def adapter_for(
    model: nn.Module, example_args: Sequence[Any] | None = None, example_kwargs: Mapping[str, Any] | None = None
) -> Adapter:
    """The adapter of a model's family; for a model of no known family, what a traced call finds.

    Args:
        model: a U-Net.
        example_args, example_kwargs: what ``model(*example_args, **example_kwargs)`` takes. Needed once for a model of
            no known family; others do not look at them.

    Raises:
        NoSitesError: no adapter knows the class and there is no example; the message says what the model is and what to
            pass instead. Or the example showed no skip connections.
        FreeUValueError: the model does not take the example.
    """
    for adapter in ADAPTERS:
        if adapter.matches(model):
            return adapter
    if example_args is not None or example_kwargs is not None:
        _TRACED[model] = AutoUNet(model, example_args or (), example_kwargs or {})
    if model in _TRACED:
        return _TRACED[model]
    raise NoSitesError(_explain(model))


def _explain(model: nn.Module) -> str:
    name = type(model).__name__
    others_of = "; ".join(family.label for family in (*_NAMED, *openai.FAMILIES))
    families = (
        f"{', '.join(diffusers.FAMILIES)} of diffusers; {', '.join(modelscope.FAMILIES)} of ModelScope; {others_of}"
    )
    if "ControlNet" in name or "Adapter" in name:
        return f"{name} has no decoder of its own: apply FreeU to the pipeline, whose U-Net it controls"
    if any(word in name for word in ("Autoencoder", "VAE", "VQ")):
        return f"{name} is a VAE: its decoder has no skip concatenation. Pass the pipeline or its U-Net"
    if any(word in name for word in ("Transformer", "DiT")):
        return (
            f"{name} is a diffusion transformer: it has no decoder with skip concatenation, so FreeU cannot act "
            "on it. Use a U-Net model (Stable Diffusion 1.x, 2.x, XL), or guidance settings made for transformers"
        )
    return (
        f"{name} has no skip concatenation that freeu knows how to find; known families: {families}. For a U-Net of "
        "another family give an example of its arguments, and one traced call finds them: "
        "freeu.apply(model, ..., example_args=(x, t), example_kwargs={})"
    )

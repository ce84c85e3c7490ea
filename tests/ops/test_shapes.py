"""The shapes in the annotations of tensor functions are those of what goes in and comes out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jaxtyping
import pytest
import torch
from beartype import beartype

from freeu import ops
from freeu.analysis.measurement import measure

X = torch.randn(2, 6, 8, 9, generator=torch.Generator().manual_seed(0))
CALLS = {
    "filter_skip": (ops.filter_skip, (X, 0.5)),
    "scale_backbone": (ops.scale_backbone, (X, 1.3)),
    "structure_gain": (ops.structure_gain, (X, 1.3)),
    "freeu": (ops.freeu, (X, X[:, :4], 1.3, 0.5)),
    "reference.filter_skip": (ops.reference.filter_skip, (X, 0.5)),
    "channel_mean": (measure.channel_mean, (X,)),
    "fourier_split": (measure.fourier_split, (X, 1.0)),
}


def checked(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose annotations are checked at every call; at run time freeu itself needs no jaxtyping."""
    monkeypatch.setattr(sys.modules[function.__module__], "Float", jaxtyping.Float, raising=False)
    return jaxtyping.jaxtyped(function, typechecker=beartype)


@pytest.mark.parametrize(("function", "arguments"), CALLS.values(), ids=CALLS)
def test_annotations_hold(monkeypatch: pytest.MonkeyPatch, function: Any, arguments: tuple[Any, ...]) -> None:
    checked(monkeypatch, function)(*arguments)


def test_a_wrong_annotation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def channel_mean(x: jaxtyping.Float[torch.Tensor, "b c h w"]) -> jaxtyping.Float[torch.Tensor, "b c h"]:
        return measure.channel_mean(x)

    channel_mean.__annotations__ = {
        "x": jaxtyping.Float[torch.Tensor, "b c h w"],
        "return": jaxtyping.Float[torch.Tensor, "b c h"],
    }
    with pytest.raises(jaxtyping.TypeCheckError):
        checked(monkeypatch, channel_mean)(X)

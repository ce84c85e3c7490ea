"""What a loaded pipeline really samples and decodes with, for manifests: sampler, VAE and text encoders."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

PARTS = ("vae", "text_encoder", "text_encoder_2", "text_encoder_3", "image_encoder")
_SAMPLE = 32
"""Numbers of each tensor that its identity is made of."""


def used_parts(pipe: Any) -> dict[str, Any]:
    """The sampler with its settings, and class, number format and identity of what encodes and decodes.

    Args:
        pipe: of diffusers, as it generates.

    Returns:
        plain data for JSON: "sampler" with "class" and "settings", and each of ``PARTS`` that the pipeline has, with
        "class", "dtype" and "weights": a digest of names, shapes and some numbers of all tensors, which another VAE
        changes; None where they are not in memory.
    """
    found: dict[str, Any] = {"sampler": _sampler(pipe.scheduler)}
    for name in PARTS:
        module = getattr(pipe, name, None)
        if module is not None:
            found[name] = {
                "class": type(module).__name__,
                "dtype": str(next((one.dtype for one in module.parameters()), "")).removeprefix("torch."),
                "weights": _identity(module),
            }
    return found


def sampler_text(used: Mapping[str, Any]) -> str:
    """The class of the sampler, for people; "" where it is not known."""
    return str(used.get("sampler", {}).get("class", ""))


def _sampler(scheduler: Any) -> dict[str, Any]:
    """Settings that JSON holds; those that diffusers keeps for itself begin with an underscore."""
    settings = {name: _plain(value) for name, value in dict(scheduler.config).items() if not name.startswith("_")}
    return {"class": type(scheduler).__name__, "settings": settings}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):  # an array of betas
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _identity(module: Any) -> str | None:
    import torch

    digest = hashlib.sha256()
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if tensor.is_meta:
                return None
            flat = tensor.detach().reshape(-1)
            step = max(1, flat.numel() // _SAMPLE)
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(flat[::step][:_SAMPLE].to("cpu", torch.float64).numpy().tobytes())
    return digest.hexdigest()[:32]

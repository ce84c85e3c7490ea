"""LoRAs and embeddings with random weights, written in the layouts that their trainers write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def lora_state(
    pipe: Any, seed: int, rank: int = 2, targets: Sequence[str] = ATTENTION, text: Sequence[str] = TEXT
) -> dict[str, Tensor]:
    """The matrices of a LoRA that PEFT put into a pipeline (and takes out again), named as in PEFT.

    Args:
        pipe: a pipeline; its text encoders are changed too unless ``text`` is ().
        targets, text: the modules to change.
    """
    from peft import LoraConfig, get_peft_model_state_dict

    state: dict[str, Tensor] = {}
    parts = ("unet", "text_encoder", "text_encoder_2") if text else ("unet",)
    for part in parts:
        module = getattr(pipe, part, None)
        if module is None:
            continue
        wanted = list(targets if part == "unet" else text)
        module.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=wanted), adapter_name="made")
        found = get_peft_model_state_dict(module, adapter_name="made")
        if part == "unet":
            module.delete_adapters("made")
            module.unload_lora()
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in found.items():
            state[f"{part}.{name}"] = 0.4 * torch.randn(tensor.shape, generator=generator)
    return state


def save_diffusers(state: Mapping[str, Tensor], folder: Path, alpha: float | None = None, **options: Any) -> Path:
    """As ``pipe.save_lora_weights`` writes it; ``alpha`` goes into the metadata, as diffusers' training scripts do."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig

    parts = {part: _part(state, part) for part in ("unet", "text_encoder")}
    rank = next(tensor.shape[0] for name, tensor in state.items() if "lora_A" in name)
    metadata = {
        part: LoraConfig(r=rank, lora_alpha=alpha, target_modules=sorted(_modules(layers))).to_dict()
        for part, layers in parts.items()
        if layers and alpha is not None
    }
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=convert_state_dict_to_diffusers(parts["unet"]),
        text_encoder_lora_layers=(
            convert_state_dict_to_diffusers(parts["text_encoder"]) if parts["text_encoder"] else None
        ),
        unet_lora_adapter_metadata=metadata.get("unet"),
        text_encoder_lora_adapter_metadata=metadata.get("text_encoder"),
        **options,
    )
    return folder


def save_kohya(state: Mapping[str, Tensor], path: Path, alpha: float | None = None, text: str = "te") -> Path:
    """As kohya's trainer names it: ``lora_unet_..._to_q.lora_down.weight``, ``.alpha`` beside each pair.

    Args:
        text: what it calls the first text encoder: "te" for Stable Diffusion, "te1" for SDXL.
    """
    from safetensors.torch import save_file

    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        module, _, side = rest.partition(".lora_")
        if part != "unet" and not module.startswith("text_model."):
            module = f"text_model.{module}"  # as transformers called it when kohya's layout was made
        head = {"unet": "lora_unet", "text_encoder": f"lora_{text}", "text_encoder_2": "lora_te2"}[part]
        key = f"{head}_{module.replace('.', '_')}"
        found[f"{key}.lora_{'down' if side.startswith('A') else 'up'}.weight"] = tensor.contiguous()
        if alpha is not None:
            found[f"{key}.alpha"] = torch.tensor(float(alpha))
    save_file(found, path)
    return path


def merge(pipe: Any, state: Mapping[str, Tensor], scale: float) -> None:
    """Add a LoRA to a pipeline's weights by its definition: W + scale * B A, for linear layers and convolutions."""
    for name, down in state.items():
        if not name.endswith(".lora_A.weight"):
            continue
        part, _, module = name.removesuffix(".lora_A.weight").partition(".")
        up = state[name.replace(".lora_A.", ".lora_B.")]
        weight = getattr(pipe, part).get_submodule(module).weight
        with torch.no_grad():
            weight += scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)


def _part(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): tensor for name, tensor in state.items() if name.startswith(f"{part}.")}


def _modules(layers: Mapping[str, Tensor]) -> set[str]:
    return {name.partition(".lora_")[0] for name in layers}

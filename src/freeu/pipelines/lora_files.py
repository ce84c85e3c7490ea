"""Files of LoRAs: what their headers say, before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from freeu.errors import FreeUValueError
from freeu.pipelines.reading import read_header

LORA_NAMES = ("pytorch_lora_weights.safetensors",)
"""What ``pipe.save_lora_weights`` calls its file."""
WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
"""Families by the width of what their cross-attention reads."""
_OF_DIFFUSERS = ("unet.", "text_encoder.", "text_encoder_2.")
_OF_KOHYA = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
_READS_TEXT = re.compile(r"attn2[._](processor[._])?to_k[._]?(lora_down|lora_A|lora\.down|_?lora\.down)\b")
_WEIGHT = re.compile(r"lora_(down|up|A|B)\.|[._]lora\.(down|up)\.|lora_linear_layer\.(down|up)\.|lora_magnitude_vector")
OTHER_KINDS = {
    "hada_w1_a": "a LoHa",
    "lokr_w": "a LoKr",
    "dora_scale": "a DoRA in kohya's format",
    "lora_mid": "a LoCon with a core tensor (lora_mid)",
    "oft_blocks": "an OFT",
    "oft_diag": "an OFT",
}
"""Relatives of LoRA by a part of their tensors' names; diffusers does not load them, or loads them wrongly."""


@dataclass(frozen=True)
class LoraHeader:
    """What the header of a LoRA's file says.

    Args:
        tensors: how many matrices there are, two for each module that is changed.
        text_width: of the text that the U-Net was trained on reads; None where no cross-attention is changed.
        text_encoders: whether the first and the second text encoder are changed.
    """

    tensors: int
    text_width: int | None
    text_encoders: tuple[bool, bool]


def read_lora_header(path: Path) -> LoraHeader:
    """Make sure that a file is a LoRA for a U-Net, from its header alone.

    Raises:
        FreeUValueError: damaged, a pickle, another kind of file, or one for a diffusion transformer.
    """
    if path.suffix != ".safetensors":
        raise FreeUValueError(f"{path.name} is no .safetensors file: convert the LoRA, since others can hold code")
    shapes = read_header(path).shapes
    _check_kind(path.name, list(shapes))
    widths = {shape[1] for name, shape in shapes.items() if len(shape) > 1 and _READS_TEXT.search(name)}
    return LoraHeader(
        tensors=sum(1 for name in shapes if _WEIGHT.search(name)),
        text_width=widths.pop() if len(widths) == 1 else None,
        text_encoders=(
            any(name.startswith(("text_encoder.", "lora_te_", "lora_te1_")) for name in shapes),
            any(name.startswith(("text_encoder_2.", "lora_te2_")) for name in shapes),
        ),
    )


def _check_kind(label: str, names: list[str]) -> None:
    for part, kind in OTHER_KINDS.items():
        if any(part in name for name in names):
            raise FreeUValueError(f"{label} is {kind}, which diffusers cannot load as it was trained: use a LoRA")
    if not any(_WEIGHT.search(name) for name in names):
        if any(name.startswith("model.diffusion_model.") for name in names):
            raise FreeUValueError(f"{label} is a whole checkpoint, no LoRA: give it with --model")
        if len(names) <= 2 and not any("." in name for name in names):
            raise FreeUValueError(f"{label} looks like an embedding, no LoRA: give it with --embedding")
        raise FreeUValueError(f"{label} is no LoRA: no lora_down or lora_A is in it")
    if any(re.search(r"^(transformer\.|diffusion_model\.)|(double|single|joint)_?blocks?", name) for name in names):
        raise FreeUValueError(f"{label} is a LoRA for a diffusion transformer (DiT): FreeU and --lora take U-Nets")
    if names[0].startswith("base_model.model."):
        raise FreeUValueError(f"{label} is in PEFT's own layout: save it with pipe.save_lora_weights of diffusers")
    strange = next((name for name in names if not name.startswith((*_OF_DIFFUSERS, *_OF_KOHYA))), None)
    if strange is not None:
        raise FreeUValueError(
            f"{label} holds {strange!r}, which diffusers would skip: names must begin with "
            f"{', '.join(_OF_DIFFUSERS)} or {', '.join(_OF_KOHYA)}"
        )

"""Files of LoRAs: what their headers say, before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.json_files import read_json
from freeu.pipelines.io.reading import read_header
from freeu.pipelines.models.addons.lora_scales import is_alpha, read_scales
from freeu.pipelines.models.sources.sources import ModelSource

LORA_NAMES = ("pytorch_lora_weights.safetensors",)
"""What ``pipe.save_lora_weights`` calls its file."""
WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
"""Families by the width of what their cross-attention reads."""
_OF_DIFFUSERS = ("unet.", "text_encoder.", "text_encoder_2.")
_OF_KOHYA = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
_OF_ORIGINAL = re.compile(
    r"(model\.)?diffusion_model\.(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)\b"
)
_READS_TEXT = re.compile(r"attn2[._](processor[._])?to_k[._]?(lora_down|lora_A|lora\.down|_?lora\.down)\b")
_PAIRS = (
    ("lora_down.", "lora_up."),
    ("lora_A.", "lora_B."),
    ("lora.down.", "lora.up."),
    ("lora_linear_layer.down.", "lora_linear_layer.up."),
)
"""What the names of a module's two matrices hold: to the rank, and from it."""
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
    """

    tensors: int
    text_width: int | None


def read_lora_header(path: Path) -> LoraHeader:
    """Make sure that a file is a LoRA for a U-Net, from its header alone.

    Raises:
        FreeUValueError: damaged, a pickle, another kind of file, or one for a diffusion transformer.
    """
    if path.suffix != ".safetensors":
        raise FreeUValueError(f"{path.name} is no .safetensors file: convert the LoRA, since others can hold code")
    shapes = read_header(path).shapes
    _check_kind(path.name, list(shapes))
    _check_pairs(path.name, shapes)
    read_scales(path)
    widths = {shape[1] for name, shape in shapes.items() if len(shape) > 1 and _READS_TEXT.search(name)}
    return LoraHeader(
        tensors=sum(map(_is_matrix, shapes)),
        text_width=widths.pop() if len(widths) == 1 else None,
    )


def _check_kind(label: str, names: list[str]) -> None:
    for part, kind in OTHER_KINDS.items():
        if any(part in name for name in names):
            raise FreeUValueError(f"{label} is {kind}, which diffusers cannot load as it was trained: use a LoRA")
    if not any(map(_is_matrix, names)):
        if any(name.startswith("model.diffusion_model.") for name in names):
            raise FreeUValueError(f"{label} is a whole checkpoint, no LoRA: give it with --model")
        if len(names) <= 2 and not any("." in name for name in names):
            raise FreeUValueError(f"{label} looks like an embedding, no LoRA: give it with --embedding")
        raise FreeUValueError(f"{label} is no LoRA: no lora_down or lora_A is in it")
    if any(_OF_ORIGINAL.match(name) for name in names):
        raise FreeUValueError(
            f"{label} is a LoRA of a U-Net under the names of its original code ({names[0]!r}), which diffusers cannot "
            f"read: convert it to kohya's ({_OF_KOHYA[0]}...) or diffusers' ({_OF_DIFFUSERS[0]}...)"
        )
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
    if len({name.startswith(_OF_KOHYA) for name in names}) > 1:
        raise FreeUValueError(f"{label} mixes names of kohya and of diffusers, of which one would be skipped: use one")
    strange = next((name for name in names if not _is_matrix(name) and not is_alpha(name)), None)
    if strange is not None:
        raise FreeUValueError(f"{label} holds {strange!r}, which diffusers would skip: it is more than a LoRA")


def _is_matrix(name: str) -> bool:
    return "lora_magnitude_vector" in name or any(part in name for pair in _PAIRS for part in pair)


def _check_pairs(label: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every matrix to the rank has its matrix from it, and the other way round."""
    for name in (name for name in shapes if name.endswith(".weight")):
        for to, back in _PAIRS:
            first = to in name
            if not first and back not in name:
                continue
            other = name.replace(to, back) if first else name.replace(back, to)
            if other not in shapes:
                raise FreeUValueError(f"{label} is damaged: {name!r} is there, and {other!r} is not")
            if first and (min(len(shapes[name]), len(shapes[other])) < 2 or shapes[name][0] != shapes[other][1]):
                raise FreeUValueError(
                    f"{label} is damaged: {name!r} and {other!r} have the shapes {list(shapes[name])} and "
                    f"{list(shapes[other])}"
                )


def text_widths(source: ModelSource) -> tuple[int | None, tuple[int, ...]]:
    """How wide the texts of a model are, from its small files alone.

    Returns:
        what its U-Net's cross-attention reads, or None; what each of its text encoders gives to a word, or () where
        that cannot be known without loading.
    """
    if source.path is None or source.modelscope is not None or source.path.suffix == ".ckpt":
        return None, ()
    if source.kind == "file":
        shapes = read_header(source.path).shapes
        reads = {shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")}
        gives = tuple(shape[1] for name, shape in sorted(shapes.items()) if name.endswith("token_embedding.weight"))
    else:
        reads = {_entry(source.path / "unet", "cross_attention_dim")}
        found = [_entry(source.path / part, "hidden_size") for part in ("text_encoder", "text_encoder_2")]
        gives = tuple(width for width in found if isinstance(width, int))
    width = reads.pop() if len(reads) == 1 else None
    return (width if isinstance(width, int) else None), gives


def unet_class(source: ModelSource) -> str:
    """The class of a model's U-Net, from its small files; "" where only loading will tell."""
    known = source.path is not None and source.path.is_dir() and source.modelscope is None
    return str(_entry(source.path / "unet", "_class_name") or "") if known and source.path is not None else ""


def _entry(folder: Path, name: str) -> Any:
    path = folder / "config.json"
    return read_json(path).get(name) if path.is_file() else None

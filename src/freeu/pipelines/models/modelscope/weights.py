"""Names of the weights in ModelScope's ``UNetSD``, as a table, and what they are called in ``UNet3DConditionModel``.

Both classes compute the same; only the names differ, and the layers that ``UNetSD`` wrote as convolutions of width 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from freeu.errors import FreeUValueError
from freeu.pipelines.models.sources.modelscope_files import CONFIGURATION, GROUPS, ModelScopeFiles

_OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "input_blocks.0.1": "transformer_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESBLOCK = {
    "in_layers.0": "resnets.{}.norm1",
    "in_layers.2": "resnets.{}.conv1",
    "emb_layers.1": "resnets.{}.time_emb_proj",
    "out_layers.0": "resnets.{}.norm2",
    "out_layers.3": "resnets.{}.conv2",
    "skip_connection": "resnets.{}.conv_shortcut",
    "temopral_conv": "temp_convs.{}",  # as it is spelled there
}


def unet_names(files: ModelScopeFiles) -> dict[str, str]:
    """Beginnings of names in ``UNetSD``, up to a dot, and what each is in ``UNet3DConditionModel``."""
    names = dict(_OUTER)
    last = len(files.multiples) - 1
    place = 1
    for level, attends in enumerate(files.attends):
        block = f"down_blocks.{level}"
        for layer in range(files.layers):
            names |= _layer(f"input_blocks.{place}", block, layer, attends)
            place += 1
        if level < last:
            names[f"input_blocks.{place}.op"] = f"{block}.downsamplers.0.conv"
            place += 1
    names |= _layer("middle_block", "mid_block", 0, True)
    names |= _resblock("middle_block.3", "mid_block", 1)
    place = 0
    for level, attends in enumerate(reversed(files.attends)):
        block = f"up_blocks.{level}"
        for layer in range(files.layers + 1):
            names |= _layer(f"output_blocks.{place}", block, layer, attends)
            place += 1
        if level < last:
            names[f"output_blocks.{place - 1}.{3 if attends else 1}.conv"] = f"{block}.upsamplers.0.conv"
    return names


def _layer(theirs: str, ours: str, layer: int, attends: bool) -> dict[str, str]:
    names = _resblock(f"{theirs}.0", ours, layer)
    if attends:
        names |= {f"{theirs}.1": f"{ours}.attentions.{layer}", f"{theirs}.2": f"{ours}.temp_attentions.{layer}"}
    return names


def _resblock(theirs: str, ours: str, layer: int) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{ours}.{name.format(layer)}" for part, name in _RESBLOCK.items()}


def convert_unet(weights: Mapping[str, Any], files: ModelScopeFiles) -> dict[str, Any]:
    """The weights of a ``UNetSD`` under the names and in the shapes of ``UNet3DConditionModel``; nothing is copied.

    Raises:
        FreeUValueError: weights that ``UNetSD`` of this configuration does not have.
    """
    names = unet_names(files)
    found: dict[str, Any] = {}
    unknown = []
    for key, value in weights.items():
        head = next((head for head in _heads(key) if head in names), None)
        if head is None:
            unknown.append(key)
        else:
            # Temporal transformers project by Conv1d of width 1 there, and by Linear here.
            found[names[head] + key[len(head) :]] = value.squeeze(-1) if value.dim() == 3 else value
    if any(key.startswith("fps_embedding.") for key in unknown):
        raise FreeUValueError(
            f"{files.unet} is conditioned on frames per second (fps_embedding), which diffusers' U-Net is not"
        )
    if unknown:
        raise FreeUValueError(
            f"{files.unet} does not fit {CONFIGURATION}: {len(unknown)} weights have no place in a U-Net of that "
            f"shape, such as {unknown[0]}"
        )
    return found


def _heads(key: str) -> Iterator[str]:
    """Beginnings of a dotted name, the longest first."""
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def autoencoder_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The autoencoder in a file, without the name before it, and without what trained it."""
    prefix = "first_stage_model."
    if any(key.startswith(prefix) for key in weights):
        weights = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
    parts = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
    return {key: value for key, value in weights.items() if key.startswith(parts)}


def autoencoder_config(weights: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration of diffusers' ``AutoencoderKL`` for an original one, from the shapes of its weights.

    ModelScope's loader fixes it (128, 256, 512, 512 channels, two layers); the weights say the same.

    Args:
        weights: what ``autoencoder_weights`` gave.
        name: of the file, for the message.

    Raises:
        FreeUValueError: no autoencoder of that kind.
    """
    levels = _count(weights, "encoder.down.{}.block.0.conv2.weight")
    if not levels or "post_quant_conv.weight" not in weights:
        raise FreeUValueError(f"{name} is no autoencoder of the kind that ModelScope's text-to-video uses")
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [int(weights[f"encoder.down.{i}.block.0.conv2.weight"].shape[0]) for i in range(levels)],
        "layers_per_block": _count(weights, "encoder.down.0.block.{}.conv2.weight"),
        "latent_channels": int(weights["post_quant_conv.weight"].shape[0]),
        "sample_size": 32 << (levels - 1),
        "norm_num_groups": GROUPS,
        "scaling_factor": 0.18215,
    }


def text_weights(weights: Mapping[str, Any], name: str) -> tuple[dict[str, Any], int]:
    """The text tower of an open_clip model without its last layer, and how many layers that leaves.

    ModelScope takes what the last layer but one gives.

    Raises:
        FreeUValueError: no text tower of open_clip.
    """
    layers = _count(weights, "transformer.resblocks.{}.ln_1.weight") - 1
    if layers < 1 or "positional_embedding" not in weights:
        raise FreeUValueError(f"{name} is no text encoder of open_clip of two layers or more")
    last = f"transformer.resblocks.{layers}."
    whole = ("token_embedding.", "positional_embedding", "ln_final.", "transformer.")
    kept = {key: value for key, value in weights.items() if key.startswith(whole) and not key.startswith(last)}
    return kept, layers


def _count(names: Iterable[str], pattern: str) -> int:
    """How many of the names "pattern with 0", "pattern with 1" ... are there in a row."""
    there = set(names)
    number = 0
    while pattern.format(number) in there:
        number += 1
    return number

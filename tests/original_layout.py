"""A pipeline's weights under the names of a single Stable Diffusion checkpoint: the inverse of what diffusers reads."""

from __future__ import annotations

from typing import Any

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def _unet_key(key: str, layers: int) -> str:
    for ours, theirs in _OUTER.items():
        if key.startswith(ours + "."):
            return theirs + key[len(ours) :]
    parts = key.split(".")
    if parts[0] == "mid_block":
        place = 1 if parts[1] == "attentions" else 2 * int(parts[2])
        head, rest = f"middle_block.{place}", parts[3:]
    else:
        block, kind, number = int(parts[1]), parts[2], int(parts[3])
        down = parts[0] == "down_blocks"
        if kind == "downsamplers":
            return ".".join([f"input_blocks.{(layers + 1) * (block + 1)}.0.op", *parts[5:]])
        if kind == "upsamplers":
            return ".".join([f"output_blocks.{(layers + 1) * block + layers}.UP", *parts[4:]])
        index = (layers + 1) * block + number + (1 if down else 0)
        head = f"{'input' if down else 'output'}_blocks.{index}.{0 if kind == 'resnets' else 1}"
        rest = parts[4:]
    if rest[0] in _RESNET:
        rest = [_RESNET[rest[0]], *rest[1:]]
    return ".".join([head, *rest])


def _vae_key(key: str, blocks: int) -> str:
    parts = key.split(".")
    if parts[0] in ("quant_conv", "post_quant_conv"):
        return key
    side, parts = parts[0], parts[1:]
    if parts[0] == "conv_norm_out":
        return ".".join([side, "norm_out", *parts[1:]])
    if parts[0] in ("conv_in", "conv_out"):
        return ".".join([side, *parts])
    if parts[0] == "mid_block":
        if parts[1] == "attentions":
            text = ".".join(parts[3:])
            ours = next(name for name in _VAE_ATTENTION if text.startswith(name + "."))
            return f"{side}.mid.attn_1.{_VAE_ATTENTION[ours]}{text[len(ours) :]}"
        return ".".join([side, f"mid.block_{int(parts[2]) + 1}", *parts[3:]])
    block = int(parts[1])
    head = f"{side}.down.{block}" if side == "encoder" else f"{side}.up.{blocks - 1 - block}"
    if parts[2] in ("downsamplers", "upsamplers"):
        return ".".join([head, parts[2][:-2].replace("sampler", "sample"), *parts[4:]])
    rest = [part.replace("conv_shortcut", "nin_shortcut") for part in parts[4:]]
    return ".".join([head, "block", parts[3], *rest])


def single_file_state(pipe: Any) -> dict[str, Any]:
    """The inverse of what diffusers reads: U-Net, VAE and CLIP text encoder in the original layout."""
    state: dict[str, Any] = {}
    layers = pipe.unet.config.layers_per_block
    unet = {_unet_key(key, layers): value for key, value in pipe.unet.state_dict().items()}
    for key, value in unet.items():
        if ".UP." in key:  # the upsampler follows the resnet and, where there is one, the attention
            stem = key.split(".UP.")[0]
            key = key.replace(".UP.", ".2." if any(k.startswith(f"{stem}.1.") for k in unet) else ".1.")
        state[f"model.diffusion_model.{key}"] = value
    blocks = len(pipe.vae.config.block_out_channels)
    for key, value in pipe.vae.state_dict().items():
        name = _vae_key(key, blocks)
        convolved = ".attn_1." in name and name.endswith("weight") and ".norm." not in name
        state[f"first_stage_model.{name}"] = value[:, :, None, None] if convolved else value
    for key, value in pipe.text_encoder.state_dict().items():
        name = key if key.startswith("text_model.") else f"text_model.{key}"
        state[f"cond_stage_model.transformer.{name}"] = value
    return {key: value.contiguous() for key, value in state.items()}

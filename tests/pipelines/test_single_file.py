"""Single checkpoint files: a tiny pipeline is written in the original layout of Stable Diffusion and read back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freeu.errors import FreeUValueError
from freeu.pipelines.loading import load
from freeu.pipelines.sources import find_model

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


@pytest.fixture(scope="module")
def state(sd_dir: Path) -> dict[str, Any]:
    return single_file_state(load(find_model(str(sd_dir))).pipe)


def _write(path: Path, state: dict[str, Any]) -> Path:
    if path.suffix == ".ckpt":
        import torch

        torch.save({"state_dict": state, "global_step": 1}, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_single_file_gives_the_same_weights(suffix: str, state: dict[str, Any], sd_dir: Path, tmp_path: Path) -> None:
    import torch

    path = _write(tmp_path / f"model{suffix}", state)
    source = find_model(str(path))
    assert (source.kind, source.label) == ("file", path.name)
    pipe = load(source, model_config=sd_dir).pipe
    again = single_file_state(pipe)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_with_code_in_it_is_refused_and_runs_nothing(
    state: dict[str, Any], sd_dir: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    path = _write(tmp_path / "evil.ckpt", {**state, "extra": _Evil(trace)})
    with pytest.raises(FreeUValueError, match=r"holds more than weights.*convert it to \.safetensors"):
        load(find_model(str(path)), model_config=sd_dir)
    assert not trace.exists()


def test_a_checkpoint_without_a_unet_is_refused(sd_dir: Path, tmp_path: Path) -> None:
    import torch

    path = _write(tmp_path / "other.ckpt", {"weight": torch.zeros(1)})
    with pytest.raises(FreeUValueError, match=r"other\.ckpt is no Stable Diffusion checkpoint"):
        load(find_model(str(path)), model_config=sd_dir)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("decoder.conv_in.weight", "is a VAE"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", r"diffusion transformer \(DiT\)"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", r"diffusion transformer \(DiT\)"),
        ("lora_unet_down_blocks_0.lora_up.weight", "is a LoRA"),
        ("down_blocks.0.resnets.0.conv1.weight", "is a U-Net alone"),
        ("something.weight", "no U-Net"),
    ],
)
def test_other_files_are_named_for_what_they_are(key: str, what: str, tmp_path: Path) -> None:
    import torch

    path = _write(tmp_path / "file.safetensors", {key: torch.zeros(1)})
    with pytest.raises(FreeUValueError, match=what):
        find_model(str(path))


def test_part_of_a_file_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    whole = _write(tmp_path / "whole.safetensors", state).read_bytes()
    for length in (0, 5, 500, len(whole) - 1):
        (tmp_path / "part.safetensors").write_bytes(whole[:length])
        with pytest.raises(FreeUValueError, match="or only part of one"):
            find_model(str(tmp_path / "part.safetensors"))

"""Single checkpoint files: a tiny pipeline is written in the original layout of Stable Diffusion and read back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from original_layout import single_file_state

from freeu.errors import FreeUValueError
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model


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


def test_a_link_to_a_file_without_a_suffix(state: dict[str, Any], sd_dir: Path, tmp_path: Path) -> None:
    """As in the hub's cache."""
    path = _write(tmp_path / "model.safetensors", state)
    path.rename(tmp_path / "0f1e")
    path.symlink_to("0f1e")
    assert find_model(str(path)).label == "model.safetensors"
    assert load(find_model(str(path)), model_config=sd_dir).source.reference == str(path)


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

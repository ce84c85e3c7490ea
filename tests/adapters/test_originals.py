"""What each tool computes under the settings of ``freeu.convert``, by its definition, against ``freeu.apply``.

The definitions know the channels of Stable Diffusion as numbers (1280, 640, 320); here they are 4, 2 and 1 times the
base width, and a slice of 640 or 320 channels is half of the first two.
"""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest
import torch
from adapters.test_conversion import GIVEN, config_of
from tolerances import FOREIGN_UNET, relative_error
from torch import Tensor

import freeu
from conftest import tiny_inputs, tiny_sdxl_unet, tiny_unet
from freeu.conversion import Conversion, convert
from freeu.foreign.tools import TOOLS

BASE = 8
SITES_OF_A_BLOCK = 3


def filtered(x: Tensor, low: float, high: float = 1.0) -> Tensor:
    """Every tool's filter: the four frequencies around the zeroth times ``low``, all others times ``high``."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(x, dim=(-2, -1)), dim=(-2, -1))
    row, column = x.shape[-2] // 2, x.shape[-1] // 2
    gains = torch.full(x.shape, high)
    gains[..., row - 1 : row + 1, column - 1 : column + 1] = low
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum * gains, dim=(-2, -1)), dim=(-2, -1)).real


def amplified(h: Tensor, b: float, version: int, channels: int) -> Tensor:
    """The first channels times a constant (version 1), or times the map of the mean over channels (version 2)."""
    gain: Any = b
    if version == 2:
        mean = h.mean(1, keepdim=True)
        least, most = (fold(mean, dim=(-2, -1), keepdim=True) for fold in (torch.amin, torch.amax))
        gain = (b - 1) * (mean - least) / (most - least) + 1
    return torch.cat([h[:, :channels] * gain, h[:, channels:]], dim=1)


def by_channels(_number: int, h: Tensor, skip: Tensor, said: dict[str, Any], version: int) -> tuple[Tensor, Tensor]:
    stage = {4 * BASE: "1", 2 * BASE: "2"}.get(h.shape[1])
    if stage is None:
        return h, skip
    return amplified(h, said["b" + stage], version, h.shape[1] // 2), filtered(skip, said["s" + stage])


def by_block(number: int, h: Tensor, skip: Tensor, said: dict[str, Any], _version: int) -> tuple[Tensor, Tensor]:
    """diffusers' up-blocks 0 and 1, whatever their width."""
    stage = number // SITES_OF_A_BLOCK + 1
    if stage > 2:
        return h, skip
    return amplified(h, said[f"b{stage}"], 1, h.shape[1] // 2), filtered(skip, said[f"s{stage}"])


def by_the_extension(_n: int, h: Tensor, skip: Tensor, said: dict[str, Any], version: int) -> tuple[Tensor, Tensor]:
    """sd-webui-freeu: its window of channels ends with the one at width times channels, that one included."""
    place = [4 * BASE, 2 * BASE, BASE].index(h.shape[1])
    stage = said["stages"][place] if place < len(said["stages"]) else {}
    last = round(stage.get("backbone_width", 0.5) * h.shape[1])
    return (
        amplified(h, stage.get("backbone_factor", 1.0), version, last + 1),
        filtered(skip, stage.get("skip_factor", 1.0), stage.get("skip_high_end_factor", 1.0)),
    )


def one_by_one(number: int, h: Tensor, skip: Tensor, said: dict[str, Any], _version: int) -> tuple[Tensor, Tensor]:
    """refiners: a factor for each concatenation; what the lists leave out is left alone."""
    if number >= len(said["backbone_scales"]):
        return h, skip
    b, s = said["backbone_scales"][number], said["skip_scales"][number]
    return amplified(h, b, 1, h.shape[1] // 2), filtered(skip, s)


def by_rules(_number: int, h: Tensor, skip: Tensor, said: dict[str, Any], _version: int) -> tuple[Tensor, Tensor]:
    """BlehBlockOps: its stages are those of the channels, and its rules say the rest."""
    stage = [4 * BASE, 2 * BASE, BASE].index(h.shape[1]) + 1
    for rule in said["rules"]:
        if rule["if"] == {"type": "output", "stage": stage}:
            for name, *values in rule["ops"]:
                if name == "slice":
                    share, b, _, _, mapped = values
                    h = amplified(h, b, 2 if mapped else 1, int(h.shape[1] * share))
                elif name == "ffilter":
                    skip = filtered(skip, values[0])
    return h, skip


DEFINITIONS = {
    **dict.fromkeys(("official", "comfyui", "forge", "fooocus", "was", "rerender"), by_channels),
    **dict.fromkeys(("diffusers", "invokeai", "sdnext"), by_block),
    "a1111": by_the_extension,
    "refiners": one_by_one,
    "bleh": by_rules,
}


def computed(tool: str, found: Conversion, unet: Any) -> Tensor:
    """The output of a U-Net whose decoder does what a tool's definition says."""
    said = dict(found.settings or {})
    if tool == "bleh":
        said = {"rules": json.loads(found.text)}
    version = int(said.get("version", TOOLS[tool].versions[-1]))
    concatenate, place = torch.cat, iter(range(100))

    def cat(tensors: Any, dim: int = 0) -> Tensor:
        parts = list(tensors)
        if len(parts) == 2 and parts[0].dim() == 4 and dim == 1:
            with mock.patch.object(torch, "cat", concatenate):
                parts = list(DEFINITIONS[tool](next(place), *parts, said, version))
        return concatenate(parts, dim)

    with torch.no_grad(), mock.patch.object(torch, "cat", cat):
        return unet(*tiny_inputs()).sample


@pytest.mark.parametrize("make", [tiny_unet, tiny_sdxl_unet], ids=["sd", "sdxl"])
@pytest.mark.parametrize("tool", TOOLS)
def test_its_definition_and_freeu_agree(tool, make):
    unet = make()
    with torch.no_grad():
        plain = unet(*tiny_inputs()).sample
    compared = 0
    for text in GIVEN:
        found = convert(config_of(text), tool, unet)
        if found.config is None:
            continue
        with torch.no_grad(), freeu.enabled(unet, found.config.replace(start=0.0, end=1.0)):
            ours = unet(*tiny_inputs()).sample
        theirs = computed(tool, found, unet)
        assert relative_error(ours, theirs) < FOREIGN_UNET, text
        assert relative_error(ours, plain) > 10 * FOREIGN_UNET, text
        compared += 1
    assert compared

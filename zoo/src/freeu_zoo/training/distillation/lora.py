"""What a distillation learns of a U-Net: all of its weights, or low-rank additions to some (LoRA, arXiv:2106.09685).

Additions are merged into the weights before each pass, and gradients flow back through the sum. The layers stay as they
are, so a pass costs what it always does; layers beside them, as peft adds them, nearly double it on a CPU.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
)
"""Layers that a LoRA adds to, by the ends of their names: those of LCM-LoRA (arXiv:2311.05556)."""


class Whole(nn.Module):
    """All weights of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def weights(self, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Weights under the network's names: of ``state`` (as ``state_dict`` names them), or the present ones."""
        return {name.removeprefix("network."): value for name, value in (state or {}).items()}


class LowRank(nn.Module):
    """Low-rank additions: up @ down, of ``rank``, to the weights of the layers in ``TARGETS``. They begin at zero.

    The shapes are those of peft and diffusers, "lora_A" and "lora_B", with alpha = rank.
    """

    def __init__(self, network: nn.Module, rank: int) -> None:
        super().__init__()
        layers = {name: part for name, part in network.named_modules() if name.endswith(TARGETS)}
        self.base: dict[str, Tensor] = {name: layer.weight.detach() for name, layer in layers.items()}
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for name, weight in self.base.items():
            out, *inner = weight.shape
            down = torch.empty(rank, *inner)
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))
            self.down[_key(name)] = nn.Parameter(down)
            self.up[_key(name)] = nn.Parameter(torch.zeros(out, rank, *[1] * (weight.ndim - 2)))

    def weights(self, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The sums, under the network's names: of ``state`` (as ``state_dict`` names it), or the present ones."""
        own: dict[str, Any] = dict(self.named_parameters()) if state is None else state
        return {
            f"{name}.weight": weight + merged(own[f"down.{_key(name)}"], own[f"up.{_key(name)}"])
            for name, weight in self.base.items()
        }

    def exported(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state under the names that ``load_lora_weights`` of diffusers reads."""
        return {
            f"unet.{name}.{theirs}.weight": state[f"{ours}.{_key(name)}"]
            for name in self.base
            for ours, theirs in (("down", "lora_A"), ("up", "lora_B"))
        }


def merged(down: Tensor, up: Tensor) -> Tensor:
    """What a pair adds to the weight of a linear or a convolutional layer, in the shape of that weight."""
    return (up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])


def _key(name: str) -> str:
    """A ParameterDict forbids dots in names."""
    return name.replace(".", "/")

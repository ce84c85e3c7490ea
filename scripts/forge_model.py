"""Forge's own U-Net class and patcher, from a checkout, small: for tests/integrations/webui.

    git clone https://github.com/lllyasviel/stable-diffusion-webui-forge FOLDER
    python -m pip install gguf
    FREEU_FORGE=FOLDER python -m pytest tests/integrations/webui

Forge (AGPL-3) is for tests alone; nothing of it gets into freeu or into the extension. Its page is not started.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

SD15 = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": (1, 2, 4, 4),
    "num_heads": 4,
    "use_spatial_transformer": True,
    "context_dim": 16,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
}
"""The layout of Stable Diffusion 1.5, a tenth as wide."""


def checkout() -> Path | None:
    """The folder that FREEU_FORGE names."""
    named = os.environ.get("FREEU_FORGE")
    return Path(named) if named else None


def model(folder: Path) -> Any:
    """What Forge has as ``p.sd_model``, as far as an extension needs it, with random weights."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    given, sys.argv = sys.argv, [sys.argv[0], "--always-cpu"]  # it reads the command line when it is imported
    try:
        from backend.nn.unet import IntegratedUNet2DConditionModel
        from backend.patcher.unet import UnetPatcher
    finally:
        sys.argv = given
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = IntegratedUNet2DConditionModel(**SD15).eval()
        for parameter in unet.parameters():  # some begin as zeros
            torch.nn.init.normal_(parameter, std=0.05)
    cpu = torch.device("cpu")
    holder = torch.nn.Module()
    holder.diffusion_model = unet
    return SimpleNamespace(forge_objects=SimpleNamespace(unet=UnetPatcher(holder, cpu, cpu)))


def called(patcher: Any, x: torch.Tensor, halves: list[int]) -> torch.Tensor:
    """One call of the U-Net as Forge's sampling makes it, with the patches of the patcher."""
    options = dict(patcher.model_options["transformer_options"])
    options |= {"cond_or_uncond": halves, "sigmas": torch.full((len(x),), 5.0)}
    context = torch.linspace(-1, 1, len(x) * 7 * 16).reshape(len(x), 7, 16)
    with torch.inference_mode():
        times = torch.full((len(x),), 500.0)
        return patcher.model.diffusion_model(x, times, context=context, transformer_options=options)

"""ComfyUI's own core in this process, and small models of its classes with random weights: for tests and benchmarks.

The core's folder is named by the environment variable FREEU_COMFYUI; ``scripts/comfyui_core.py`` prepares one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / "integrations" / "comfyui"
VARIABLE = "FREEU_COMFYUI"
EXTRAS = ("freelunch", "mask", "dataset", "preview_any")
"""The core's own nodes beyond the usual ones that workflows and comparisons use."""
SD15 = {"channel_mult": (1, 2, 4, 4), "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "depth_output": [1] * 9 + [0] * 3}
SDXL = {"channel_mult": (1, 2, 4), "transformer_depth": [0, 0, 1, 1, 2, 2], "depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2]}


def core_folder() -> Path | None:
    """The core's folder, or None where none is named."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def load_core(folder: Path) -> ModuleType:
    """Import the core into this process, for the CPU, with its nodes; what it writes lies in the folder ``user`` of it.

    Returns:
        its module ``nodes``.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import comfy.cli_args

        comfy.cli_args.args.cpu = True
        comfy.cli_args.args.front_end_root = str(PACK / "web")  # the page is not needed
        import comfy.samplers
        import nodes

    logging.getLogger().setLevel(logging.WARNING)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    return nodes


def load_pack(nodes: ModuleType) -> Any:
    """Let the core load the node pack from its folder, as it loads custom nodes, and those of its own that are used.

    Returns:
        its server, which is not started.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import server

        loop = asyncio.new_event_loop()
        serving = server.PromptServer(loop)
        extras = Path(nodes.__file__).parent / "comfy_extras"
        for path in (*(extras / f"nodes_{name}.py" for name in EXTRAS), PACK):
            parent = "custom_nodes" if path == PACK else "comfy_extras"
            if not loop.run_until_complete(nodes.load_custom_node(str(path), module_parent=parent)):
                raise RuntimeError(f"ComfyUI could not load {path.name}")
    return serving


def small_model(family: str = "sd15", width: int = 32) -> Any:
    """A MODEL of the core's own classes, with random weights and few channels.

    Args:
        family: "sd15" or "sdxl": the layout of the decoder; conditioning is that of SD 1.5 for both.
        width: channels at the highest resolution, a multiple of 32; SD 1.5 has 320.
    """
    import comfy.supported_models
    from comfy.model_patcher import ModelPatcher

    layout = {"sd15": SD15, "sdxl": SDXL}[family]
    torch.manual_seed(0)
    config = comfy.supported_models.SD15(
        {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": width,
            "num_res_blocks": [2] * len(layout["channel_mult"]),
            "channel_mult": layout["channel_mult"],
            "transformer_depth": list(layout["transformer_depth"]),
            "transformer_depth_output": list(layout["depth_output"]),
            "transformer_depth_middle": 1,
            "use_spatial_transformer": True,
            "use_linear_in_transformer": False,
            "context_dim": 16,
            "adm_in_channels": None,
            "use_temporal_attention": False,
            "use_checkpoint": False,
            "legacy": False,
            "dtype": torch.float32,
        }
    )
    config.unet_config["num_heads"] = 4
    model = config.get_model({}, "", device=torch.device("cpu"))
    with torch.no_grad():
        for weight in model.parameters():
            # The core leaves memory as it finds it: weights come from checkpoints.
            weight.normal_(std=0.02 if weight.dim() < 2 else weight[0].numel() ** -0.5)
            if weight.dim() == 1:
                weight.add_(0.5)
    return ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


def conditioning(seed: int, tokens: int = 77) -> list[Any]:
    """A CONDITIONING of random features."""
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, tokens, 16, generator=generator), {}]]


def sampled(
    model: Any, steps: int = 4, size: int = 16, images: int = 1, cfg: float = 7.0, **options: Any
) -> torch.Tensor:
    """Latents that the core's sampler makes with a model: Euler, a seed of its own.

    Args:
        model: MODEL.
        steps: of the sampler.
        size: of the square latent.
        images: in the batch.
        cfg: guidance scale; 1 runs no negative prompt.
        options: of the core's ``sample``, such as ``sampler_name``.
    """
    import comfy.sample

    latent = torch.zeros(images, 4, size, size)
    noise = comfy.sample.prepare_noise(latent, 1)
    given = {"sampler_name": "euler", "scheduler": "normal", "disable_pbar": True, "seed": 1} | options
    with contextlib.redirect_stderr(None), torch.inference_mode():
        return comfy.sample.sample(
            model,
            noise,
            steps,
            cfg,
            positive=given.pop("positive", conditioning(2)),
            negative=given.pop("negative", conditioning(3)),
            latent_image=latent,
            **given,
        )


def run_node(nodes: ModuleType, name: str, **inputs: Any) -> Any:
    """The first output of a node of the V3 API."""
    return nodes.NODE_CLASS_MAPPINGS[name].execute(**inputs).args[0]

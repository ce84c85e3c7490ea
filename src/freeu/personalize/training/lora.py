"""LoRA (arXiv:2106.09685): added with PEFT, saved in the layouts of diffusers and kohya."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.personalize.training.training import seed_of
from freeu.pipelines.io.output import OutputFolder

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
"""What ``pipe.load_lora_weights(folder)`` looks for."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
EVERYWHERE = (*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2")
LAYERS = {"attention": ATTENTION, "all": EVERYWHERE}
"""Layers of the U-Net with LoRA: attention projections alone, or feed-forward and convolutions too."""
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")
PARTS = ("unet", "text_encoder", "text_encoder_2")
_KOHYA = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}
ADAPTER = "freeu"
MAX_RANK = 512


def add_lora(
    pipe: Any, rank: int, alpha: float | None = None, layers: str = "attention", text: bool = False, seed: int = 0
) -> dict[str, Parameter]:
    """Add an untrained LoRA, which has no effect yet, to a pipeline; only its weights require gradients.

    Args:
        pipe: a diffusers pipeline, changed in place.
        rank: 1 to 512.
        alpha: the LoRA is scaled by alpha / rank; None is the rank.
        layers: a name of ``LAYERS``.
        text: whether the text encoders get LoRA too.
        seed: of the initial values.

    Returns:
        the matrices by name, float32.

    Raises:
        FreeUValueError: no PEFT.
    """
    need("personalize", "peft")
    import torch
    from peft import LoraConfig

    for part in PARTS:
        module = getattr(pipe, part, None)
        if module is not None:
            module.requires_grad_(False)
    found: dict[str, Parameter] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "lora"))
        for part, module in trained_parts(pipe, text):
            config = LoraConfig(
                r=rank,
                lora_alpha=rank if alpha is None else alpha,
                init_lora_weights="gaussian",
                target_modules=list(LAYERS[layers] if part == "unet" else TEXT),
            )
            module.add_adapter(config, adapter_name=ADAPTER)
            for name, value in module.named_parameters():
                if value.requires_grad:
                    value.data = value.data.float()
                    found[f"{part}.{name}"] = value
    return found


def trained_parts(pipe: Any, text: bool) -> list[tuple[str, Any]]:
    """The U-Net and, with ``text``, the text encoders of a pipeline, by name."""
    names = PARTS if text else PARTS[:1]
    return [(name, getattr(pipe, name)) for name in names if getattr(pipe, name, None) is not None]


def lora_state(pipe: Any, text: bool = False) -> dict[str, Tensor]:
    """The matrices of ``add_lora`` by diffusers' names ("unet.….lora_A.weight"), scaled by alpha / rank.

    The scale is multiplied into the second matrix, so that programs that ignore alpha generate the same. diffusers'
    older names ("….lora.down.weight") exist for attention alone, and of a file with both kinds it loads half. Text
    encoders have their names of transformers 4, which diffusers reads with any version.
    """
    from peft.utils import get_peft_model_state_dict

    found: dict[str, Tensor] = {}
    for part, module in trained_parts(pipe, text):
        config = module.peft_config[ADAPTER]
        scale = config.lora_alpha / config.r
        for name, value in get_peft_model_state_dict(module, adapter_name=ADAPTER).items():
            if part != "unet" and not name.startswith("text_model."):
                name = f"text_model.{name}"
            tensor = value.detach().float().cpu()
            found[f"{part}.{name}"] = (tensor * scale if ".lora_B." in name else tensor).contiguous()
    return found


def save_lora(pipe: Any, output: OutputFolder, kohya_name: str, text: bool = False) -> None:
    """Write the LoRA twice: as diffusers names its tensors, and as kohya does for ComfyUI, AUTOMATIC1111 and Forge.

    Args:
        kohya_name: of the second file, without its suffix; the first is ``DIFFUSERS_FILE``.

    Raises:
        FreeURuntimeError: no space left, or the folder cannot be written.
    """
    from safetensors.torch import save_file

    state = lora_state(pipe, text)
    with output.file(DIFFUSERS_FILE) as part:
        save_file(state, part, metadata={"format": "pt"})
    with output.file(f"{kohya_name}.safetensors") as part:
        save_file(for_kohya(state, two_encoders=getattr(pipe, "text_encoder_2", None) is not None), part)


def for_kohya(state: Mapping[str, Tensor], two_encoders: bool = False) -> dict[str, Tensor]:
    """The same matrices by kohya's names: ``lora_unet_…_to_q.lora_down.weight``, with an ``.alpha`` for each pair.

    Args:
        two_encoders: whether the model has two text encoders, as SDXL; the first one is then "te1".
    """
    import torch

    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        module, _, side = rest.partition(".lora_")
        head = "lora_te1" if two_encoders and part == "text_encoder" else _KOHYA[part]
        key = f"{head}_{module.replace('.', '_')}"
        found[f"{key}.lora_{'down' if side.startswith('A') else 'up'}.weight"] = tensor
        if side.startswith("A"):
            found[f"{key}.alpha"] = torch.tensor(float(tensor.shape[0]))
    return found


def check_rank(rank: int, alpha: float | None) -> None:
    """Raise ``FreeUValueError`` for a rank outside 1 to ``MAX_RANK``, or an alpha that is not above 0."""
    if not 1 <= rank <= MAX_RANK:
        raise FreeUValueError(f"--rank must lie in 1 to {MAX_RANK}, got {rank}")
    if alpha is not None and not 0 < alpha <= 10_000:
        raise FreeUValueError(f"--alpha must be above 0, got {alpha:g}: leave it out for the rank itself")


def kohya_file(folder: Path, name: str) -> Path:
    """Where ``save_lora`` puts the file for kohya's layout."""
    return folder / f"{name}.safetensors"

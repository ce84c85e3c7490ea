"""What lets large models run on small machines: weights that wait beside the accelerator, and work in pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from freeu.errors import FreeUValueError, unknown_name

OFFLOADS = ("model", "sequential")


@dataclass(frozen=True)
class Memory:
    """How memory is saved; each of these can change the last bits of an image.

    Args:
        offload: "model" keeps on the device only the network that computes, "sequential" only the layer; the others
            wait in the machine's memory. None keeps all of them on the device.
        vae_tiling: decode large images in tiles that overlap.
        attention_slicing: compute attention head by head.

    Raises:
        FreeUValueError: an unknown kind of offloading.
    """

    offload: str | None = None
    vae_tiling: bool = False
    attention_slicing: bool = False

    def __post_init__(self) -> None:
        if self.offload is not None and self.offload not in OFFLOADS:
            raise unknown_name("--offload", self.offload, OFFLOADS)


def check_device(memory: Memory, device: str) -> None:
    """Refuse what a device cannot do, before a model is loaded.

    Raises:
        FreeUValueError: sequential offloading on the cpu: accelerate moves each weight from there to where it
            computes, and fails where that is the same place.
    """
    if memory.offload == "sequential" and device.startswith("cpu"):
        raise FreeUValueError("--offload sequential needs an accelerator, and this runs on the cpu: leave it out")


def place(pipe: Any, device: str, memory: Memory, label: str) -> None:
    """Put a pipeline on its device, the way that saves memory.

    Args:
        pipe: of diffusers, with everything that is added to it.
        device: of torch. On "cpu" nothing is gained by offloading whole networks; its hooks do their work all the same.
        label: of the model, for messages.

    Raises:
        FreeUValueError: the pipeline cannot do it.
    """
    if memory.vae_tiling:
        if not tiles(pipe):
            raise FreeUValueError(f"the VAE of {label} cannot decode in tiles: leave --vae-tiling out")
        pipe.vae.enable_tiling()
    if memory.attention_slicing:
        pipe.enable_attention_slicing()
    if memory.offload is None:
        pipe.to(device)
        return
    enable = pipe.enable_model_cpu_offload if memory.offload == "model" else pipe.enable_sequential_cpu_offload
    try:
        enable(device=device)
    except (ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FreeUValueError(f"{label} cannot be offloaded: {reason}: leave --offload out") from None


def tiles(pipe: Any) -> bool:
    """Whether a pipeline has a VAE that diffusers decodes in tiles."""
    vae = getattr(pipe, "vae", None)
    if getattr(vae, "enable_tiling", None) is None:
        return False
    # Those of tiny VAEs fit together only where a latent is eight pixels wide (diffusers 0.42).
    factor = int(getattr(pipe, "vae_scale_factor", 8))
    return type(vae).__name__ != "AutoencoderTiny" or int(getattr(vae, "spatial_scale_factor", factor)) == factor


def what_to_try(memory: Memory, device: str, batch: int, dtype: str, tiled: bool) -> str:
    """What to try next after the memory of a device was not enough: the cheapest first, without what is on already.

    Args:
        batch: how many images were generated at once.
        tiled: whether the pipeline has a VAE that can decode in tiles.
    """
    accelerator = not device.startswith("cpu")
    ways = [f"a smaller --batch than {batch}"] if batch > 1 else []
    ways += ["--dtype float16"] if dtype == "float32" and accelerator else []
    ways += ["--vae-tiling"] if tiled and not memory.vae_tiling else []
    if accelerator and memory.offload != "sequential":
        ways.append("--offload model" if memory.offload is None else "--offload sequential (slow)")
    ways += ["--attention-slicing"] if not memory.attention_slicing else []
    ways += ["a smaller --size"]
    ways += ["--device cpu"] if accelerator else []
    return ", ".join(ways[:-1]) + (" or " if len(ways) > 1 else "") + ways[-1]

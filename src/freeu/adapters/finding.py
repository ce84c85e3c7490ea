"""Where the U-Net of a pipeline is: the one way that every public function takes to it."""

from __future__ import annotations

from typing import Any

from torch import nn

from freeu.adapters import adapter_for, knows
from freeu.core.wrappers import unwrapped
from freeu.errors import NoSitesError

# Where pipelines and models keep their U-Net.
_PLACES = (
    "unet",  # diffusers' pipelines
    # ModelScope's models for text-to-video, for image-to-video and video-to-video, VideoComposer, and pipelines around
    # them; lucidrains' GaussianDiffusion.
    "sd_model",
    "generator",
    "model",
    "model.sd_model",
    "model.generator",
    "model.model",
    "model.diffusion_model",  # CompVis, sgm, ComfyUI's ModelPatcher
    "diffusion_model",  # the model within these
    "denoise_fn",  # video-diffusion-pytorch
    "inner_model",  # k-diffusion
    "prior",  # Stable Cascade's two pipelines
    "decoder",
)


def unet_of(model: Any) -> nn.Module:
    """The U-Net of a pipeline or of a model around one, or the module itself.

    Wrappers are looked through wherever they stand: torch.compile, PEFT, DataParallel, DistributedDataParallel.

    Raises:
        NoSitesError: a pipeline without a U-Net, or something that is no model.
    """
    found = unwrapped(model)
    if isinstance(found, nn.Module) and knows(found):
        return found
    for place in _PLACES:
        inside = _at(found, place)
        if isinstance(inside, nn.Module) and knows(inside):
            return inside
    if not isinstance(found, nn.Module):
        # None that is known: the adapters say what it is instead and what to do.
        found = _at(model, "unet")
        if found is None:
            other = getattr(model, "transformer", None) or getattr(model, "prior", None)
            if isinstance(other, nn.Module):
                adapter_for(other)
            raise NoSitesError(
                f"{type(model).__name__} has no U-Net: FreeU needs a pipeline with a U-Net, or the U-Net itself"
            )
    if not isinstance(found, nn.Module):
        raise NoSitesError(f"expected a torch module or a pipeline with a U-Net, got {type(model).__name__}")
    return found


def _at(model: Any, place: str) -> Any:
    """What lies at a dotted path of attributes, inside its wrappers; None if there is nothing."""
    for name in place.split("."):
        model = unwrapped(getattr(model, name, None))
    return model

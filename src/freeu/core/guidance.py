"""Which rows of a U-Net's batch belong to the prompt: known for the pipelines listed here, guessed for none.

A batch of two rows may be two images without guidance, the two halves of classifier-free guidance in either order, or
an image beside its perturbed twin. Only the pipeline that stacked them knows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from freeu.config import FreeUConfig
from freeu.errors import FreeURuntimeError

# Each was read in diffusers 0.42: it stacks [unconditional, conditional] where do_classifier_free_guidance is true, and
# one row for each image elsewhere.
_HALVES = """
AnimateDiffPipeline AnimateDiffControlNetPipeline AnimateDiffSDXLPipeline AnimateDiffSparseControlNetPipeline
AnimateDiffVideoToVideoPipeline AnimateDiffVideoToVideoControlNetPipeline I2VGenXLPipeline PIAPipeline
StableVideoDiffusionPipeline
KandinskyV22Pipeline KandinskyV22Img2ImgPipeline KandinskyV22InpaintPipeline Kandinsky3Pipeline
Kandinsky3Img2ImgPipeline KolorsPipeline KolorsImg2ImgPipeline
LatentConsistencyModelPipeline LatentConsistencyModelImg2ImgPipeline
StableDiffusionPipeline StableDiffusionImg2ImgPipeline StableDiffusionInpaintPipeline StableDiffusionDepth2ImgPipeline
StableDiffusionAdapterPipeline StableDiffusionXLAdapterPipeline StableDiffusionLDM3DPipeline
StableDiffusionControlNetPipeline StableDiffusionControlNetImg2ImgPipeline StableDiffusionControlNetInpaintPipeline
StableDiffusionControlNetXSPipeline
StableDiffusionXLPipeline StableDiffusionXLImg2ImgPipeline StableDiffusionXLInpaintPipeline
StableDiffusionXLControlNetPipeline StableDiffusionXLControlNetImg2ImgPipeline
StableDiffusionXLControlNetInpaintPipeline StableDiffusionXLControlNetUnionPipeline
StableDiffusionXLControlNetUnionImg2ImgPipeline StableDiffusionXLControlNetUnionInpaintPipeline
"""
# Perturbed-attention guidance adds the conditional rows once more: [unconditional, conditional, perturbed].
_PERTURBED = """
AnimateDiffPAGPipeline KolorsPAGPipeline StableDiffusionPAGPipeline StableDiffusionPAGImg2ImgPipeline
StableDiffusionPAGInpaintPipeline StableDiffusionControlNetPAGPipeline StableDiffusionControlNetPAGInpaintPipeline
StableDiffusionXLPAGPipeline StableDiffusionXLPAGImg2ImgPipeline StableDiffusionXLPAGInpaintPipeline
StableDiffusionXLControlNetPAGPipeline StableDiffusionXLControlNetPAGImg2ImgPipeline
"""
# [with prompt and image, with the image alone, with neither].
_EDITED = "StableDiffusionInstructPix2PixPipeline"
# The views of a panorama lie in the batch as [unconditional, conditional, unconditional, conditional, ...].
_VIEWS = "StableDiffusionPanoramaPipeline"

KINDS = {
    name: kind
    for kind, names in (("halves", _HALVES), ("perturbed", _PERTURBED), ("edited", _EDITED), ("views", _VIEWS))
    for name in names.split()
}
"""How each known pipeline stacks its batch, by the name of its class."""


class Layout(NamedTuple):
    """The rows of one call.

    Args:
        parts: equal parts that the batch consists of; with ``alternating`` rows take turns instead.
        first, last: the parts that see the prompt, ``last`` excluded.
        alternating: every second row is conditional.
    """

    parts: int
    first: int
    last: int
    alternating: bool = False

    def conditional(self, rows: int) -> slice:
        """The rows that see the prompt, out of the rows of a batch or of its frames."""
        if self.alternating:
            return slice(1, rows, 2)
        return slice(rows // self.parts * self.first, rows // self.parts * self.last)

    @property
    def share(self) -> str | int:
        """What ``scale_backbone`` calls the sharing of one map by the rows of one image."""
        return 2 if self.alternating else "guidance"


def kind_of(pipe: Any) -> str | None:
    """How a pipeline stacks its batch, from the class whose ``__call__`` it runs; None for one that is not known."""
    owner = next((cls for cls in type(pipe).__mro__ if "__call__" in vars(cls)), object)
    return KINDS.get(owner.__name__) if owner.__module__.split(".")[0] == "diffusers" else None


def needs_rows(config: FreeUConfig) -> bool:
    """Whether a configuration treats the rows of guidance differently."""
    return config.share == "guidance" or config.guidance == "conditional"


def check_rows(config: FreeUConfig, pipe: Any, stacked: bool) -> None:
    """Refuse settings by the rows of guidance where nobody knows these.

    Args:
        config: what is to be applied.
        pipe: the pipeline that calls the U-Net, or None.
        stacked: whether samplers of this family stack the halves at all.

    Raises:
        FreeURuntimeError: a bare U-Net, or a pipeline that is not in the table; a shared map for more than two parts.
    """
    if not needs_rows(config):
        return
    setting = "share='guidance'" if config.share == "guidance" else "guidance='conditional'"
    if not stacked:
        raise FreeURuntimeError(
            f"{setting} needs both halves of guidance in one batch, and samplers of this family call the U-Net once "
            "for each: use the default"
        )
    if pipe is None:
        raise FreeURuntimeError(
            f"{setting} needs to know which rows of the batch see the prompt, and a U-Net alone cannot tell: apply "
            "FreeU to the pipeline, or use the default"
        )
    kind = kind_of(pipe)
    if kind is None and hasattr(pipe, "guider"):
        raise FreeURuntimeError(
            f"{setting} needs to know what each call of the U-Net is for, and {type(pipe).__name__} tells that to its "
            "guider alone: pipe.update_components(guider=freeu.FreeUGuidance(pipe.guider, config)), or use the default"
        )
    if kind is None:
        raise FreeURuntimeError(
            f"{setting} needs to know which rows of the batch see the prompt, and how {type(pipe).__name__} stacks "
            "them is not known: use the default"
        )
    if config.share == "guidance" and kind in ("perturbed", "edited"):
        raise FreeURuntimeError(
            f"{setting} is for the two halves of classifier-free guidance, and {type(pipe).__name__} stacks three "
            "parts: use the default"
        )


def layout_of(kind: str, pipe: Any, batch: int) -> Layout | None:
    """The rows of one call of the U-Net; None without guidance, where every row sees the prompt.

    Raises:
        FreeURuntimeError: the pipeline does not say whether it guides, or the batch has other parts than it says.
    """
    guided = getattr(pipe, "do_classifier_free_guidance", None)
    if kind == "views":  # says no, and goes by the scale
        scale = getattr(pipe, "guidance_scale", None)
        guided = None if scale is None else scale > 1.0
    if guided is None:
        state = f"{type(pipe).__name__}, which is not under way" if pipe is not None else "a pipeline that is gone"
        raise FreeURuntimeError(
            f"share='guidance' and guidance='conditional' follow the guidance of {state}: call the pipeline, or use "
            "the defaults"
        )
    if not guided:
        return None
    layout = Layout(2, 1, 2)
    if kind == "perturbed" and pipe.do_perturbed_attention_guidance:
        layout = Layout(3, 1, 3)
    elif kind == "edited":
        layout = Layout(3, 0, 1)
    elif kind == "views":
        layout = Layout(2, 1, 2, alternating=True)
    if batch % layout.parts:
        raise FreeURuntimeError(
            f"share='guidance' and guidance='conditional' need the {layout.parts} parts of guidance that "
            f"{type(pipe).__name__} stacks, got {batch} rows: use the defaults"
        )
    return layout

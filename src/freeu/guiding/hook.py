"""A guidance interval and FreSca in a pipeline for the length of a ``with`` block: one hook on its U-Net's output.

A pipeline computes u + w (c - u) of the halves of its batch: u without and c with the prompt. With c in both halves
that is c, whatever w is: no guidance. With u + F(c - u) in the second half it is u + w F(c - u): filtered guidance.
"""

from __future__ import annotations

import inspect
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from freeu.adapters.finding import unet_of
from freeu.core.compiled import refuse_compiled
from freeu.core.guidance import Layout, kind_of, layout_of
from freeu.core.schedule import Clock, one_timestep
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.guiding.settings import FreSca, Guiding
from freeu.ops.skip import filter_skip
from freeu.scalecrafter.dilation import dilation_of

_MARK = "_freeu_guiding"
_UNTOLD = ("TextToVideoSDPipeline", "VideoToVideoSDPipeline")
"""Pipelines of diffusers that stack [unconditional, conditional] above a CFG scale of 1 and do not say so."""


class Guided:
    """Guidance of one pipeline as ``Guiding`` says, until the end of the ``with`` block or ``remove()``.

    Attributes:
        settings: what is done.
        calls: how many calls of the U-Net were edited so far.
    """

    def __init__(self, pipe: Any, settings: Guiding, guidance: float | None = None) -> None:
        if not settings.identity:
            check_guiding(pipe, settings, guidance)
        self.settings = settings
        self.calls = 0
        self.unet: Any = unet_of(pipe)
        self._clock = Clock(pipe)
        self._hook: RemovableHandle | None = None
        if settings.identity:
            return
        refuse_compiled(self.unet, ())
        if _MARK in self.unet.__dict__:
            raise FreeURuntimeError("guidance of this U-Net is changed already: end that block, or call its remove()")
        self.unet.__dict__[_MARK] = self
        self._hook = self.unet.register_forward_hook(self._edit, with_kwargs=True)

    def remove(self) -> None:
        """Give the U-Net back as it was. A second call does nothing."""
        if self._hook is not None:
            self._hook.remove()
            del self.unet.__dict__[_MARK]
        self._hook = None

    def __enter__(self) -> Guided:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __deepcopy__(self, memo: dict[int, Any]) -> Guided:
        raise FreeURuntimeError("a model cannot be copied while its guidance is changed: copy it before or after")

    # -- inside -------------------------------------------------------------------------------------------------

    def _edit(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Forward-hook of the U-Net."""
        dilation = dilation_of(unet)
        if dilation is not None and dilation.denoises:
            return None  # no prediction yet: noise-damped guidance makes one of it and of the first call
        sample = output[0]
        pipe = self._clock.pipe()
        if type(pipe).__name__ in _UNTOLD:
            layout = Layout(2, 1, 2) if sample.shape[0] % 2 == 0 else None
        else:
            layout = layout_of("halves", pipe, sample.shape[0])
        if layout is None:
            raise FreeURuntimeError(
                f"{type(pipe).__name__} was called without guidance: use a CFG scale above 1, or leave the guidance "
                "interval and FreSca out"
            )
        with_prompt = sample[layout.conditional(sample.shape[0])]
        without = sample[: sample.shape[0] - with_prompt.shape[0]]
        if not self._inside(args, kwargs):
            edited = torch.cat([with_prompt, with_prompt])
        elif self.settings.fresca is not None:
            edited = torch.cat([without, filtered(without, with_prompt, self.settings.fresca)])
        else:
            return None
        self.calls += 1
        return (edited, *output[1:]) if isinstance(output, tuple) else type(output)(sample=edited)

    def _inside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether guidance acts at the step of a call."""
        interval = self.settings.interval
        if interval is None or interval.whole:
            return True
        t = one_timestep(args[1] if len(args) > 1 else kwargs.get("timestep"))
        return interval.weight(float(self._clock.position(t.cpu(), interval.unit))) > 0.0


def enabled(pipe: Any, settings: Guiding, guidance: float | None = None) -> Guided:
    """A guidance interval, FreSca, or both, for the length of a ``with`` block.

    FreeU and ScaleCrafter may be put on before or after. What is edited is what ScaleCrafter's noise-damped guidance
    gives.

    Args:
        pipe: a pipeline of diffusers that stacks the two halves of classifier-free guidance in one batch: those of
            Stable Diffusion, XL included, with ControlNets and adapters, AnimateDiff, Stable Video Diffusion,
            ModelScope's and others that ``freeu.core.guidance`` names. With several images, all are edited.
        settings: what to do. The identity adds no hook.
        guidance: the CFG scale that the pipeline will be called with, if known: then a scale without guidance is
            refused here, and not when the pipeline runs. Needed for ``TextToVideoSDPipeline``, which does not tell it.

    Returns:
        the handle; without ``with``, call its ``remove()``.

    Raises:
        FreeUValueError: a CFG scale of 1 or less, or a pipeline that is not known or takes the scale as an input.
        FreeURuntimeError: guidance of this U-Net is changed already, or it has run as compiled code.

    >>> import freeu_zoo, torch
    >>> from diffusers import StableDiffusionPipeline
    >>> from freeu.guiding import Guiding, enabled
    >>> from freeu.guiding.settings import parse_interval
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> pipe.set_progress_bar_config(disable=True)
    >>> with enabled(pipe, Guiding(parse_interval("0.5-1"))) as guided:
    ...     image = pipe("a 3d fox", num_inference_steps=4, width=64, height=64).images[0]
    >>> guided.calls  # the first two steps were not guided
    2
    """
    return Guided(pipe, settings, guidance)


def check_guiding(
    pipe: Any, settings: Guiding, guidance: float | None = None, size: tuple[int, int] | None = None
) -> None:
    """Refuse a pipeline or a CFG scale that has no two predictions to guide between.

    Args:
        pipe: loaded.
        settings: what is to be done.
        guidance: the CFG scale of the calls, or None where that is not known yet.
        size: width and height of the images in pixels, or None; then FreSca's threshold is checked too.

    Raises:
        FreeUValueError: as ``enabled``; a threshold of FreSca that is too large for the size.
        FreeURuntimeError: an interval by sigma, and a scheduler without noise levels.
    """
    what = settings.text
    name = type(pipe).__name__
    if guidance is not None and not guidance > 1.0:
        raise FreeUValueError(f"{what} needs a CFG scale above 1, got {guidance:g}: at 1 there is no guidance")
    if getattr(unet_of(pipe).config, "time_cond_proj_dim", None) is not None:
        raise FreeUValueError(
            f"{what} needs predictions with and without the prompt, and this U-Net takes the CFG scale as an input"
        )
    if kind_of(pipe) != "halves" and name not in _UNTOLD:
        raise FreeUValueError(
            f"{what} needs the two halves of guidance in one batch, and how {name} stacks its batch is not known, or "
            "it has other parts: use a pipeline of Stable Diffusion"
        )
    if name in _UNTOLD and guidance is None:
        raise FreeUValueError(f"{name} does not tell its CFG scale: give guidance=... too")
    if settings.limited and settings.interval is not None:
        Clock(pipe).check(settings.interval)
    if settings.fresca is not None and size is not None:
        factor = int(getattr(pipe, "vae_scale_factor", 8))
        settings.fresca.bins(size[1] // factor, size[0] // factor)


def check_rescale(pipe: Any, guidance: float) -> None:
    """Refuse guidance rescale (Lin et al. 2023, arXiv:2305.08891) where the pipeline does not do it itself.

    Raises:
        FreeUValueError: the pipeline takes no ``guidance_rescale``, or a CFG scale of 1 or less.
    """
    if "guidance_rescale" not in inspect.signature(pipe.__call__).parameters:
        raise FreeUValueError(
            f"{type(pipe).__name__} has no guidance rescale (guidance_rescale): use a pipeline that has it, such as "
            "StableDiffusionPipeline, or leave it out"
        )
    if not guidance > 1.0:
        raise FreeUValueError(
            f"guidance rescale needs a CFG scale above 1, got {guidance:g}: at 1 there is no guidance"
        )


def filtered(without: Tensor, with_prompt: Tensor, fresca: FreSca) -> Tensor:
    """u + F(c - u), F scaling low and high frequencies of height and width (FreSca).

    Args:
        without, with_prompt: u and c, shape (B, ..., H, W); the axes between are channels and frames, each filtered by
            itself.
        fresca: the gains.

    Returns:
        of the dtype of ``with_prompt``; computed in float32, in float64 for float64.
    """
    dtype = torch.promote_types(with_prompt.dtype, torch.float32)
    u, c = without.to(dtype), with_prompt.to(dtype)
    difference = (c - u).reshape(len(c), -1, *c.shape[-2:])
    threshold = fresca.bins(*c.shape[-2:])
    scaled = filter_skip(difference, fresca.low, threshold, "window", high_gain=fresca.high)
    return (u + scaled.reshape(c.shape)).to(with_prompt.dtype)

"""ScaleCrafter in a U-Net for the length of a ``with`` block.

Each chosen convolution gets a ``_conv_forward`` of its own, beside its class's, which is deleted again at the end: no
weight and no attribute of the convolution is changed, so afterwards the model is restored bit for bit.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from freeu.core.compiled import refuse_compiled
from freeu.core.guidance import kind_of, layout_of
from freeu.core.schedule import Clock, one_timestep
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.scalecrafter.convolution import redilatable, redilated
from freeu.scalecrafter.published import scalable
from freeu.scalecrafter.settings import ScaleCrafter

_MARK = "_freeu_scalecrafter"
_METHOD = "_conv_forward"
Levels = Mapping[nn.Conv2d, int]


class _Call(threading.local):
    """What this thread's call of the U-Net does: the dilation of each convolution; and whether it is the second call
    of a step."""

    dilations: Mapping[nn.Conv2d, float] | None = None
    denoises: bool = False


class Dilation:
    """ScaleCrafter on one U-Net, until the end of the ``with`` block or ``remove()``.

    Attributes:
        settings: what is done.
        convolutions: the convolutions that are dilated, and the level of each (0: the lowest resolution).
        calls: how many calls of the U-Net were dilated so far.
    """

    def __init__(self, model: Any, settings: ScaleCrafter) -> None:
        unet = scalable(model)
        self.unet = unet
        self.settings = settings
        self.calls = 0
        self._clock = Clock(None if isinstance(model, nn.Module) else model)
        self._check(unet)
        self.convolutions = convolutions_of(unet, settings.levels)
        self._denoising = convolutions_of(unet, settings.denoising_levels)
        self._call = _Call()
        self._hooks: list[RemovableHandle] = []
        refuse_compiled(unet)
        unet.__dict__[_MARK] = self
        try:
            for conv in self.convolutions:
                conv.__dict__[_METHOD] = functools.partial(self._convolve, conv)
            self._hooks.append(unet.register_forward_pre_hook(self._begin, with_kwargs=True))
            # First: what else looks at the output, or edits it, is given what damping makes of it.
            end = unet.register_forward_hook(self._end, prepend=True, with_kwargs=True, always_call=True)
            self._hooks.append(end)
        except BaseException:
            self.remove()
            raise

    def _check(self, unet: Any) -> None:
        if _MARK in unet.__dict__:
            raise FreeURuntimeError(
                "ScaleCrafter is on this U-Net already: end that block, or call its remove(), first"
            )
        levels = len(unet.down_blocks)
        if max(self.settings.levels) > levels:
            raise FreeUValueError(f"levels {self.settings.levels}: this {type(unet).__name__} has {levels}")
        if self.settings.guidance == "damped" and kind_of(self._clock.pipe()) != "halves":
            pipe = self._clock.pipe()
            what = "a U-Net alone does not tell" if pipe is None else f"those of {type(pipe).__name__} are not known"
            raise FreeURuntimeError(
                f"noise-damped guidance needs to know which rows of the batch see the prompt, and {what}: use a "
                "pipeline of Stable Diffusion, or guidance='plain'"
            )

    @property
    def denoises(self) -> bool:
        """Whether this thread is within the second call of a step, whose output noise-damped guidance is made of."""
        return self._call.denoises

    def remove(self) -> None:
        """Give the convolutions back as they were. A second call does nothing."""
        if self.unet.__dict__.get(_MARK) is not self:
            return
        for hook in self._hooks:
            hook.remove()
        for conv in self.convolutions:
            conv.__dict__.pop(_METHOD, None)
        del self.unet.__dict__[_MARK]

    def __enter__(self) -> Dilation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __deepcopy__(self, memo: dict[int, Any]) -> Dilation:
        raise FreeURuntimeError("a model cannot be copied within a block of ScaleCrafter: copy it before or after")

    # -- inside -------------------------------------------------------------------------------------------------

    def _convolve(self, conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        dilation = (self._call.dilations or {}).get(conv, 1.0)
        if dilation == 1.0:
            plain: Tensor = type(conv)._conv_forward(conv, x, weight, bias)
            return plain
        return redilated(conv, x, weight, bias, dilation)

    def _begin(self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled() and getattr(self.unet, "is_gradient_checkpointing", False):
            raise FreeURuntimeError(
                "gradient checkpointing would run the convolutions again without their dilation: sample within "
                "torch.no_grad(), or call disable_gradient_checkpointing()"
            )
        t = one_timestep(args[1] if len(args) > 1 else kwargs.get("timestep"))
        done = float(self._clock.position(t.cpu(), "fraction"))
        levels = self._denoising if self._call.denoises else self.convolutions
        found = {conv: self.settings.dilation(level, done) for conv, level in levels.items()}
        self._call.dilations = found
        self.calls += not self._call.denoises and any(dilation != 1.0 for dilation in found.values())

    def _end(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Forward-hook of the U-Net; after an exception it is called without an output."""
        dilated = any(dilation != 1.0 for dilation in (self._call.dilations or {}).values())
        self._call.dilations = None
        if output is None or self._call.denoises or not dilated or self.settings.guidance == "plain":
            return None
        pipe = self._clock.pipe()
        sample = output[0]
        layout = layout_of("halves", pipe, sample.shape[0])
        if layout is None:  # no guidance to damp
            return None
        self._call.denoises = True
        try:
            denoised = unet(*args, **kwargs)[0]
        finally:
            self._call.denoises = False
        return _with_sample(output, damped(sample, denoised))


def enabled(model: Any, settings: ScaleCrafter) -> Dilation:
    """ScaleCrafter for the length of a ``with`` block, for sampling without gradients.

    Args:
        model: a pipeline of diffusers with a ``UNet2DConditionModel`` (Stable Diffusion 1.x, 2.x or XL), or that U-Net.
        settings: what ``recommend`` gives for the size, or others.

    Returns:
        the handle; without ``with``, call its ``remove()``.

    Raises:
        FreeUValueError: another kind of U-Net, or more levels than it has.
        FreeURuntimeError: ScaleCrafter is on it already, it has run as compiled code, or guidance is to be damped and
            the pipeline is not known.

    >>> from diffusers import UNet2DConditionModel
    >>> from freeu.scalecrafter import ScaleCrafter, enabled
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> widths = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
    >>> unet = UNet2DConditionModel(**blocks, **widths)
    >>> with enabled(unet, ScaleCrafter(2.0, levels=(1, 1))) as dilation:
    ...     print(len(dilation.convolutions))
    11
    """
    return Dilation(model, settings)


def dilation_of(unet: Any) -> Dilation | None:
    """The ScaleCrafter that is on a U-Net, or None."""
    found: Dilation | None = unet.__dict__.get(_MARK)
    return found


def convolutions_of(unet: Any, levels: tuple[int, int]) -> dict[nn.Conv2d, int]:
    """The 3x3 convolutions of the lowest levels of encoder and decoder, and the level of each.

    Those of a LoRA beside them count too: what they add must be dilated as what it is added to.
    """
    encoder, decoder = levels
    blocks = list(zip(reversed(unet.down_blocks), range(encoder), strict=False))
    blocks += zip(unet.up_blocks, range(decoder), strict=False)
    if decoder and getattr(unet, "mid_block", None) is not None:
        blocks.append((unet.mid_block, 0))
    return {module: level for block, level in blocks for module in block.modules() if redilatable(module)}


def damped(sample: Tensor, denoised: Tensor) -> Tensor:
    """What a pipeline must be given so that its guidance becomes noise-damped.

    A pipeline computes u + w (c - u) of the halves u and c of its batch. Noise-damped guidance (arXiv:2310.07702) is
    e + w (c - u): the dilated U-Net says where to go, and another one, which denoises better, what to remove. With the
    halves e and e + (c - u) the pipeline computes that.

    Args:
        sample: of the dilated U-Net, shape (2 B, C, H, W): the rows without prompt, then those with it.
        denoised: of the other one, in the same order; its rows with prompt are not used.
    """
    u, c = sample.chunk(2)
    e = denoised.chunk(2)[0]
    return torch.cat([e, e + (c - u)])


def _with_sample(output: Any, sample: Tensor) -> Any:
    if isinstance(output, tuple):
        return (sample, *output[1:])
    return type(output)(sample=sample)

"""The patch that a node puts on a clone of the model: it is called with backbone and skip of every output block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from freeu.config import FreeUConfig
from freeu.core.calls import Weights
from freeu.core.site import Site, factors_at, touched_at
from freeu.errors import FreeURuntimeError
from freeu.ops import filter_skip, scale_backbone
from freeu.output_blocks.region import Region, within
from freeu.output_blocks.sites import find_sites
from freeu.output_blocks.steps import Steps

Change = Callable[[Tensor, bool], Tensor]


class Clock(Protocol):
    """Knows which step is under way."""

    def weights(self, options: Mapping[str, Any], begins: bool) -> Weights:
        """How much FreeU acts in this call, as ``Steps.weights`` says."""


class FreeUPatch:
    """An ``output_block_patch`` of ComfyUI or Forge.

    Args:
        config: the settings.
        sites: of the model, by the number of the output block.
        steps: when FreeU acts.
        region: where it acts; None for the whole image.
    """

    def __init__(self, config: FreeUConfig, sites: Sequence[Site], steps: Clock, region: Region | None = None) -> None:
        self.config = config
        self.sites = sites
        self.steps = steps
        self.region = region
        self.factors = factors_at(sites, config)
        self.first = next((n for n, found in enumerate(self.factors) if touched_at(*found)), -1)

    def __call__(self, h: Tensor, hsp: Tensor, transformer_options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Backbone and skip of one output block, as FreeU leaves them.

        Args:
            h: backbone features (B, C, H, W); changed in place in inference, as the core's own nodes do.
            hsp: skip features (B, C', H', W'), of the same size unless another patch changes one of them later. Not
                modified: the encoder's features may be kept by somebody else.
            transformer_options: of the core: ``block``, ``sigmas``, ``sample_sigmas``, ``cond_or_uncond``.

        Raises:
            FreeURuntimeError: channels other than those of the model that the patch was made for; guidance or noise
                levels that the core does not tell.
        """
        number = transformer_options["block"][1]
        factors, high = self.factors[number]
        if not touched_at(factors, high):
            return h, hsp
        site = self.sites[number]
        if (h.shape[1], hsp.shape[1]) != (site.backbone_channels, site.skip_channels):
            raise FreeURuntimeError(
                f"output block {number} should join {site.backbone_channels} + {site.skip_channels} channels, got "
                f"{h.shape[1]} + {hsp.shape[1]}: another node has changed the model since FreeU was put on it"
            )
        weight, skip_weight = self.steps.weights(transformer_options, number == self.first)
        stage = factors.toward_identity(float(weight), float(skip_weight))
        high = 1.0 + float(skip_weight) * (high - 1.0)
        s, high = stage.s * stage.g, high * stage.g
        # Without a middle block, backbone and skip of the first output block are one tensor: the skip goes first.
        skip = hsp if s == high == 1.0 else self._rows(hsp, transformer_options, self._filter(s, high), False)
        if stage.b != 1.0:
            private = not torch.is_grad_enabled() and not h.requires_grad and not torch.compiler.is_compiling()
            alone = private and h.data_ptr() != skip.data_ptr()
            h = self._rows(h, transformer_options, self._scale(stage.b, transformer_options), alone)
        return h, skip

    def _filter(self, s: float, high: float) -> Change:
        config = self.config

        def change(x: Tensor, inplace: bool) -> Tensor:
            return filter_skip(x, s, config.threshold, config.mask, dc=config.dc, high_gain=high, inplace=inplace)

        return change

    def _scale(self, b: float, options: Mapping[str, Any]) -> Change:
        config = self.config
        channels = config.channels
        assert channels is not None, "a checked configuration names its channels"
        share = "none"
        if config.share == "guidance" and config.version == 2:
            share = _shared(options)

        def change(x: Tensor, inplace: bool) -> Tensor:
            return scale_backbone(x, b, config.version, channels=channels, share=share, inplace=inplace)

        return change

    def _rows(self, x: Tensor, options: Mapping[str, Any], change: Change, inplace: bool) -> Tensor:
        """Features with the change in the rows and the region that the settings name."""
        halves = options.get("cond_or_uncond")
        region = self.region
        if region is not None:
            mask, whole = region.at(x, len(halves) if halves else 1), change

            def change(part: Tensor, inplace: bool) -> Tensor:
                here = mask if len(mask) == 1 else mask[: len(part)]  # every part of the batch has the same masks
                return within(part, whole(part, False), here, inplace)

        if self.config.guidance == "both":
            return change(x, inplace)
        if not halves:
            raise FreeURuntimeError(
                "guidance=conditional needs to know which rows of the batch see the prompt, and this sampler does not "
                "tell (transformer_options has no cond_or_uncond): use guidance=both"
            )
        parts = [
            (part, kind == 0) for part, kind in zip(x.chunk(len(halves)), halves, strict=True)
        ]  # 0 is the positive prompt
        if inplace:
            for part, chosen in parts:
                if chosen:
                    change(part, True)
            return x
        if not any(chosen for _, chosen in parts):
            return x
        return torch.cat([change(part, False) if chosen else part for part, chosen in parts])


def _shared(options: Mapping[str, Any]) -> str:
    """What ``scale_backbone`` calls the sharing of one map by the halves of guidance.

    Raises:
        FreeURuntimeError: the halves do not come together.
    """
    halves = options.get("cond_or_uncond")
    if halves == [0]:  # no guidance: nobody to share with
        return "none"
    if halves is not None and sorted(halves) == [0, 1]:
        return "guidance"
    raise FreeURuntimeError(
        f"share=guidance needs one positive and one negative part in the batch, and ComfyUI ran {halves} (0 is "
        "positive, 1 negative; it runs them apart where memory is short or prompts differ in length): use share=none"
    )


def freeu_on(
    model: Any, config: FreeUConfig, start: float = 0.0, end: float = 1.0, region: Tensor | None = None
) -> Any:
    """A clone of a model with FreeU on it; the model itself stays as it is.

    Args:
        model: ComfyUI's MODEL.
        config, region: see ``FreeUPatch``; ``region`` is the type MASK.
        start, end: see ``Steps``.

    Raises:
        NoSitesError, FreeUValueError: no U-Net, or settings that do not fit.
    """
    sites = find_sites(model)
    steps = Steps(config, model.get_model_object("model_sampling"), start, end)
    patch = FreeUPatch(config, sites, steps, None if region is None else Region(region))
    clone = model.clone()
    if not config.identity:
        clone.set_model_output_block_patch(patch)
    return clone

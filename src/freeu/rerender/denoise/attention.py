"""Cross-frame attention: self-attention in the decoder attends to the first and the previous key frame.

Its keys and values come from [v_1; v_{i-1}], the features of these frames at the same layer and step (style-aware
cross-frame attention, section 4.1). As in the official code, only the decoder is changed.

The features are cached when those frames are generated, so there are no additional U-Net calls; running both frames
along in the batch would need no cache but three times the time. The cache takes, for each frame and in the U-Net's
dtype, (halves of guidance) x steps x sum over decoder layers of (tokens x channels): 10.6 MB for the embedded model at
128x128, 12 steps and float32, 330 MB for Stable Diffusion 1.5 at 512x512, 12 steps and float16.

A forward pre-hook passes the features to the attention as its context. No attention processor is replaced: the model's
own one computes (sliced, LoRA, explicit), and FreeU's hooks, which are on other modules, are independent of this one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeURuntimeError, FreeUValueError

if TYPE_CHECKING:
    from torch import Tensor, nn

Features = dict[str, list["Tensor"]]
"""Inputs of each self-attention, by its path: one (batch, tokens, channels) for each recorded step."""


def decoder_attention(unet: nn.Module) -> dict[str, nn.Module]:
    """The self-attention layers of the decoder by their paths.

    Raises:
        FreeUValueError: there is none, or one with fused projections of queries, keys and values.
    """
    from freeu.adapters.finding import unet_of

    unet = unet_of(unet)
    found = {
        path: module
        for path, module in unet.named_modules()
        if path.startswith("up_blocks.") and path.endswith(".attn1")
    }
    if not found:
        raise FreeUValueError(
            f"{type(unet).__name__} has no self-attention in its decoder: disable the stage cross-frame"
        )
    for path, module in found.items():
        if getattr(module, "fused_projections", False):
            raise FreeUValueError(f"the projections of {path} are fused: call pipe.unfuse_qkv_projections() first")
    return found


class CrossFrame:
    """Records the inputs of the decoder's self-attention, and makes it attend to inputs recorded before.

    Args:
        unet: whose decoder it is.
        references: recorded inputs of the first and the previous key frame, or of one of them if they are the same;
            empty leaves self-attention unchanged.
    """

    def __init__(self, unet: nn.Module, references: Sequence[Mapping[str, Sequence[Tensor]]] = ()) -> None:
        self.layers = decoder_attention(unet)
        self.references = references
        self.recorded: Features = {path: [] for path in self.layers}
        self._calls = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Act on one call of the U-Net, for a ``with`` block; calls outside are unchanged.

        Raises:
            FreeURuntimeError: the call did not pass through every layer.
        """
        handles = []
        self._calls += 1
        try:
            for path, layer in self.layers.items():
                hook = functools.partial(self._attend, path)
                handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()
        missed = [path for path, found in self.recorded.items() if len(found) != self._calls]
        if missed:
            raise FreeURuntimeError(
                f"cross-frame attention did not reach {missed[0]}: compiled code and patches that skip layers bypass "
                "it; remove them, or disable the stage cross-frame"
            )

    def _attend(
        self, path: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        import torch

        if (args[1] if len(args) > 1 else kwargs.get("encoder_hidden_states")) is not None:
            return None  # in this model it is cross-attention to the prompt
        features: Tensor = args[0] if args else kwargs["hidden_states"]
        recorded = self.recorded[path]
        recorded.append(features.detach())
        if not self.references:
            return None
        context = torch.cat([reference[path][self._calls - 1] for reference in self.references], dim=1)
        if len(args) > 1:
            return (args[0], context, *args[2:]), kwargs
        return args, kwargs | {"encoder_hidden_states": context}

"""Pixel-aware fusion: the generated key frames are warped to the next one along the flow of the video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from freeu.motion.estimate import FlowEstimator
from freeu.motion.measure import Flow, Frame, warp_back
from freeu.rerender.denoise.encoding import Autoencoder
from freeu.rerender.denoise.memory import KeyFrame
from freeu.rerender.denoise.stages import softened, toward
from freeu.rerender.outline.drawn import with_object

if TYPE_CHECKING:
    from torch import Tensor

_RADIUS = 128  # the radius of soft edges is the shorter side over this: 4 at 512, as in the official code


@dataclass(frozen=True)
class View:
    """A generated key frame as seen from another frame of the video.

    Args:
        flow: from the frame to the source frame of the key frame.
        image: the generated key frame, warped to the frame, float32 (H, W, 3), 0..255.
    """

    flow: Flow
    image: NDArray[np.float32]


def view_from(frame: Frame, key: KeyFrame, moves: NDArray[np.bool_] | None, estimator: FlowEstimator) -> View:
    """The view of a generated key frame from ``frame``, by the flow of the video.

    Args:
        frame: of the video, uint8 (H, W, 3): that of the next key frame.
        key: the generated key frame.
        moves: what moves in the frame, (H, W); None if it is not known, and the flow is that of the video everywhere.
        estimator: of the flow.
    """
    flow = estimator(frame, key.source)
    if moves is not None and key.drawn is not None:
        flow, _ = with_object(flow, moves, key.drawn)
    return View(flow, warp_back(key.image, flow))


def composited(coarse: Tensor, views: Sequence[View], codec: Autoencoder) -> tuple[Tensor, Tensor]:
    """The target image of pixel-aware fusion (section 4.1), and its weight.

    The views are composited over the current prediction, the first key frame on top of the previous one: what it shows
    is not passed on from frame to frame, so errors do not accumulate.

    Args:
        coarse: (1, 3, H, W) in -1..1, a draft of the frame, visible where no view is.
        views: in order of precedence.
        codec: converts the views to images.

    Returns:
        the image, (1, 3, H, W), and the weight of the views in it, (1, 1, H, W), float32, 0..1.
    """
    radius = max(1, round(min(coarse.shape[-2:]) / _RADIUS))
    image, missing = coarse.float(), None
    for view in reversed(views):
        weight = softened(~view.flow.traceable, radius).to(coarse.device)
        image = toward(image, codec.tensor(view.image).float(), weight)
        missing = 1.0 - weight if missing is None else missing * (1.0 - weight)
    assert missing is not None, "pixel-aware fusion needs a key frame"
    return image.to(coarse.dtype), 1.0 - missing


def at_latents(weight: Tensor, size: Sequence[int]) -> Tensor:
    """The smallest weight among the pixels of each latent pixel, (1, 1, h, w)."""
    from torch.nn.functional import adaptive_max_pool2d

    return -adaptive_max_pool2d(-weight, tuple(size))


def touched(weight: Tensor, size: Sequence[int]) -> Tensor:
    """The largest weight among the pixels of each latent pixel, (1, 1, h, w)."""
    from torch.nn.functional import adaptive_max_pool2d

    return adaptive_max_pool2d(weight, tuple(size))

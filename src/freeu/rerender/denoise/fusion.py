"""What the generated key frames say of the next one: each is brought to its place along the flow of the video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from freeu.motion.estimate import FlowEstimator
from freeu.motion.measure import Flow, Frame, warp_back
from freeu.rerender.denoise.encoding import Autoencoder
from freeu.rerender.denoise.stages import softened, toward

if TYPE_CHECKING:
    from torch import Tensor

_RADIUS = 128  # the shorter side over this is the radius of soft edges: 4 at 512, as in the official code


@dataclass(frozen=True)
class View:
    """A generated key frame as seen from another frame of the video.

    Args:
        flow: from the frame to the video's frame that was generated.
        drawn: what was generated, brought to the place of the frame, float32 (H, W, 3), 0..255.
    """

    flow: Flow
    drawn: NDArray[np.float32]


def seen(frame: Frame, film: Frame, drawn: Frame, estimator: FlowEstimator) -> View:
    """The view of a generated key frame from ``frame``, by the flow of the video.

    Args:
        frame, film: frames of the video, uint8 (H, W, 3): the one to generate and the one that was generated.
        drawn: what the latter became, uint8 (H, W, 3).
        estimator: how flow is found.
    """
    flow = estimator(frame, film)
    return View(flow, warp_back(drawn, flow))


def overlaid(coarse: Tensor, views: Sequence[View], codec: Autoencoder) -> tuple[Tensor, Tensor]:
    """The image that pixel-aware fusion aims at (section 4.1), and where it says something.

    The views are laid over what the U-Net believes so far, the first key frame on top of the previous one: what it
    shows does not pass from frame to frame, so errors do not add up.

    Args:
        coarse: (1, 3, H, W) in -1..1, a draft of the frame; it shows where no view does.
        views: in the order of precedence.
        codec: makes images of the views.

    Returns:
        the image, (1, 3, H, W), and the weight of what comes from views, (1, 1, H, W), float32, 0..1.
    """
    radius = max(1, round(min(coarse.shape[-2:]) / _RADIUS))
    picture, missing = coarse.float(), None
    for view in reversed(views):
        weight = softened(~view.flow.traceable, radius).to(coarse.device)
        picture = toward(picture, codec.tensor(view.drawn).float(), weight)
        missing = 1.0 - weight if missing is None else missing * (1.0 - weight)
    assert missing is not None, "pixel-aware fusion needs a key frame"
    return picture.to(coarse.dtype), 1.0 - missing


def at_latents(weight: Tensor, size: Sequence[int]) -> Tensor:
    """The least weight of the pixels of each latent pixel, (1, 1, h, w)."""
    from torch.nn.functional import adaptive_max_pool2d

    return -adaptive_max_pool2d(-weight, tuple(size))

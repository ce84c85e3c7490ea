"""Where the pixels of one frame lie in another, near or far, and where they cannot be seen there.

Everything is numpy, float32, and the same on every run (OpenCV on one thread).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.evaluate.motion import Flow, optical_flow

FlowEstimator = Callable[[Any, Any], Flow]
"""Flow from the first of two frames, uint8 (H, W, 3), to the second: ``optical_flow``, or another with its contract."""


def between(target: Any, reference: Any, estimator: FlowEstimator = optical_flow) -> Flow:
    """From each pixel of ``target`` to where it lies in ``reference``.

    ``warp_back(reference, flow)`` is then the reference brought to the target's place. ``traceable`` is false where the
    pixel cannot be seen in the reference: covered there, out of the picture, or not found.

    Args:
        target, reference: frames, uint8 (H, W, 3), of one size.
        estimator: how flow is found.

    Raises:
        FreeUValueError: other frames; the estimator's package is missing.
    """
    return estimator(target, reference)


def at_latent(flow: Flow, factor: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A flow for latents ``factor`` times smaller than the frames.

    Args:
        flow: of (H, W), both divisible by ``factor``.
        factor: of the autoencoder, 4 or 8 for instance.

    Returns:
        displacements in latent pixels (H / factor, W / factor, 2), the mean over the pixels of each latent pixel; and
        where all of these are traceable.

    Raises:
        FreeUValueError: sizes that the factor does not divide.
    """
    height, width = flow.traceable.shape
    if factor < 1 or height % factor or width % factor:
        raise FreeUValueError(f"latents {factor} times smaller do not fit a flow of {width}x{height} pixels")
    blocks = (height // factor, factor, width // factor, factor)
    mean = flow.forward.reshape(*blocks, 2).mean(axis=(1, 3), dtype=np.float64) / factor
    return mean.astype(np.float32), flow.traceable.reshape(blocks).all(axis=(1, 3))

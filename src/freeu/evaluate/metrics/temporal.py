"""Flicker and the temporal spectrum: unwanted change from frame to frame."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from freeu.motion.measure import Floats, Flow, Frame, check_frames, flows, luma, warp_back

FAST = 0.25
"""Cycles per frame above which a change over time counts as fast: half of the Nyquist frequency."""


def frame_difference(frames: Iterable[Any]) -> float:
    """Mean absolute difference of neighbouring frames, pixel by pixel; motion counts as much as flicker.

    VBench's temporal flickering (Huang et al. 2024, arXiv:2311.17982) is (255 - this) / 255, taken of still scenes.

    Args:
        frames: uint8 (T, H, W, 3), at least two.

    Returns:
        levels, 0..255; 0 for a still video.

    Raises:
        FreeUValueError: other frames.

    >>> import numpy as np
    >>> still = np.zeros((3, 16, 16, 3), np.uint8)
    >>> frame_difference(still)
    0.0
    """
    found = check_frames(frames)
    return float(np.mean([pair_difference(a, b) for a, b in itertools.pairwise(found)]))


def pair_difference(first: Frame, second: Frame) -> float:
    """Mean absolute difference of two frames in levels."""
    return float(np.abs(first.astype(np.int16) - second).mean())


def flicker(frames: Iterable[Any]) -> float | None:
    """Mean absolute difference of neighbouring frames after motion compensation.

    mean |x_t(p) - x_{t+1}(p + f_t(p))| over the traceable pixels p of flow f, all pairs and colours: the warping error
    of Lai et al. 2018 (arXiv:1808.00449) with absolute differences. Occluded and lost pixels are left out, so look at
    ``traceable_share`` too: where little is traceable, little is measured.

    Args:
        frames: uint8 (T, H, W, 3), at least two.

    Returns:
        levels, 0..255; None if no pixel is traceable.

    Raises:
        FreeUValueError: other frames; OpenCV is not installed.

    >>> import numpy as np
    >>> flicker(np.zeros((3, 16, 16, 3), np.uint8))
    0.0
    """
    found = check_frames(frames)
    return mean_flicker(pair_flicker(a, b, f) for a, b, f in zip(found, found[1:], flows(found), strict=False))


def pair_flicker(first: Frame, second: Frame, flow: Flow) -> tuple[float, int]:
    """Sum over the traceable pixels of their absolute difference in levels (mean of the colours), and their number."""
    apart = np.abs(first - warp_back(second, flow)).mean(axis=2)
    return float(apart[flow.traceable].sum(dtype=np.float64)), int(flow.traceable.sum())


def mean_flicker(pairs: Iterable[tuple[float, int]]) -> float | None:
    """The mean of results of ``pair_flicker``; None if they cover no pixel."""
    total, count = np.sum(list(pairs), axis=0)
    return float(total / count) if count else None


def traceable_share(frames: Iterable[Any]) -> float:
    """Share of traceable pixels, mean over neighbouring frames, 0..1: flicker is measured on them.

    Args:
        frames: uint8 (T, H, W, 3), at least two.

    >>> import numpy as np
    >>> traceable_share(np.zeros((3, 16, 16, 3), np.uint8))
    1.0
    """
    return float(np.mean([flow.traceable.mean() for flow in flows(frames)]))


def temporal_spectrum(frames: Iterable[Any]) -> tuple[Floats, Floats]:
    """Power of each pixel's luma over time, by frequency, mean over pixels.

    By the cosine transform (DCT-II), which unlike the Fourier transform sees no jump from the last frame to the first;
    with c_k(p) the orthonormal coefficients of pixel p, the power at k / (2 T) cycles per frame is mean_p c_k(p)^2 / T.

    Args:
        frames: uint8 (T, H, W, 3), at least two.

    Returns:
        frequencies in cycles per frame, 0 to below 0.5, and power in squared levels, both (T,); the powers sum to the
        mean square of luma, those beyond the first to the mean variance over time.

    >>> import numpy as np
    >>> frequency, power = temporal_spectrum(np.zeros((4, 16, 16, 3), np.uint8))
    >>> frequency
    array([0.   , 0.125, 0.25 , 0.375])
    """
    found = check_frames(frames)
    length = len(found)
    steps = np.arange(length)
    waves = np.sqrt(2.0 / length) * np.cos(np.pi * np.outer(steps, 2 * steps + 1) / (2 * length))
    waves[0] /= np.sqrt(2.0)
    coefficients = np.tensordot(waves, np.array([luma(frame) for frame in found]), axes=1)
    return steps / (2.0 * length), np.square(coefficients).mean(axis=(1, 2)) / length


def fast_power(frequency: Floats, power: Floats, above: float = FAST) -> tuple[float, float]:
    """Power above a frequency in cycles per frame, and at all frequencies but 0."""
    return float(power[frequency > above].sum()), float(power[1:].sum())


def fast_share(frames: Iterable[Any], above: float = FAST) -> float:
    """Share of the power over time above a frequency, the mean of each pixel left out (see ``temporal_spectrum``).

    Noise that is independent in every frame has equal power at all frequencies; smooth motion has little at high ones,
    but some: an edge that passes a pixel is a step.

    Args:
        frames: uint8 (T, H, W, 3), at least two.
        above: in cycles per frame, 0 to 0.5.

    Returns:
        0..1; 0 for a still video.

    >>> import numpy as np
    >>> frames = np.zeros((4, 16, 16, 3), np.uint8)
    >>> frames[::2] = 255  # as fast as frames can show
    >>> fast_share(frames)
    0.8535533905932737
    """
    fast, total = fast_power(*temporal_spectrum(frames), above)
    return share_of(fast, total)


def share_of(fast: float, total: float) -> float:
    """``fast`` over ``total``; 0 if ``total`` is rounding error."""
    return fast / total if total > 1e-9 else 0.0

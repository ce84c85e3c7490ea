"""Blend two images of one frame without seams or blur.

They are warped from key frames that were generated separately, so colours and detail differ a little. Instead of the
paper's gradient-domain blend (Rerender A Video, section 4.2, after Jamriska et al. 2019) the colours are matched first:
both get the same low frequencies, so there is no step at the border of a region that only one shows.
docs/rerender-flow.md has the measurement.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.extras import need
from freeu.motion.measure import Frame

Pixels = NDArray[np.float32]
Weight = NDArray[np.float32]

_LOW = 0.06  # of the shorter side: standard deviation of the low-pass filter
_LOCAL = 2.0  # pixels: the same of the window in which contrast is measured
_SEEN = 1e-3  # smallest weight that counts as visible
_REACH = 12  # pixels from which a hole is filled
_COLOUR = 12.0  # levels within which pixels of the source have the same colour
_FLOOR = 4.0  # squared levels below which contrast is not restored


def blend(before: Pixels, after: Pixels, seen_before: Weight, seen_after: Weight, time: float) -> Frame:
    """Blend two images of one frame.

    Low frequencies are interpolated in time where both are visible, and the offset is extrapolated to where only one
    is. Details are weighted by time and confidence, and the contrast that their mean loses is restored (variance
    preserving; Heitz & Neyret 2018, eq. 2, with the measured covariance).

    Args:
        before, after: 0..255, (H, W, 3).
        seen_before, seen_after: confidence in each, 0..1, (H, W); where both are 0 both count.
        time: 0 at ``before``, 1 at ``after``.

    Returns:
        uint8 (H, W, 3).
    """
    need("video", "cv2")
    low = _LOW * min(before.shape[:2])
    both = np.minimum(seen_before, seen_after)
    offset = _spread(after - before, both, low)
    first, second = before + np.float32(time) * offset, after - np.float32(1.0 - time) * offset
    # _SEEN gives a colour to pixels that are visible in neither.
    share = time * (seen_after + _SEEN) / (time * (seen_after + _SEEN) + (1.0 - time) * (seen_before + _SEEN))
    mixed = first + share[..., None].astype(np.float32) * (second - first)
    return np.asarray(np.clip(np.rint(_contrast(mixed, first, second, share)), 0, 255), np.uint8)


def fill(image: Frame, lost: NDArray[np.bool_], guide: Frame) -> Frame:
    """Fill what no key frame shows from near pixels that have the same colour in the source (joint bilateral).

    A lost pixel with no such pixel within 12 pixels does not change.

    Args:
        image: the blended frame, uint8 (H, W, 3). Not modified.
        lost: which pixels to fill, (H, W).
        guide: the source frame, uint8 (H, W, 3).
    """
    y, x = np.nonzero(lost)
    if not len(y):
        return image
    total, colours = np.zeros(len(y)), np.zeros((len(y), 3))
    values, source = image.astype(np.float32), guide.astype(np.float32)
    here = source[y, x]
    reach = range(-_REACH, _REACH + 1)
    for down, across in ((down, across) for down in reach for across in reach):
        ny, nx = np.clip(y + down, 0, lost.shape[0] - 1), np.clip(x + across, 0, lost.shape[1] - 1)
        unlike = np.square(source[ny, nx] - here).sum(axis=1) / _COLOUR**2
        away = (down * down + across * across) / (_REACH / 2.0) ** 2
        weight = np.exp(-unlike - away) * ~lost[ny, nx]
        total += weight
        colours += weight[:, None] * values[ny, nx]
    found = total > _SEEN
    filled = image.copy()
    filled[y[found], x[found]] = np.rint(colours[found] / total[found, None])
    return filled


def _contrast(mixed: Pixels, first: Pixels, second: Pixels, share: NDArray[Any]) -> Pixels:
    """The mixture with the local variance of its parts, weighted by their shares."""
    middle = _soft(mixed, _LOCAL)
    spread = [np.square(image - _soft(image, _LOCAL)).mean(axis=2) for image in (first, second)]
    wanted = _soft((1.0 - share) * spread[0] + share * spread[1], _LOCAL)
    there = _soft(np.square(mixed - middle).mean(axis=2), _LOCAL)
    gain = np.clip(np.sqrt((wanted + _FLOOR) / (there + _FLOOR)), 1.0, np.sqrt(2.0))
    return np.asarray(middle + gain[..., None] * (mixed - middle), np.float32)


def _spread(values: Pixels, weight: Weight, sigma: float) -> Pixels:
    """Values known where ``weight`` is, smoothed and extrapolated (normalised convolution)."""
    total = _soft(weight, sigma)
    if not total.any():
        return np.zeros_like(values)
    mean = (values * weight[..., None]).sum(axis=(0, 1)) / weight.sum()
    # Far from all known values, their mean.
    return np.asarray((_soft(values * weight[..., None], sigma) + 1e-3 * mean) / (total + 1e-3)[..., None], np.float32)


def _soft(values: Any, sigma: float) -> NDArray[np.float32]:
    import cv2

    return np.asarray(cv2.GaussianBlur(np.asarray(values, np.float32), (0, 0), sigma), np.float32)

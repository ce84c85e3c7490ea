"""Two images of one frame made one: from either where only it is there, mixed in between, without seams or blur.

The two come from key frames generated apart, so their colours differ a little and so does their detail. Instead of the
paper's gradient-domain blend (Rerender A Video, section 4.2, after Jamriska et al. 2019) the colours are matched first:
both are brought to the same low frequencies, so there is nothing left to jump at the border of what only one shows.
docs/rerender-flow.md has the measurement.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.extras import need
from freeu.motion.measure import Frame

Picture = NDArray[np.float32]
Weight = NDArray[np.float32]

_LOW = 0.06  # of the shorter side: standard deviation of what is called low frequency
_LOCAL = 2.0  # pixels: the same of the neighbourhood in which contrast is measured
_SEEN = 1e-3  # least weight that counts as seen
_REACH = 12  # pixels from which a hole is filled
_COLOUR = 12.0  # levels within which pixels of the video are of one colour
_FLOOR = 4.0  # squared levels below which contrast is not restored


def blend(before: Picture, after: Picture, seen_before: Weight, seen_after: Weight, time: float) -> Frame:
    """Mix two images of one frame.

    Low frequencies go over from one to the other in time, wherever both are seen, and the difference carries on into
    what only one shows. Of detail each gives its share, by time and by what it sees, and what the mean of two details
    loses in contrast is given back (variance preserving; Heitz & Neyret 2018, eq. 2, with the measured covariance).

    Args:
        before, after: 0..255, (H, W, 3).
        seen_before, seen_after: how far each is to be believed, 0..1, (H, W); where both are 0 both count.
        time: 0 at ``before``, 1 at ``after``.

    Returns:
        uint8 (H, W, 3).
    """
    need("video", "cv2")
    low = _LOW * min(before.shape[:2])
    both = np.minimum(seen_before, seen_after)
    offset = _spread(after - before, both, low)
    first, second = before + np.float32(time) * offset, after - np.float32(1.0 - time) * offset
    # A little of everything, so that a pixel seen in neither has a colour.
    share = time * (seen_after + _SEEN) / (time * (seen_after + _SEEN) + (1.0 - time) * (seen_before + _SEEN))
    mixed = first + share[..., None].astype(np.float32) * (second - first)
    return np.asarray(np.clip(np.rint(_contrast(mixed, first, second, share)), 0, 255), np.uint8)


def fill(picture: Frame, lost: NDArray[np.bool_], guide: Frame) -> Frame:
    """Fill what no key frame shows from near pixels that are of the same colour in the video (joint bilateral).

    A lost pixel farther than 12 pixels from all others, or of a colour that none of them has, stays as it is.

    Args:
        picture: the generated frame, uint8 (H, W, 3). Not modified.
        lost: which pixels to fill, (H, W).
        guide: the video's frame, uint8 (H, W, 3).
    """
    y, x = np.nonzero(lost)
    if not len(y):
        return picture
    total, colours = np.zeros(len(y)), np.zeros((len(y), 3))
    values, film = picture.astype(np.float32), guide.astype(np.float32)
    here = film[y, x]
    reach = range(-_REACH, _REACH + 1)
    for down, across in ((down, across) for down in reach for across in reach):
        ny, nx = np.clip(y + down, 0, lost.shape[0] - 1), np.clip(x + across, 0, lost.shape[1] - 1)
        unlike = np.square(film[ny, nx] - here).sum(axis=1) / _COLOUR**2
        away = (down * down + across * across) / (_REACH / 2.0) ** 2
        weight = np.exp(-unlike - away) * ~lost[ny, nx]
        total += weight
        colours += weight[:, None] * values[ny, nx]
    found = total > _SEEN
    filled = picture.copy()
    filled[y[found], x[found]] = np.rint(colours[found] / total[found, None])
    return filled


def _contrast(mixed: Picture, first: Picture, second: Picture, share: NDArray[Any]) -> Picture:
    """The mixture with the local variance that its parts have by their shares."""
    middle = _soft(mixed, _LOCAL)
    spread = [np.square(picture - _soft(picture, _LOCAL)).mean(axis=2) for picture in (first, second)]
    wanted = _soft((1.0 - share) * spread[0] + share * spread[1], _LOCAL)
    there = _soft(np.square(mixed - middle).mean(axis=2), _LOCAL)
    gain = np.clip(np.sqrt((wanted + _FLOOR) / (there + _FLOOR)), 1.0, np.sqrt(2.0))
    return np.asarray(middle + gain[..., None] * (mixed - middle), np.float32)


def _spread(values: Picture, weight: Weight, sigma: float) -> Picture:
    """A smooth image of values known where ``weight`` is, carried on to where it is not (normalised convolution)."""
    total = _soft(weight, sigma)
    if not total.any():
        return np.zeros_like(values)
    mean = (values * weight[..., None]).sum(axis=(0, 1)) / weight.sum()
    # Far from all that is known, the mean of all.
    return np.asarray((_soft(values * weight[..., None], sigma) + 1e-3 * mean) / (total + 1e-3)[..., None], np.float32)


def _soft(values: Any, sigma: float) -> NDArray[np.float32]:
    import cv2

    return np.asarray(cv2.GaussianBlur(np.asarray(values, np.float32), (0, 0), sigma), np.float32)

"""Whether the subject and the background of a video stay consistent, by a judge's features.

VBench (Huang et al. 2024, arXiv:2311.17982) compares each frame with the first and with the one before: features of
DINO for the subject, of CLIP for the background, both of whole frames. One CLIP cannot separate them on whole frames
(a subject that grows lowers both), so here the subject is segmented first, by colour. That works where the background
has one colour or a gradient, as in the images of the embedded model, and gives None elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.distance import Floats, features_of
from freeu.motion.measure import Frame, check_frame

APART = 40
"""Levels (of 255) by which a pixel differs from the background, in at least one channel, if it is of the subject."""

_LEAST, _MOST = 0.003, 0.9  # share of the image that a subject takes
_ROOM = 1.3  # side of the crop over that of the subject
_GREY = np.uint8(128)
Parts = tuple[Frame, Frame]


def frame_consistency(features: Any) -> float:
    """Mean over frames t after the first of (cos(f_1, f_t) + cos(f_{t-1}, f_t)) / 2 (VBench).

    Args:
        features: of the frames in order, (T, d), T at least 2.

    Returns:
        -1..1; 1 if nothing changes.

    Raises:
        FreeUValueError: fewer than two frames, values that are not finite, or a vector of zeros.

    >>> import numpy as np
    >>> frame_consistency(np.ones((3, 2)))
    0.9999999999999998
    """
    array = features_of("the video", features)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not lengths.all():
        raise FreeUValueError("a feature vector of zeros has no direction")
    unit = array / lengths
    return float(((unit[1:] @ unit[0]) + (unit[1:] * unit[:-1]).sum(axis=1)).mean() / 2.0)


def split_subject(frame: Any) -> Parts | None:
    """Split a frame into its subject, cropped to a square on grey, and its background with the subject filled in.

    The background is a plane in each colour channel fitted to the border of the frame (1/32 of the shorter side; the
    worst fifth of the pixels is left out of the next fit); the subject is what differs from it by more than ``APART``.
    The crop is centred on the subject with a margin, so its position and size do not matter; the other image has the
    fitted background where the subject (and three pixels around it) was.

    Args:
        frame: uint8 (H, W, 3).

    Returns:
        both uint8, (S, S, 3) and (H, W, 3); None if the border is no such background, or the subject takes less than
        0.3 % or more than 90 % of the image.

    >>> import numpy as np
    >>> frame = np.full((64, 64, 3), 200, np.uint8)
    >>> frame[20:40, 30:50] = (220, 30, 30)
    >>> subject, background = split_subject(frame)
    >>> subject.shape, background.shape, bool((background == 200).all())
    ((28, 28, 3), (64, 64, 3), True)
    """
    pixels = check_frame(frame)
    background, border = _background(pixels)
    subject = np.abs(pixels - background).max(axis=2) > APART
    if subject[border].mean() > 0.4 or not _LEAST <= subject.mean() <= _MOST:
        return None
    filled = np.where(_dilated(subject, 3)[..., None], np.clip(np.round(background), 0, 255).astype(np.uint8), pixels)
    return _crop(np.where(subject[..., None], pixels, _GREY), subject), filled


def _background(pixels: Frame) -> tuple[Floats, NDArray[np.bool_]]:
    """The plane fitted to the border, (H, W, 3), and which pixels are the border."""
    height, width = pixels.shape[:2]
    thick = max(1, min(height, width) // 32)
    border = np.ones((height, width), dtype=bool)
    border[thick:-thick, thick:-thick] = False
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([np.ones(border.size), rows.ravel() / height, columns.ravel() / width], axis=1)
    values, on_border = pixels.reshape(-1, 3).astype(np.float64), border.ravel()
    kept = on_border
    plane = np.zeros_like(values)
    for _ in range(3):
        plane = places @ np.linalg.lstsq(places[kept], values[kept], rcond=None)[0]
        miss = np.abs(values - plane).max(axis=1)
        kept = on_border & (miss <= np.quantile(miss[on_border], 0.8) + 1e-9)
    return plane.reshape(height, width, 3), border


def _dilated(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    for _ in range(by):
        wide = np.pad(mask, 1)
        mask = wide[1:-1, 1:-1] | wide[2:, 1:-1] | wide[:-2, 1:-1] | wide[1:-1, 2:] | wide[1:-1, :-2]
    return mask


def _crop(pixels: Frame, mask: NDArray[np.bool_]) -> Frame:
    """The square around a mask; its outermost hundredth is ignored, so that single pixels do not set the size."""
    rows, columns = np.nonzero(mask)
    (top, bottom), (left, right) = (np.quantile(axis, [0.005, 0.995]) for axis in (rows, columns))
    half = int(_ROOM * (max(bottom - top, right - left) + 1) / 2.0) + 1
    y, x = (round((low + high) / 2.0) for low, high in ((top, bottom), (left, right)))
    wide = np.pad(pixels, ((half, half), (half, half), (0, 0)), constant_values=_GREY)
    return np.asarray(wide[y : y + 2 * half, x : x + 2 * half])

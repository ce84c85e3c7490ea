"""Whether a video keeps its subject and its background, on a judge's features.

VBench (Huang et al. 2024, arXiv:2311.17982) compares each frame with the first and with the one before: features of
DINO for the subject, of CLIP for the background, of whole frames both. One CLIP cannot tell them apart on whole frames
(a subject that grows lowers either), so here the subject is cut out first, by colour: that works where it stands on a
ground of one colour or a gradient, as in the embedded world, and gives None elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.distance import Floats, features_of
from freeu.motion.measure import Frame, check_frame

APART = 40
"""Levels by which a pixel must differ from the ground, in one colour at least, to be of the subject."""

_LEAST, _MOST = 0.003, 0.9  # share of the image that a subject takes
_ROOM = 1.3  # side of the cut-out over that of the subject
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
    """
    array = features_of("the video", features)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not lengths.all():
        raise FreeUValueError("a feature vector of zeros has no direction")
    unit = array / lengths
    return float(((unit[1:] @ unit[0]) + (unit[1:] * unit[:-1]).sum(axis=1)).mean() / 2.0)


def subject_and_ground(frame: Any) -> Parts | None:
    """A frame taken apart: its subject on grey, cut out as a square, and its ground without the subject.

    The ground is a plane in each colour fitted to the rim of the frame (1/32 of the shorter side; the worst fifth is
    left out in turn); the subject is what differs from it by more than ``APART``. The cut-out has the subject in its
    middle with some room, so where it is and how large does not matter; the other image has the fitted ground where
    the subject (and three pixels around it) was.

    Args:
        frame: uint8 (H, W, 3).

    Returns:
        both uint8, (S, S, 3) and (H, W, 3); None where the rim is no such ground, or the subject takes less than 0.3 %
        or more than 90 % of the image.
    """
    pixels = check_frame(frame)
    ground, rim = _ground(pixels)
    apart = np.abs(pixels - ground).max(axis=2) > APART
    if apart[rim].mean() > 0.4 or not _LEAST <= apart.mean() <= _MOST:
        return None
    empty = np.where(_grown(apart, 3)[..., None], np.clip(np.round(ground), 0, 255).astype(np.uint8), pixels)
    return _cut(np.where(apart[..., None], pixels, _GREY), apart), empty


def _ground(pixels: Frame) -> tuple[Floats, NDArray[np.bool_]]:
    """The plane through the rim, (H, W, 3), and which pixels are the rim."""
    height, width = pixels.shape[:2]
    thick = max(1, min(height, width) // 32)
    rim = np.ones((height, width), dtype=bool)
    rim[thick:-thick, thick:-thick] = False
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([np.ones(rim.size), rows.ravel() / height, columns.ravel() / width], axis=1)
    values, on_rim = pixels.reshape(-1, 3).astype(np.float64), rim.ravel()
    kept = on_rim
    plane = np.zeros_like(values)
    for _ in range(3):
        plane = places @ np.linalg.lstsq(places[kept], values[kept], rcond=None)[0]
        miss = np.abs(values - plane).max(axis=1)
        kept = on_rim & (miss <= np.quantile(miss[on_rim], 0.8) + 1e-9)
    return plane.reshape(height, width, 3), rim


def _grown(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    for _ in range(by):
        wide = np.pad(mask, 1)
        mask = wide[1:-1, 1:-1] | wide[2:, 1:-1] | wide[:-2, 1:-1] | wide[1:-1, 2:] | wide[1:-1, :-2]
    return mask


def _cut(pixels: Frame, mask: NDArray[np.bool_]) -> Frame:
    """The square around a mask; its outermost hundredth does not set the size, so that single pixels do not."""
    rows, columns = np.nonzero(mask)
    (top, bottom), (left, right) = (np.quantile(axis, [0.005, 0.995]) for axis in (rows, columns))
    half = int(_ROOM * (max(bottom - top, right - left) + 1) / 2.0) + 1
    y, x = (round((low + high) / 2.0) for low, high in ((top, bottom), (left, right)))
    wide = np.pad(pixels, ((half, half), (half, half), (0, 0)), constant_values=_GREY)
    return np.asarray(wide[y : y + 2 * half, x : x + 2 * half])

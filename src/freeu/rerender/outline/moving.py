"""What moves in front of the background of a video, from its flow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.motion.measure import Flow
from freeu.motion.repair import Affine, Bools, Field, along_map, inside

_RIM = 16  # the background is looked for within the shorter side over this of the border
_MOVES = 1.0  # pixels by which what moves departs from the motion of the background
_HELD = 2.0  # times as many, at the edge of a hole, up to which it belongs to what moves
_NEAR = 7  # pixels across of the window in which motions are compared
_TRACED = 0.5  # share of traceable pixels around what moves
_LEAST = 24  # pixels of the smallest thing that moves, or that a motion is found by
_SMALL = 0.004  # the same as a share of the image


def moving(flow: Flow) -> Bools:
    """What moves in front of the background, (H, W).

    The background is what most of the border of the image shows: its motion is the affine map that most of the flow
    there follows (RANSAC), so the camera may pan, turn and zoom. What departs from it by more than a pixel moves. The
    middle of something that grows or turns rests; it is part of it if the flow around it departs little more.

    Args:
        flow: from the frame to another one, far enough for the motion to be some pixels.

    Returns:
        nothing where no such map is found, or where nothing moves.
    """
    import cv2

    apart = departure(flow)
    if apart is None:
        return np.zeros(flow.traceable.shape, bool)
    # What leaves the image cannot be traced, but follows its own motion.
    found = _coherent(apart > _MOVES, flow.traceable | ~inside(flow.forward), flow.forward)
    near = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= max(_LEAST, _SMALL * found.size)
    large[0] = False
    return _without_resting_holes(large[parts], apart)


def departure(flow: Flow) -> NDArray[np.float32] | None:
    """How far each pixel departs from the motion of the background, in pixels, (H, W); None if that is not found."""
    matrix = _background(flow)
    if matrix is None:
        return None
    return np.asarray(np.linalg.norm(flow.forward - along_map(matrix, flow.traceable.shape), axis=2), np.float32)


def followed(flow: Flow, moves: Bools) -> Bools:
    """The part of what moves in which the flow follows it, (H, W).

    At the edge of an object some pixels get the flow of the background: they depart from it by less than half as much
    as others near them.

    Args:
        flow: from the frame to another one.
        moves: what moves in the frame, (H, W).
    """
    import cv2

    apart = departure(flow)
    if apart is None:
        return np.zeros_like(moves)
    most = cv2.dilate(np.where(moves, apart, 0.0).astype(np.float32), np.ones((_NEAR, _NEAR), np.uint8))
    return np.asarray(moves & ((2.0 * apart >= most) | (most < _MOVES)))


def nearest(field: NDArray[np.float32], where: Bools) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A field (H, W, 2) extrapolated from where it is known: the value of the nearest known pixel, and how far that is.

    Args:
        field: values.
        where: the known pixels, (H, W), at least one.
    """
    import cv2

    away, label = cv2.distanceTransformWithLabels(
        (~where).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros((int(label.max()) + 1, field.shape[2]), np.float32)
    values[label[where]] = field[where]
    return values[label], np.asarray(away, np.float32)


def _background(flow: Flow) -> Affine | None:
    """The affine map of the border, by the pixels that can be traced."""
    import cv2

    height, width = flow.traceable.shape
    wide = max(1, min(height, width) // _RIM)
    rim = np.ones((height, width), bool)
    rim[wide:-wide, wide:-wide] = False
    y, x = np.nonzero(rim & flow.traceable)
    if len(x) < _LEAST:
        return None
    here = np.stack([x, y], axis=1).astype(np.float64)
    there = here + flow.forward[y, x]
    # OpenCV reseeds its random numbers in each call.
    matrix, _ = cv2.estimateAffine2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=_MOVES / 2, maxIters=500)
    return None if matrix is None else np.asarray(matrix, np.float64)


def _coherent(moves: Bools, traced: Bools, field: Field) -> Bools:
    """The pixels that move as those around them do, (H, W).

    An occluded background has any flow, and here and there it passes the check.
    """
    import cv2

    def mean(values: Any) -> Any:
        return cv2.blur(values, (_NEAR, _NEAR), borderType=cv2.BORDER_CONSTANT)

    found = moves & traced
    sure = found & (mean(traced.astype(np.float32)) > _TRACED)
    for _ in range(2):
        share = mean(sure.astype(np.float32))
        around = mean(field * sure[..., None]) / np.maximum(share, 1e-6)[..., None]
        alike = np.linalg.norm(field - around, axis=2) < _MOVES
        sure = sure & alike & (share * _NEAR**2 > _LEAST / 2)
    if not sure.any():
        return np.zeros_like(found)
    # At the edge of an object the mean has outliers in it.
    with_it, away = nearest(field, sure)
    return np.asarray(sure | (found & (away <= _NEAR // 2 + 1) & (np.linalg.norm(field - with_it, axis=2) < _MOVES)))


def _without_resting_holes(found: Bools, apart: NDArray[np.float32]) -> Bools:
    """With the holes whose edge hardly moves; a jump of motion at the edge means that the background shows through."""
    import cv2

    count, parts = cv2.connectedComponents((~found).astype(np.uint8), connectivity=4)
    border = set(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]).tolist())
    filled = found.copy()
    for number in set(range(1, count)) - border:
        hole = parts == number
        edge = (cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & found
        if edge.any() and np.median(apart[edge]) < _HELD * _MOVES:
            filled |= hole
    return filled

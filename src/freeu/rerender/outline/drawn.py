"""What a generated frame shows of an object beyond its outline in the source.

The flow of the source says that the background is there, and that it rests. So what is drawn beyond the outline of an
object would stay behind when the object moves. Here the generated object is found by its colours; what lies beyond the
outline is removed while the key frame is generated, and what is left of it moves with the object.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from freeu.motion.measure import Flow, Frame, one_thread
from freeu.motion.repair import Bools
from freeu.rerender.outline.moving import followed, nearest

_REACH = 0.25  # of the shorter side: how far beyond the outline the drawing is looked at
_SURE = 0.25  # share of what is outside the outline that is taken for background
_MARGIN = 64  # the shorter side over this: pixels beyond the outline that belong to the object's soft edge
_COLOURS = 5  # main colours of the object, and of the background
_ROUNDS = 3  # iterations of GrabCut
_SMOOTH = 0.06  # of the shorter side: standard deviation of the filter that continues the background


def reach(shape: tuple[int, ...]) -> int:
    """How far beyond the outline the drawing is looked at, in pixels, for images of ``shape`` (H, W, ...)."""
    return max(2, round(_REACH * min(shape[:2])))


def margin(shape: tuple[int, ...]) -> int:
    """How far beyond the outline the soft edge of an object extends, in pixels."""
    return max(1, round(min(shape[:2]) / _MARGIN))


def grown(area: Bools, by: int) -> Bools:
    """An area with all pixels up to so many pixels from it; negative: without those so near to its edge."""
    import cv2

    around = area if by < 0 else ~area
    away = cv2.distanceTransform(around.astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(away > -by if by < 0 else away <= by) if area.any() and not area.all() else area.copy()


def drawn_object(image: Frame, moves: Bools) -> Bools:
    """Where a generated frame shows what moves in the source, and its soft edge, (H, W).

    GrabCut (Rother, Kolmogorov & Blake 2004): well inside the outline is object, beyond ``reach`` is background, at
    least a quarter of what is outside, and between them the colours decide. It starts from the nearer of their main
    colours, since its own start takes all that is outside for background.

    Args:
        image: uint8 (H, W, 3).
        moves: what moves in the source frame, (H, W).
    """
    import cv2

    if not moves.any() or moves.all():
        return moves.copy()
    inner = grown(moves, -2 * margin(image.shape))
    known = inner if inner.any() else moves
    away = cv2.distanceTransform((~moves).astype(np.uint8), cv2.DIST_L2, 5)
    outer = away <= min(reach(image.shape), float(np.quantile(away[~moves], 1.0 - _SURE)))
    with one_thread():
        cv2.setRNGSeed(0)  # clusters start at random
        nearer = _apart(image, known) < _apart(image, ~outer)
        marks = np.where(moves | (outer & nearer), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        marks[known] = cv2.GC_FGD
        marks[~outer] = cv2.GC_BGD
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(image, marks, (0, 0, 0, 0), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    return grown(found | moves, margin(image.shape))


def _apart(image: Frame, where: Bools) -> NDArray[np.float32]:
    """How far each pixel's colour is from the nearest of the main colours of some pixels, in levels, (H, W)."""
    import cv2

    colours = image[where].astype(np.float32)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    count = min(_COLOURS, len(colours))
    _, _, centres = cv2.kmeans(colours, count, np.empty(0, np.int32), stop, 1, cv2.KMEANS_PP_CENTERS)
    return np.asarray(np.linalg.norm(image[..., None, :] - centres, axis=3).min(axis=2), np.float32)


def trimmed(image: Frame, moves: Bools) -> tuple[NDArray[np.float32], Bools]:
    """A generated frame without what lies beyond the outline: the background is continued there.

    Args:
        image: uint8 (H, W, 3).
        moves: what moves in the source frame, (H, W).

    Returns:
        the image, float32 (H, W, 3), 0..255, and which pixels changed, (H, W).
    """
    import cv2

    whole = drawn_object(image, moves)
    beyond = whole & ~grown(moves, margin(image.shape))
    values = image.astype(np.float32)
    if not beyond.any() or whole.all():
        return values, np.zeros_like(beyond)
    seen = (~whole).astype(np.float32)
    sigma = _SMOOTH * min(image.shape[:2])
    total = cv2.GaussianBlur(seen, (0, 0), sigma)[..., None]
    mean = values[~whole].mean(axis=0)
    behind = (cv2.GaussianBlur(values * seen[..., None], (0, 0), sigma) + 1e-3 * mean) / (total + 1e-3)
    return np.where(beyond[..., None], behind, values).astype(np.float32), beyond


def with_object(flow: Flow, moves: Bools, drawn: Bools) -> tuple[Flow, Bools]:
    """The flow to a generated key frame, by which what is drawn beyond the outline moves with the object.

    Around the object, a pixel takes the flow of the object's nearest pixel if that leads to something drawn. Any other
    pixel of the background that leads to something drawn is not traceable: the key frame does not show it.

    Args:
        flow: of the source, from a frame to the key frame.
        moves: what moves in the frame, (H, W).
        drawn: the object in the generated key frame, from ``drawn_object``, (H, W).

    Returns:
        the flow, and which pixels take that of the object, (H, W).
    """
    own = followed(flow, moves)
    if not own.any() or not drawn.any():
        return flow, np.zeros_like(moves)
    with_it, away = nearest(flow.forward, own)
    around = ~own & (away <= reach(moves.shape))
    carried = around & _closed(own | _at(drawn, with_it))
    hidden = ~own & ~carried & _at(drawn, flow.forward)
    field = np.where(carried[..., None], with_it, flow.forward)
    traceable = (flow.traceable | carried) & ~hidden
    return dataclasses.replace(flow, forward=field, traceable=traceable), carried


def _closed(area: Bools) -> Bools:
    """Without single pixels and cracks that do not belong to it."""
    import cv2

    return np.asarray(cv2.morphologyEx(area.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0)


def _at(area: Bools, field: NDArray[np.float32]) -> Bools:
    """Whether each pixel's flow leads into an area; outside the image it does not."""
    height, width = area.shape
    rows, columns = np.mgrid[:height, :width]
    x, y = np.rint(columns + field[..., 0]).astype(int), np.rint(rows + field[..., 1]).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.asarray(inside & area[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)])

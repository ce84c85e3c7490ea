"""Flow mended where there is nothing to follow: among a few motions, each area takes the one that explains it best.

Cartoon videos have flat areas and hard edges. There an estimator of dense flow is wrong by several pixels: inside
a flat area nothing tells it the motion, and at its edge it smooths over two. But most areas move by an affine map,
or nearly, and the estimate is right often enough to find these maps by consensus (RANSAC; Fischler & Bolles 1981).
Then each flat area as a whole, and each other pixel by a small window, takes the candidate with the least photometric
error, as in layered motion estimation (Wang & Adelson 1994) and FusionFlow (Lempitsky et al. 2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.motion.measure import Frame

Field = NDArray[np.float32]
"""Displacements in pixels, x to the right and y downwards, (H, W, 2)."""

Bools = NDArray[np.bool_]
Affine = NDArray[np.float64]
"""A map of pixels of one frame to pixels of another, (2, 3)."""

_FLAT = 6.0  # levels of gradient below which a pixel belongs to a flat area
_AREA = 12  # pixels of the least flat area that is taken as a whole
_EDGE = 3  # pixels that a flat area reaches towards an edge
_WINDOW = 5  # pixels across in which an edge is compared
_WORST = 40.0  # levels at which an error counts no further: it is an occlusion
_FITS = 6.0  # levels of mean error up to which one motion explains a flat area
_NEAR = 0.75  # pixels within which a point follows a map
_SCALES = 5.0  # most that a map enlarges or shrinks
_ROUNDS = 8  # of refinement
_SAME = 0.5  # pixels within which two maps are one
_MAPS = 5  # maps sought
_POINTS = 3000  # points they are sought among
_LEAST = 24  # points that a map must explain
_MOVED = 0.3  # levels by which a background must be better explained by motion than by rest
_GONE = 6.0  # levels that a background's pixel counts for if it left the image
_COVERED = 0.3  # the same where something comes to lie before it
_GROUND = 0.03  # share of the image above which a flat area at its rim is taken for background
_MEASURED = 0.4  # levels by which a measured flow must be better than a map


def affine_maps(flow: Field, trusted: Bools) -> list[Affine]:
    """The maps that much of a flow follows, the commonest first.

    Args:
        flow: (H, W, 2).
        trusted: where the flow is believed, (H, W).
    """
    import cv2

    y, x = np.nonzero(trusted)
    step = max(1, len(x) // _POINTS)
    y, x = y[::step], x[::step]
    here = np.stack([x, y], axis=1).astype(np.float64)
    there = here + flow[y, x]
    found: list[Affine] = []
    while len(found) < _MAPS and len(here) >= _LEAST:
        # OpenCV seeds its random numbers anew in each call.
        matrix, inliers = cv2.estimateAffine2D(
            here, there, method=cv2.RANSAC, ransacReprojThreshold=_NEAR, maxIters=500, confidence=0.995
        )
        if matrix is None or inliers.sum() < _LEAST:
            break
        if sane(np.asarray(matrix, np.float64)):
            found.append(np.asarray(matrix, np.float64))
        rest = inliers[:, 0] == 0
        here, there = here[rest], there[rest]
    return found


def along_map(matrix: Affine, shape: tuple[int, ...]) -> Field:
    """The flow of an affine map for frames of ``shape`` (H, W, ...)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    points = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    return np.asarray(points @ matrix.T - points[..., :2], np.float32)


def sane(matrix: Affine) -> bool:
    """Whether a map neither flattens nor blows up: scales of a fifth to five."""
    scales = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(scales.min() > 1.0 / _SCALES and scales.max() < _SCALES)


def inverse(matrix: Affine) -> Affine:
    """The map back."""
    return np.asarray(np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))[:2])


def distinct(maps: list[Affine], shape: tuple[int, ...]) -> list[Affine]:
    """Maps without those that differ from an earlier one by less than half a pixel at every corner of the image."""
    corners = np.array([[x, y, 1.0] for x in (0, shape[1] - 1) for y in (0, shape[0] - 1)])
    kept: list[Affine] = []
    for matrix in maps:
        if all(np.abs(corners @ (matrix - other).T).max() >= _SAME for other in kept):
            kept.append(matrix)
    return kept


def refined(matrix: Affine, target: Frame, reference: Frame, where: Bools) -> Affine:
    """A map moved so that the pixels it should explain fit best (Lucas & Kanade 1981; Gauss-Newton, Cauchy weights).

    Args:
        matrix: from target to reference, right to about a pixel.
        target, reference: uint8 (H, W, 3).
        where: the pixels, (H, W); those with gradient count.

    Returns:
        the map, or the given one where the search leads away or fits no better.
    """
    import cv2

    y, x = np.nonzero(where & (gradient(target) >= _FLAT))
    step = max(1, len(x) // _POINTS)
    y, x = y[::step], x[::step]
    if len(x) < _LEAST:
        return matrix
    soft = [cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 1.0) for frame in (target, reference)]
    slopes = [cv2.Sobel(soft[1], cv2.CV_32F, *order, ksize=3) / 8.0 for order in ((1, 0), (0, 1))]
    middle, points = np.array([x.mean(), y.mean()]), np.stack([x, y], axis=1).astype(np.float64)
    basis = np.column_stack([(points - middle) / 32.0, np.ones(len(x))])  # of like sizes, for the solver

    def read(values: Any, now: Affine) -> NDArray[np.float64]:
        there = (points @ now[:, :2].T + now[:, 2]).astype(np.float32)
        return np.asarray(cv2.remap(values, there[:, :1], there[:, 1:], cv2.INTER_LINEAR)[:, 0], np.float64)

    def misfit(now: Affine) -> float:
        return float(np.minimum(np.abs(read(soft[1], now) - soft[0][y, x]), _WORST).mean())

    now = matrix
    for _ in range(_ROUNDS):
        miss = soft[0][y, x] - read(soft[1], now)
        weight = 1.0 / (1.0 + np.square(miss / _FITS))
        across, down = (read(slope, now) for slope in slopes)
        slope = np.concatenate([basis[:, None] * across[..., None], basis[:, None] * down[..., None]], axis=2)
        normal = np.einsum("ncj,nc,nck->jk", slope, weight, slope) + 1e-3 * np.eye(6)
        change = np.linalg.solve(normal, np.einsum("ncj,nc->j", slope, weight * miss)).reshape(2, 3)
        linear = change[:, :2] / 32.0
        now = now + np.column_stack([linear, change[:, 2] - linear @ middle])
        if np.abs(change).max() < 0.005:
            break
    return now if sane(now) and misfit(now) < misfit(matrix) else matrix


def textured(frame: Frame) -> Bools:
    """Pixels that have something to follow: some gradient near them, (H, W)."""
    import cv2

    return np.asarray(cv2.dilate((gradient(frame) >= _FLAT).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def gradient(frame: Frame) -> Field:
    """Length of the gradient, the largest over the colours, in levels per pixel, (H, W)."""
    import cv2

    values = frame.astype(np.float32)
    across = cv2.Sobel(values, cv2.CV_32F, 1, 0, ksize=3) / 8.0
    down = cv2.Sobel(values, cv2.CV_32F, 0, 1, ksize=3) / 8.0
    return np.asarray(np.hypot(across, down).max(axis=2), np.float32)


def polished(maps: list[Affine], target: Frame, reference: Frame) -> list[Affine]:
    """Maps refined, each where it explains more than the others do, twice over; without those that became the same.

    Args:
        maps: from target to reference, right to about a pixel.
        target, reference: uint8 (H, W, 3).
    """
    for _ in range(2):
        if not maps:
            break
        errors = [_windowed(_error(target, reference, along_map(matrix, target.shape))) for matrix in maps]
        best = np.stack(errors).argmin(axis=0)
        better = [refined(matrix, target, reference, best == number) for number, matrix in enumerate(maps)]
        maps = distinct(better, target.shape)
    return maps


def chosen(target: Frame, reference: Frame, measured: list[Field], maps: list[Affine]) -> Field:
    """For each pixel the candidate that explains it best.

    Args:
        target, reference: uint8 (H, W, 3).
        measured: estimates of the flow from target to reference, at least one.
        maps: affine maps from target to reference; standing still is always added.

    Returns:
        (H, W, 2).
    """
    shape = target.shape
    fields = [np.zeros_like(measured[0]), *(along_map(matrix, shape) for matrix in maps), *measured]
    extra = np.array([0.0] * (1 + len(maps)) + [_MEASURED] * len(measured), np.float32)
    errors = np.stack([_error(target, reference, field) for field in fields])
    best = _settled(*_flat_areas(target), _locally(errors, extra), fields, errors, extra)
    return _taken(fields, best)


def _locally(errors: NDArray[np.float32], extra: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.asarray((np.stack([_windowed(error) for error in errors]) + extra[:, None, None]).argmin(axis=0))


def _taken(fields: list[Field], best: NDArray[np.intp]) -> Field:
    return np.asarray(np.take_along_axis(np.stack(fields), best[None, ..., None], axis=0)[0], np.float32)


def _settled(
    areas: NDArray[np.int32],
    count: int,
    best: NDArray[np.intp],
    fields: list[Field],
    errors: NDArray[np.float32],
    extra: NDArray[np.float32],
) -> NDArray[np.intp]:
    """The choice of each flat area as a whole; ``best`` elsewhere, and in areas that nothing explains.

    An area at the rim is taken for background: where what lies before it goes, it is covered, which tells nothing. Of
    what explains it alike it takes rest. Such areas come last, when the others are known.
    """
    if not count:
        return best
    sizes = np.bincount(areas.ravel(), minlength=count + 1)
    sums = np.stack([np.bincount(areas.ravel(), error.ravel(), minlength=count + 1) for error in errors])
    means = sums / np.maximum(sizes, 1) + extra[:, None]
    whole, fits = means.argmin(axis=0), means.min(axis=0) < _FITS
    fits[0] = False
    best = np.where(fits[areas], whole[areas], best)
    rim = set(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]).tolist()) - {0}
    rim = {area for area in rim if sizes[area] > _GROUND * areas.size}
    moved = extra + np.where(np.arange(len(extra)) > 0, _MOVED, 0.0)
    for number in sorted(rim, key=lambda area: -sizes[area]):
        own = areas == number
        covered = _landed(_taken(fields, best), ~own)
        y, x = np.nonzero(own)
        costs = []
        for field, error in zip(fields, errors, strict=True):
            there = np.rint(field[y, x] + np.stack([x, y], axis=1)).astype(int)
            gone = (there < 0).any(axis=1) | (there[:, 0] >= own.shape[1]) | (there[:, 1] >= own.shape[0])
            there[gone] = 0
            hidden = gone | covered[there[:, 1], there[:, 0]]
            costs.append(np.where(gone, _GONE, np.where(hidden, _COVERED, error[y, x])).mean())
        total = np.array(costs) + moved
        if total.min() < _FITS:
            best[own] = total.argmin()
    return best


def _landed(field: Field, given: Bools) -> Bools:
    """Pixels of the other frame that some given pixels go to, and their neighbours, (H, W)."""
    import cv2

    height, width = given.shape
    y, x = np.nonzero(given)
    there = np.rint(field[y, x] + np.stack([x, y], axis=1)).astype(int)
    there = there[((there >= 0) & (there < (width, height))).all(axis=1)]
    hit = np.zeros((height, width), np.uint8)
    hit[there[:, 1], there[:, 0]] = 1
    return np.asarray(cv2.dilate(hit, np.ones((3, 3), np.uint8)) > 0)


def _error(target: Frame, reference: Frame, field: Field) -> Field:
    """Mean absolute difference over the colours in levels, at most ``_WORST``, which it is out of the image."""
    error = np.minimum(np.abs(sampled(reference.astype(np.float32), field) - target).mean(axis=2), _WORST)
    error[~inside(field)] = _WORST
    return np.asarray(error, np.float32)


def _windowed(error: Field) -> Any:
    import cv2

    return cv2.blur(error, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REPLICATE)


def sampled(values: Field, flow: Field) -> Field:
    """Values (H, W, ...) read where a flow leads, bilinear; beyond the rim the rim's."""
    import cv2

    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)


def inside(field: Field) -> Bools:
    """Where a flow stays in the image, (H, W)."""
    height, width = field.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    x, y = columns + field[..., 0], rows + field[..., 1]
    return np.asarray((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5))


def _flat_areas(frame: Frame) -> tuple[NDArray[np.int32], int]:
    """Connected pixels of little gradient, numbered from 1 (0 is none), and how many areas there are."""
    import cv2

    flat = (gradient(frame) < _FLAT).astype(np.uint8)
    _, areas, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= _AREA
    large[0] = False
    number = np.asarray((np.cumsum(large) * large)[areas], np.int32)
    # The gradient beside an edge begins before the edge does: pixels of the area's own colour belong to it.
    away, label = cv2.distanceTransformWithLabels(
        (number == 0).astype(np.uint8), cv2.DIST_L1, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    if not large.any():
        return number, 0
    y, x = np.nonzero(number)
    place = np.zeros((int(label.max()) + 1, 2), np.intp)
    place[label[y, x]] = np.stack([y, x], axis=1)
    near_y, near_x = place[label].transpose(2, 0, 1)
    alike = np.abs(frame[near_y, near_x].astype(np.int16) - frame).max(axis=2) < _FLAT
    joins = (number == 0) & (away <= _EDGE) & alike
    return np.where(joins, number[near_y, near_x], number), int(large.sum())

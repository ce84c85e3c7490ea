"""Correct optical flow in textureless areas: among a few motions, each area takes the one that explains it best.

Cartoon videos have flat areas and hard edges. There a dense flow estimator is wrong by several pixels: a flat area
gives it no information, and across an edge it smooths two motions. But most areas move by a nearly affine map, and the
estimate is right often enough to find these maps by RANSAC (Fischler & Bolles 1981). Then each flat area as a whole,
and each other pixel with a small window, takes the candidate with the least photometric error, as in layered motion
estimation (Wang & Adelson 1994) and FusionFlow (Lempitsky et al. 2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.motion.measure import Frame, sampled

Field = NDArray[np.float32]
"""Displacements in pixels, x to the right and y downwards, (H, W, 2)."""

Bools = NDArray[np.bool_]
Affine = NDArray[np.float64]
"""A map of pixels of one frame to pixels of another, (2, 3)."""

_FLAT = 6.0  # levels of gradient below which a pixel belongs to a flat area
_AREA = 12  # pixels of the smallest flat area that is treated as a whole
_EDGE = 3  # pixels that a flat area is extended towards an edge
_WINDOW = 5  # pixels across of the window in which an edge is compared
_WORST = 40.0  # levels at which an error is capped: it is an occlusion
_FITS = 6.0  # levels of mean error up to which one motion explains a flat area
_NEAR = 0.75  # pixels within which a point is an inlier of a map
_SCALES = 5.0  # largest factor by which a map enlarges or shrinks
_ROUNDS = 8  # iterations of refinement
_SAME = 0.5  # pixels within which two maps are the same
_MAPS = 5  # maximum number of maps
_POINTS = 3000  # points used to find them
_LEAST = 24  # inliers that a map must have
_MOVED = 0.3  # levels by which a motion must explain a background better than rest
_GONE = 6.0  # error, in levels, of a background pixel that left the image
_COVERED = 0.3  # the same of one that is occluded
_GROUND = 0.03  # share of the image above which a flat area at the border is taken for background
_MEASURED = 0.4  # levels by which a measured flow must be better than a map


def affine_maps(flow: Field, trusted: Bools) -> list[Affine]:
    """The affine maps that large parts of a flow follow, the most common first.

    Args:
        flow: (H, W, 2).
        trusted: where the flow is reliable, (H, W).
    """
    import cv2

    y, x = np.nonzero(trusted)
    step = max(1, len(x) // _POINTS)
    y, x = y[::step], x[::step]
    here = np.stack([x, y], axis=1).astype(np.float64)
    there = here + flow[y, x]
    found: list[Affine] = []
    while len(found) < _MAPS and len(here) >= _LEAST:
        # OpenCV reseeds its random numbers in each call.
        matrix, inliers = cv2.estimateAffine2D(
            here, there, method=cv2.RANSAC, ransacReprojThreshold=_NEAR, maxIters=500, confidence=0.995
        )
        if matrix is None or inliers.sum() < _LEAST:
            break
        if is_plausible(np.asarray(matrix, np.float64)):
            found.append(np.asarray(matrix, np.float64))
        rest = inliers[:, 0] == 0
        here, there = here[rest], there[rest]
    return found


def along_map(matrix: Affine, shape: tuple[int, ...]) -> Field:
    """The flow of an affine map for frames of ``shape`` (H, W, ...)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    points = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    return np.asarray(points @ matrix.T - points[..., :2], np.float32)


def is_plausible(matrix: Affine) -> bool:
    """Whether a map scales by a fifth to five in every direction."""
    scales = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(scales.min() > 1.0 / _SCALES and scales.max() < _SCALES)


def inverse(matrix: Affine) -> Affine:
    """The inverse map."""
    return np.asarray(np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))[:2])


def distinct(maps: list[Affine], shape: tuple[int, ...]) -> list[Affine]:
    """Maps without those that are within half a pixel of an earlier one at every corner of the image."""
    corners = np.array([[x, y, 1.0] for x in (0, shape[1] - 1) for y in (0, shape[0] - 1)])
    kept: list[Affine] = []
    for matrix in maps:
        if all(np.abs(corners @ (matrix - other).T).max() >= _SAME for other in kept):
            kept.append(matrix)
    return kept


def refined(matrix: Affine, target: Frame, reference: Frame, where: Bools) -> Affine:
    """A map refined on the pixels that it should explain (Lucas & Kanade 1981; Gauss-Newton, Cauchy weights).

    Args:
        matrix: from target to reference, accurate to about a pixel.
        target, reference: uint8 (H, W, 3).
        where: the pixels, (H, W); those with a gradient are used.

    Returns:
        the refined map, or the given one if the iteration diverges or fits no better.
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
    basis = np.column_stack([(points - middle) / 32.0, np.ones(len(x))])  # of similar scale, for the solver

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
    return now if is_plausible(now) and misfit(now) < misfit(matrix) else matrix


def textured(frame: Frame) -> Bools:
    """Pixels with a gradient at or next to them, (H, W)."""
    import cv2

    return np.asarray(cv2.dilate((gradient(frame) >= _FLAT).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def gradient(frame: Frame) -> Field:
    """Length of the gradient, the largest of the channels, in levels per pixel, (H, W)."""
    import cv2

    values = frame.astype(np.float32)
    across = cv2.Sobel(values, cv2.CV_32F, 1, 0, ksize=3) / 8.0
    down = cv2.Sobel(values, cv2.CV_32F, 0, 1, ksize=3) / 8.0
    return np.asarray(np.hypot(across, down).max(axis=2), np.float32)


def polished(maps: list[Affine], target: Frame, reference: Frame) -> list[Affine]:
    """Maps refined twice, each on the pixels that it explains best; without duplicates.

    Args:
        maps: from target to reference, accurate to about a pixel.
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
    """The candidate that explains each pixel best.

    Args:
        target, reference: uint8 (H, W, 3).
        measured: estimates of the flow from target to reference, at least one.
        maps: affine maps from target to reference; no motion is always a candidate.

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
    """The choice of each flat area as a whole; ``best`` elsewhere, and in areas that no candidate explains.

    A large area at the border is taken for background: pixels that something in front of it occludes do not count
    against a candidate, and of equal candidates it takes no motion. Backgrounds are decided last, when the motion in
    front of them is known.
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
    """Pixels of the other frame at which the given pixels end, and their neighbours, (H, W)."""
    import cv2

    height, width = given.shape
    y, x = np.nonzero(given)
    there = np.rint(field[y, x] + np.stack([x, y], axis=1)).astype(int)
    there = there[((there >= 0) & (there < (width, height))).all(axis=1)]
    hit = np.zeros((height, width), np.uint8)
    hit[there[:, 1], there[:, 0]] = 1
    return np.asarray(cv2.dilate(hit, np.ones((3, 3), np.uint8)) > 0)


def _error(target: Frame, reference: Frame, field: Field) -> Field:
    """Mean absolute difference over the channels in levels, capped at ``_WORST``, its value outside the image."""
    error = np.minimum(np.abs(sampled(reference.astype(np.float32), field) - target).mean(axis=2), _WORST)
    error[~inside(field)] = _WORST
    return np.asarray(error, np.float32)


def _windowed(error: Field) -> Any:
    import cv2

    return cv2.blur(error, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REPLICATE)


def inside(field: Field) -> Bools:
    """Where a flow ends in the image, (H, W)."""
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
    # The gradient starts a few pixels before the edge: pixels there that have the colour of the area belong to it.
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

"""Optical flow between two frames, near or far, and which pixels are occluded.

Everything is numpy, float32, and deterministic (OpenCV on one thread).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.motion import repair as repair
from freeu.motion.measure import (
    Flow,
    Frame,
    check_frame,
    check_frames,
    check_pair,
    dense_flow,
    one_thread,
    returns,
    sampled,
)
from freeu.motion.repair import Bools, Field

FlowEstimator = Callable[[Any, Any], Flow]
"""Flow from the first of two frames, uint8 (H, W, 3), to the second: ``steady_flow``, or another with its contract."""


def steady_flow(target: Any, reference: Any, start: Flow | None = None) -> Flow:
    """Flow from ``target`` to ``reference`` that is also right in flat areas and at hard edges.

    Dense inverse search (DIS; Kroeger et al. 2016) in both directions, each corrected by ``repair``. Traceable is what
    passes the forward-backward check of ``optical_flow``.

    Args:
        target, reference: frames, uint8 (H, W, 3), of one size, sides of at least 12 pixels.
        start: an initial estimate, such as the flow of the frame before; without it, motion of many pixels is not
            found.

    Raises:
        FreeUValueError: other frames; an initial estimate of another size; OpenCV is not installed.
    """
    first, second = check_pair(target, reference)
    if start is not None and start.forward.shape[:2] != first.shape[:2]:
        raise FreeUValueError(f"a flow of {start.forward.shape[:2]} does not fit frames of {first.shape[:2]}")
    with one_thread():
        if start is None:
            there, back = [dense_flow(first, second)], [dense_flow(second, first)]
        else:
            guess, guess_back = start.forward, inverted(start.forward)
            there = [dense_flow(first, second, guess), guess]
            back = [dense_flow(second, first, guess_back), guess_back]
        found = [*_maps(first, there, back), *map(repair.inverse, _maps(second, back, there))]
        maps = repair.polished(repair.distinct(found, first.shape), first, second)
        forward = repair.chosen(first, second, there, maps)
        backward = repair.chosen(second, first, back, [repair.inverse(matrix) for matrix in maps])
        return Flow(forward, consistent(forward, backward))


def _maps(frame: Frame, fields: list[Field], others: list[Field]) -> list[repair.Affine]:
    followed = repair.textured(frame)
    pairs = zip(fields, others, strict=True)
    return [found for field, other in pairs for found in repair.affine_maps(field, followed & consistent(field, other))]


def consistent(forward: Field, backward: Field) -> Bools:
    """The forward-backward check: where ``backward`` returns what ``forward`` displaced, (H, W).

    |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5 (Sundaram, Brox & Keutzer 2010), and within half a pixel of the image.
    """
    return np.asarray(repair.inside(forward) & returns(forward, backward))


def inverted(forward: Field) -> Field:
    """An approximate backward flow: each vector is negated and moved to its end point; holes take the nearest one."""
    import cv2

    height, width = forward.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    x, y = (np.rint(axis + forward[..., number]).astype(int) for number, axis in enumerate((columns, rows)))
    hits = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    back = np.zeros_like(forward)
    # The fastest pixels are written last: of two layers the moving one is more often in front.
    order = np.argsort(np.square(forward[hits]).sum(axis=1), kind="stable")
    back[y[hits][order], x[hits][order]] = -forward[hits][order]
    empty = np.ones((height, width), np.uint8)
    empty[y[hits], x[hits]] = 0
    if empty.all() or not empty.any():
        return back
    _, nearest = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    known = np.zeros((int(nearest.max()) + 1, 2), np.float32)
    known[nearest[empty == 0]] = back[empty == 0]
    return np.asarray(known[nearest], np.float32)


class Tracker:
    """Flow from successive frames of a video to one reference frame.

    Args:
        reference: uint8 (H, W, 3).
        estimator: gives the flow from each frame directly to the reference. None: ``steady_flow`` initialised with the
            flow of the frame before, which follows motion across the whole image.
    """

    def __init__(self, reference: Any, estimator: FlowEstimator | None = None) -> None:
        self.reference = check_frame(reference)
        self._estimator = estimator
        self._last = self.reference
        self._flow = Flow(np.zeros((*self.reference.shape[:2], 2), np.float32), np.ones(self.reference.shape[:2], bool))

    def follow(self, frame: Any) -> Flow:
        """The flow from the next frame (in order, away from the reference) to the reference.

        Raises:
            FreeUValueError: as the estimator.
        """
        if self._estimator is not None:
            return self._estimator(frame, self.reference)
        step = steady_flow(frame, self._last)
        if self._last is self.reference:
            self._flow = step
        else:
            start = step.forward + sampled(self._flow.forward, step.forward)
            self._flow = steady_flow(frame, self.reference, Flow(start, step.traceable))
        self._last = check_frame(frame)
        return self._flow


def along(frames: Iterable[Any], estimator: FlowEstimator | None = None) -> Flow:
    """Flow from the first frame to the last, tracked through all frames between.

    Args:
        frames: uint8 (H, W, 3), of one size, at least two.
        estimator: as of ``Tracker``.

    Raises:
        FreeUValueError: fewer frames, or not frames of one size.
    """
    found = check_frames(frames)
    if estimator is not None:
        return estimator(found[0], found[-1])
    tracker = Tracker(found[-1])
    for frame in reversed(found[1:-1]):
        tracker.follow(frame)
    return tracker.follow(found[0])


def at_latent(flow: Flow, factor: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A flow at the resolution of latents.

    Args:
        flow: of (H, W), both divisible by ``factor``.
        factor: of the VAE, such as 4 or 8.

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
    return mean.astype(np.float32), np.asarray(flow.traceable.reshape(blocks).all(axis=(1, 3)))

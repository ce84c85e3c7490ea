"""Where the pixels of one frame lie in another, near or far, and where they cannot be seen there.

Everything is numpy, float32, and the same on every run (OpenCV on one thread).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.motion import repair as repair
from freeu.motion.measure import Flow, Frame, check_clip, check_frame, luma
from freeu.motion.repair import Bools, Field

FlowEstimator = Callable[[Any, Any], Flow]
"""Flow from the first of two frames, uint8 (H, W, 3), to the second: ``steady_flow``, or another with its contract."""

_LEAST_SIDE = 12  # DIS refuses less


def steady_flow(target: Any, reference: Any, start: Flow | None = None) -> Flow:
    """From each pixel of ``target`` to where it lies in ``reference``, right in flat areas and at hard edges too.

    Dense inverse search (DIS; Kroeger et al. 2016) both ways, each mended by ``flow_repair``. Traceable is what the two
    lead home, by the rule of ``freeu.motion.measure.optical_flow``.

    Args:
        target, reference: frames, uint8 (H, W, 3), of one size, sides of at least 12 pixels.
        start: a guess, such as the flow of the frame before; motion of many pixels is not found without.

    Raises:
        FreeUValueError: other frames; a guess of another size; OpenCV is not installed.
    """
    need("video", "cv2")
    first, second = check_clip((target, reference))
    if min(first.shape[:2]) < _LEAST_SIDE:
        raise FreeUValueError(
            f"flow needs frames of at least {_LEAST_SIDE}x{_LEAST_SIDE}, got {first.shape[1]}x{first.shape[0]}"
        )
    if start is not None and start.forward.shape[:2] != first.shape[:2]:
        raise FreeUValueError(f"a flow of {start.forward.shape[:2]} does not fit frames of {first.shape[:2]}")
    with _one_thread():
        if start is None:
            there, back = [_dense(first, second)], [_dense(second, first)]
        else:
            guess, guess_back = start.forward, inverted(start.forward)
            there, back = [_dense(first, second, guess), guess], [_dense(second, first, guess_back), guess_back]
        found = [*_maps(first, there, back), *map(repair.inverse, _maps(second, back, there))]
        maps = repair.polished(repair.distinct(found, first.shape), first, second)
        forward = repair.chosen(first, second, there, maps)
        backward = repair.chosen(second, first, back, [repair.inverse(matrix) for matrix in maps])
        return Flow(forward, comes_home(forward, backward))


def _dense(first: Frame, second: Frame, start: Field | None = None) -> Field:
    import cv2

    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [np.round(luma(frame)).astype(np.uint8) for frame in (first, second)]
    guess = None if start is None else start.astype(np.float32).copy()
    return np.asarray(search.calc(grey[0], grey[1], guess), dtype=np.float32)


def _maps(frame: Frame, fields: list[Field], others: list[Field]) -> list[repair.Affine]:
    followed = repair.textured(frame)
    pairs = zip(fields, others, strict=True)
    return [found for field, other in pairs for found in repair.affine_maps(field, followed & comes_home(field, other))]


def comes_home(forward: Field, backward: Field) -> Bools:
    """Where ``backward`` leads home what ``forward`` displaced (Sundaram, Brox & Keutzer 2010), (H, W).

    |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5, and within the image.
    """
    home = repair.sampled(backward, forward)
    missed = np.square(forward + home).sum(axis=2)
    size = np.square(forward).sum(axis=2) + np.square(home).sum(axis=2)
    return np.asarray(repair.inside(forward) & (missed < 0.01 * size + 0.5))


def inverted(forward: Field) -> Field:
    """The flow back, roughly: each pixel's is put where it leads; pixels that none leads to take the nearest."""
    import cv2

    height, width = forward.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    x, y = (np.rint(axis + forward[..., number]).astype(int) for number, axis in enumerate((columns, rows)))
    hits = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    back = np.zeros_like(forward)
    # What moves most is put last: of two layers the moving one is more often in front.
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


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV's results depend on the number of threads."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


class Tracker:
    """Flow from one frame after another of a video to one reference.

    Args:
        reference: uint8 (H, W, 3).
        estimator: asked for the flow from each frame straight to the reference. None: ``steady_flow``, started from the
            flow of the frame before, which follows motion as far as the image is wide.
    """

    def __init__(self, reference: Any, estimator: FlowEstimator | None = None) -> None:
        self.reference = check_frame(reference)
        self._estimator = estimator
        self._last = self.reference
        self._flow = Flow(np.zeros((*self.reference.shape[:2], 2), np.float32), np.ones(self.reference.shape[:2], bool))

    def follow(self, frame: Any) -> Flow:
        """The flow from the next frame, going away from the reference, to the reference.

        Raises:
            FreeUValueError: as the estimator.
        """
        if self._estimator is not None:
            return self._estimator(frame, self.reference)
        step = steady_flow(frame, self._last)
        if self._last is self.reference:
            self._flow = step
        else:
            start = step.forward + repair.sampled(self._flow.forward, step.forward)
            self._flow = steady_flow(frame, self.reference, Flow(start, step.traceable))
        self._last = check_frame(frame)
        return self._flow


def along(frames: Iterable[Any], estimator: FlowEstimator | None = None) -> Flow:
    """From the first frame to the last, found through all between.

    Args:
        frames: uint8 (H, W, 3), of one size, at least two.
        estimator: as of ``Tracker``.

    Raises:
        FreeUValueError: fewer frames, or not frames of one size.
    """
    clip = check_clip(frames)
    if estimator is not None:
        return estimator(clip[0], clip[-1])
    tracker = Tracker(clip[-1])
    for frame in reversed(clip[1:-1]):
        tracker.follow(frame)
    return tracker.follow(clip[0])


def between(target: Any, reference: Any, estimator: FlowEstimator = steady_flow) -> Flow:
    """From each pixel of ``target`` to where it lies in ``reference``.

    ``warp_back(reference, flow)`` is then the reference brought to the target's place. ``traceable`` is false where the
    pixel cannot be seen in the reference: covered there, out of the image, or not found.

    Args:
        target, reference: frames, uint8 (H, W, 3), of one size.
        estimator: how flow is found.

    Raises:
        FreeUValueError: other frames; the estimator's package is missing.
    """
    return estimator(target, reference)


def at_latent(flow: Flow, factor: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A flow for latents ``factor`` times smaller than the frames.

    Args:
        flow: of (H, W), both divisible by ``factor``.
        factor: of the autoencoder, 4 or 8 for instance.

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

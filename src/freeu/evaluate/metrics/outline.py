"""Whether a re-rendered video shows an object where its source does, and nothing of it elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.motion.measure import Floats, Frame, check_frames

_BAND = 32  # the band around the outline that does not count is the shorter side over this
_LOW, _HIGH = 100, 200  # thresholds of the gradient, 8-bit scale, of the published Canny ControlNets


def residue(frames: Iterable[Any], objects: Any, band: int | None = None) -> float | None:
    """What a video shows of an object where the source has none: trails, ghosts, and what exceeds its outline.

    sqrt(mean (x_t(p) - b_t)^2) over all frames t, the pixels p beyond a band around the object, and the colours; b_t,
    the background of frame t, is the median colour beyond the band. Mottling of the background counts too. A video
    without any object has none, so look at ``edge_agreement`` beside it.

    Args:
        frames: uint8 (T, H, W, 3), at least two; of a plain background.
        objects: where the object is in the source, bool (T, H, W).
        band: pixels around the object that do not count; None: a 32nd of the shorter side, at least 1.

    Returns:
        levels, 0..255; None if no pixel lies beyond the band.

    Raises:
        FreeUValueError: other frames, or masks that do not fit them; OpenCV is not installed.

    >>> import numpy as np
    >>> frames, objects = np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 32, 32), bool)
    >>> objects[:, 4:12, 4:12] = True
    >>> frames[objects] = 200
    >>> residue(frames, objects)
    0.0
    >>> frames[:, 20:28, 20:28] = 200  # 64 of the 928 pixels beyond the band
    >>> round(residue(frames, objects), 1)
    52.5
    """
    found = check_frames(frames)
    masks = np.asarray(objects)
    if masks.dtype != bool or masks.shape != (len(found), *found[0].shape[:2]):
        raise FreeUValueError(
            f"the masks of {len(found)} frames of {found[0].shape[:2]} must be bool of shape (frames, height, width), "
            f"got {masks.dtype} {masks.shape}"
        )
    wide = max(1, min(masks.shape[1:]) // _BAND) if band is None else band
    energy, count = np.sum([_beyond(frame, mask, wide) for frame, mask in zip(found, masks, strict=True)], axis=0)
    return float(np.sqrt(energy / count)) if count else None


def _beyond(frame: Frame, mask: NDArray[np.bool_], band: int) -> tuple[float, int]:
    """Sum of the squared differences from the background beyond the band, and how many values they are."""
    need("video", "cv2")
    import cv2

    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    values = frame[cv2.dilate(mask.astype(np.uint8), around) == 0].astype(np.float64)
    return (float(np.square(values - np.median(values, axis=0)).sum()), values.size) if len(values) else (0.0, 0)


def edge_agreement(frames: Iterable[Any], source: Iterable[Any], within: int = 2) -> Floats:
    """How well the edges of a video agree with those of its source, frame by frame.

    The harmonic mean of two shares: of the video's edges that lie within some pixels of one of the source, and the
    other way round; edges are those of Canny's detector. Over time it falls if something stays behind.

    Args:
        frames, source: uint8 (T, H, W, 3) of the same shape, at least two.
        within: pixels, along rows and columns, by which an edge may lie beside the other.

    Returns:
        (T,), 0..1; without edges in a frame it is 1 if the other has none, else 0.

    Raises:
        FreeUValueError: other frames, or videos of two lengths or sizes; OpenCV is not installed.

    >>> import numpy as np
    >>> frames = np.zeros((2, 32, 32, 3), np.uint8)
    >>> frames[:, 8:24, 8:24] = 200
    >>> edge_agreement(frames, frames).tolist()
    [1.0, 1.0]
    """
    need("video", "cv2")
    found, wanted = check_frames(frames), check_frames(source)
    if len(found) != len(wanted) or found[0].shape != wanted[0].shape:
        sizes = [f"{len(video)} frames of {video[0].shape[1]}x{video[0].shape[0]}" for video in (found, wanted)]
        raise FreeUValueError(f"a video and its source must have one length and size, got {' and '.join(sizes)}")
    return np.array([_agreement(a, b, within) for a, b in zip(found, wanted, strict=True)])


def _agreement(first: Frame, second: Frame, within: int) -> float:
    import cv2

    edges = [cv2.Canny(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), _LOW, _HIGH) > 0 for frame in (first, second)]
    if not edges[0].any() or not edges[1].any():
        return float(edges[0].any() == edges[1].any())
    block = np.ones((2 * within + 1, 2 * within + 1), np.uint8)
    near = [cv2.dilate(found.astype(np.uint8), block) > 0 for found in edges]
    shares = float(near[1][edges[0]].mean()), float(near[0][edges[1]].mean())
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0

"""Features of whole videos, for Frechet and kernel distances between sets of videos (see ``distance``).

These are not FVD (Unterthiner et al. 2018): FVD uses I3D features, which no package provides. They are features of an
image judge, pooled over the frames, so do not compare these values with published ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.distance import Floats, features_of, frechet_distance, kernel_distance

NAMES = {"kid": "kernel_video_distance", "fid": "frechet_video_distance", "fid_limit": "frechet_video_limit"}
"""Names of the distances of ``distance`` for features of videos."""


def video_features(features: Any) -> Floats:
    """One vector for a video: mean, drift and frame-to-frame change of its frames' features, concatenated.

    The mean over frames; the mean of the later half minus that of the earlier (the middle frame of an odd number counts
    in neither), which shows the direction of change; and the mean absolute difference of neighbouring frames, which
    shows jumps and flicker. The rhythm of a motion is not captured.

    Args:
        features: of the frames in order, (T, d), T at least 2.

    Returns:
        shape (3 d,), float64.

    Raises:
        FreeUValueError: fewer than two frames, or values that are not finite.

    >>> video_features([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])  # mean, drift and change of two features
    array([1.5, 1. , 2. , 0. , 1. , 0. ])
    """
    array = features_of("the video", features)
    half = len(array) // 2
    drift = array[-half:].mean(axis=0) - array[:half].mean(axis=0)
    return np.concatenate([array.mean(axis=0), drift, np.abs(np.diff(array, axis=0)).mean(axis=0)])


def frechet_video_distance(x: Any, y: Any) -> float:
    """``frechet_distance`` between two sets of videos, on ``video_features``; biased upwards as that is.

    Args:
        x, y: features of frames, one (T, d) for each video; lengths T may differ, d may not; at least two videos each.

    Raises:
        FreeUValueError: videos that do not fit together, or too few.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> videos = [random.normal(size=(8, 4)) for _ in range(50)]
    >>> round(frechet_video_distance(videos, videos), 6)
    0.0
    >>> frechet_video_distance(videos, [video + 1 for video in videos]) > 3.9  # the mean of each of 4 features
    True
    """
    return frechet_distance(_stacked(x), _stacked(y))


def kernel_video_distance(x: Any, y: Any) -> float:
    """``kernel_distance`` between two sets of videos on ``video_features``; arguments as ``frechet_video_distance``.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> one, other, moved = (
    ...     [random.normal(size=(8, 4)) + shift for _ in range(50)] for shift in (0, 0, 1)
    ... )
    >>> kernel_video_distance(one, other) < kernel_video_distance(one, moved)
    True
    """
    return kernel_distance(_stacked(x), _stacked(y))


def _stacked(videos: Any) -> Floats:
    vectors = [video_features(features) for features in videos]
    if len({len(vector) for vector in vectors}) > 1:
        raise FreeUValueError("all videos must come from the same features")
    return np.array(vectors)

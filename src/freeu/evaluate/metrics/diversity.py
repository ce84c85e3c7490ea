"""How different the images of one prompt are: FreeU and guidance can reduce it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.distance import Floats, features_of
from freeu.evaluate.metrics.statistics import pixels

if TYPE_CHECKING:
    from PIL.Image import Image


def _cosines(features: Any) -> Floats:
    array = features_of("the set", features)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not lengths.all():
        raise FreeUValueError("a feature vector of zeros has no direction")
    unit = array / lengths
    return np.asarray(unit @ unit.T)


def mean_distance(features: Any) -> float:
    """Mean of 1 - cosine over all pairs of different images.

    Args:
        features: of the seeds of one prompt, shape (n, d), n at least 2.

    Returns:
        a number in 0..2; 0 if all point the same way.

    Raises:
        FreeUValueError: fewer than two, values that are not finite, or a vector of zeros.

    >>> import numpy as np
    >>> mean_distance(np.eye(3))
    1.0
    """
    cosines = _cosines(features)
    n = len(cosines)
    return float(max(0.0, 1.0 - (cosines.sum() - np.trace(cosines)) / (n * (n - 1))))


def vendi_score(features: Any) -> float:
    """The effective number of different images (Vendi score, Friedman & Dieng 2023, Eq. 1), cosine kernel.

    exp of the Shannon entropy of the eigenvalues of K / n.

    Args:
        features: of the seeds of one prompt, shape (n, d), n at least 2.

    Returns:
        a number in 1..n: 1 if all are the same, n if all are orthogonal. It grows with n: compare equal n only.

    Raises:
        FreeUValueError: as ``mean_distance``.

    >>> import numpy as np
    >>> round(vendi_score(np.eye(3)), 6), round(vendi_score(np.ones((3, 2))), 6)
    (3.0, 1.0)
    """
    cosines = _cosines(features)
    values = np.linalg.eigvalsh(cosines / len(cosines))
    values = values[values > 1e-15]
    return float(np.exp(-(values * np.log(values)).sum()))


def pixel_diversity(images: Sequence[Image | Any]) -> float:
    """Mean over all pairs of the root-mean-square difference of their pixels.

    Args:
        images: of the seeds of one prompt, at least two of one size; see ``statistics.pixels``.

    Returns:
        a number in 0..1; 1 for black against white.

    Raises:
        FreeUValueError: fewer than two images, or different sizes.

    >>> import numpy as np
    >>> black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    >>> pixel_diversity([black, black]), pixel_diversity([black, white]) > 0.0
    (0.0, True)
    """
    arrays = [pixels(image) for image in images]
    if len(arrays) < 2:
        raise FreeUValueError(f"diversity needs at least 2 images, got {len(arrays)}")
    if len({array.shape for array in arrays}) > 1:
        sizes = sorted({f"{array.shape[1]}x{array.shape[0]}" for array in arrays})
        raise FreeUValueError(f"images of one prompt must have one size, got {', '.join(sizes)}")
    found = [np.sqrt(((a - b) ** 2).mean()) for index, a in enumerate(arrays) for b in arrays[index + 1 :]]
    return float(np.mean(found))

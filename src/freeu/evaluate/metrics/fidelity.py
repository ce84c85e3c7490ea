"""How much images look like one subject (DreamBooth, Ruiz et al. 2023, section 4.1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.distance import Floats, features_of


def subject_fidelity(images: Any, examples: Any) -> Floats:
    """Mean cosine between the features of an image and those of each real image of the subject.

    With CLIP features it is the paper's CLIP-I, with DINO features its DINO score. The scale has no fixed ends: compare
    it with the score of other real images of the subject (upper end) and of images of the class (lower end).

    Args:
        images: features of generated images, shape (n, d).
        examples: features of the real ones, shape (m, d).

    Returns:
        shape (n,), -1..1.

    Raises:
        FreeUValueError: no features, or of different widths.

    >>> import numpy as np
    >>> subject_fidelity(np.eye(2), np.eye(2)[:1])
    array([1., 0.])
    """
    a, b = features_of("the images", images, 1), features_of("the examples", examples, 1)
    if a.shape[1] != b.shape[1]:
        raise FreeUValueError(f"features must come from one judge, got widths {a.shape[1]} and {b.shape[1]}")
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12) for rows in (a, b)]
    return np.asarray((unit[0] @ unit[1].T).mean(axis=1))

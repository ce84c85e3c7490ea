"""Edges of images, as ControlNets for "canny" want them, and how well two images share them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LOW, HIGH = 100, 200
"""Thresholds of the gradient's size, 8-bit scale: those of the published canny ControlNets."""


def canny(image: Image.Image, low: int = LOW, high: int = HIGH) -> NDArray[np.bool_]:
    """Where Canny's detector finds edges in an image: (height, width)."""
    import cv2

    found = cv2.Canny(np.asarray(image.convert("L")), low, high)
    return np.asarray(found > 0)


def as_image(edges: NDArray[np.bool_]) -> Image.Image:
    """Edges as the image that a ControlNet is given: white on black, RGB."""
    return Image.fromarray(edges.astype(np.uint8) * 255).convert("RGB")


def agreement(found: NDArray[np.bool_], asked: NDArray[np.bool_], within: int = 2) -> float:
    """How well edges agree, 0..1: the harmonic mean of the shares that lie within some pixels of the other's.

    Args:
        found, asked: edges, (height, width).
        within: pixels, along rows and columns, by which an edge may lie beside the other.
    """
    if not found.any() or not asked.any():
        return float(found.any() == asked.any())
    import cv2

    block = np.ones((2 * within + 1, 2 * within + 1), np.uint8)
    near_asked, near_found = (cv2.dilate(edges.astype(np.uint8), block) > 0 for edges in (asked, found))
    precision, recall = float(near_asked[found].mean()), float(near_found[asked].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

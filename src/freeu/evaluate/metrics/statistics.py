"""Statistics of an image: brightness, contrast, saturation, sharpness, and its share of high frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.motion.measure import LUMA

if TYPE_CHECKING:
    from PIL.Image import Image

Floats = NDArray[np.float64]


STATISTICS = ("brightness", "contrast", "saturation", "sharpness", "high_frequency")
"""The numbers of ``image_statistics``."""


def pixels(image: Image | Any) -> Floats:
    """An image as float64 of shape (H, W, 3) in 0..1.

    Args:
        image: a Pillow image, or an array of shape (H, W, 3): uint8, or floats in 0..1.

    Raises:
        FreeUValueError: another shape, or floats outside 0..1.
    """
    if hasattr(image, "convert"):
        image = image.convert("RGB")
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3:
        raise FreeUValueError(f"an image must have the shape (height, width, 3), got {array.shape}")
    if array.dtype == np.uint8:
        return array / 255.0
    values = array.astype(np.float64)
    if not (values.min() >= 0.0 and values.max() <= 1.0):
        raise FreeUValueError(f"an image of floats must lie in 0 to 1, got {values.min():g} to {values.max():g}")
    return values


def image_statistics(image: Image | Any) -> dict[str, float]:
    """Five numbers of one image.

    Args:
        image: as in ``pixels``; sides of at least 3 pixels. Values count as they are stored (gamma-encoded).

    Returns:
        ``brightness``: mean luma, 0..1 (BT.709);
        ``contrast``: root-mean-square contrast, the standard deviation of luma, 0..0.5 (Peli 1990);
        ``saturation``: mean of S in HSV, (max - min) / max, and 0 for black, 0..1 (Smith 1978);
        ``sharpness``: variance of luma's Laplacian (4 neighbours, inner pixels; Pech-Pacheco et al. 2000);
        ``high_frequency``: share of luma's power beyond half the Nyquist frequency, mean left out, 0..1; 0 for a
        constant image.

    Raises:
        FreeUValueError: not an image, or one smaller than 3x3.

    >>> import numpy as np
    >>> image_statistics(np.full((16, 16, 3), 128, np.uint8))["saturation"]
    0.0
    """
    rgb = pixels(image)
    if min(rgb.shape[:2]) < 3:
        raise FreeUValueError(f"an image must be at least 3x3 pixels, got {rgb.shape[1]}x{rgb.shape[0]}")
    luma = rgb @ np.array(LUMA)
    return {
        "brightness": float(luma.mean()),
        "contrast": float(luma.std()),
        "saturation": _saturation(rgb),
        "sharpness": _sharpness(luma),
        "high_frequency": _high_frequency(luma),
    }


def _saturation(rgb: Floats) -> float:
    top, bottom = rgb.max(axis=2), rgb.min(axis=2)
    return float(np.divide(top - bottom, top, out=np.zeros_like(top), where=top > 0.0).mean())


def _sharpness(luma: Floats) -> float:
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((around - 4.0 * luma[1:-1, 1:-1]).var())


def _high_frequency(luma: Floats) -> float:
    power = np.abs(np.fft.fft2(luma - luma.mean())) ** 2
    height, width = luma.shape
    # In cycles per pixel; 0.5 is the Nyquist frequency along an axis.
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    total = float(power.sum())
    # The power of a constant image is rounding error.
    return float(power[radius > 0.25].sum() / total) if total > 1e-20 * luma.size**2 else 0.0

"""Size and content of a media file, and the noise of attention checks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOISE = 70.0
"""Standard deviation of the noise in checks, of 255: strong enough that no attentive rater prefers the noisy copy."""


@dataclass(frozen=True)
class MediaInfo:
    """Size and content of a media file.

    Args:
        width, height: in pixels.
        sha256: of its pixels.
        frames: 1 for an image.
        seconds: time of the last frame after the first, 0 for an image.
    """

    width: int
    height: int
    sha256: str
    frames: int = 1
    seconds: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int, float]:
        """What must be equal for files that are compared."""
        return self.width, self.height, self.frames, self.seconds

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        return size if not self.seconds else f"{size}, {self.frames} frames in {self.seconds:g} s"


def add_noise(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add Gaussian noise of standard deviation ``NOISE`` to 8-bit values and clip; ``pixels`` is not modified."""
    noisy = pixels + rng.normal(0.0, NOISE, pixels.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

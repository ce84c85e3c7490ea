"""What a file shows, so that files can be compared, and the noise of attention checks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOISE = 70.0
"""Standard deviation of the noise in checks, of 255: nobody who looks can take the noised copy for the better one."""


@dataclass(frozen=True)
class Look:
    """What a file shows.

    Args:
        width, height: in pixels.
        sha256: of its pixels.
        frames: 1 for an image.
        seconds: duration, 0 for an image.
    """

    width: int
    height: int
    sha256: str
    frames: int = 1
    seconds: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int, float]:
        """What must be equal in files that are compared."""
        return self.width, self.height, self.frames, self.seconds

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        return size if not self.seconds else f"{size}, {self.frames} frames in {self.seconds:g} s"


def add_noise(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gaussian noise of deviation ``NOISE`` on 8-bit values, clipped; ``pixels`` stays as it is."""
    noisy = pixels + rng.normal(0.0, NOISE, pixels.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

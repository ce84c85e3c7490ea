"""Clips whose answers are known."""

import numpy as np


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random texture, uint8 (H, W, 3)."""
    import cv2

    noise = np.random.default_rng(seed).uniform(0, 255, (height // 6 + 2, width // 6 + 2, 3))
    return (
        cv2.resize(noise.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype("u1")
    )


def sliding(x: int, y: int, count: int = 6, size: int = 64) -> np.ndarray:
    """A texture that slides by whole pixels under the window: nothing flickers."""
    room = count * max(abs(x), abs(y)) + 2
    texture = smooth(size + 2 * room, size + 2 * room)
    starts = [(room - step * y, room - step * x) for step in range(count)]
    return np.array([texture[top : top + size, left : left + size] for top, left in starts])


def noisy(frames: np.ndarray, level: float, seed: int = 1) -> np.ndarray:
    """New noise of a standard deviation in every frame."""
    noise = np.random.default_rng(seed).normal(0.0, level, frames.shape)
    return (frames + noise).round().clip(0, 255).astype(np.uint8)

"""FreeU over the frames of videos: structure maps that agree between frames, and a low band that reaches into time.

Video U-Nets hand every concatenation to their spatial layers as (videos * frames, C, H, W), the frames of a video in a
row. Taken for still images, as all published code does, each frame has its own minimum and maximum, which jump from
frame to frame; what is here makes them agree.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from freeu.config import OVER_TIME
from freeu.errors import FreeUValueError, unknown_name
from freeu.ops._checks import untraced

SMOOTHING = 1.0
"""Standard deviation, in frames, of the Gaussian that smooths minimum and maximum over time."""


def check_frames(batch: int, frames: int) -> int:
    """Number of videos in a batch of ``frames`` samples each; ``FreeUValueError`` if that is no whole number."""
    batch, frames = untraced(batch), untraced(frames)
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1 or batch % frames:
        raise FreeUValueError(f"frames must be a divisor of the batch size {batch}, at least 1, got {frames!r}")
    return batch // frames


def map_range(mean: Tensor, frames: int, over_time: str) -> tuple[Tensor, Tensor, Tensor]:
    """The structure map of each frame, and the minimum and maximum that it is normalised with.

    Args:
        mean: mean over the channels, (videos * frames, 1, H, W).
        frames: of each video.
        over_time: "frame": each frame has its own map, minimum and maximum, as published. "clip": minimum and maximum
            are those of the whole video. "smooth": they are each frame's, smoothed over time by a Gaussian of
            ``SMOOTHING`` frames. "shared": one map for all frames, the mean of theirs.

    Returns:
        maps (videos * frames, 1, H, W), and minima and maxima that broadcast to them. With "smooth" a map may leave
        its range a little.
    """
    if over_time not in OVER_TIME:
        raise unknown_name("over_time", over_time, OVER_TIME)
    videos = check_frames(mean.shape[0], frames)
    maps = mean.reshape(videos, frames, *mean.shape[1:])
    if over_time == "shared":
        maps = maps.mean(dim=1, keepdim=True).expand(maps.shape)
    low, high = (extreme(maps, dim=(3, 4), keepdim=True) for extreme in (torch.amin, torch.amax))
    if over_time == "clip":
        low, high = low.amin(dim=1, keepdim=True), high.amax(dim=1, keepdim=True)
    elif over_time == "smooth":
        weights = smoothing(frames, mean)
        low, high = (torch.einsum("st,bt...->bs...", weights, value) for value in (low, high))
    low, high = (value.expand(videos, frames, 1, 1, 1).flatten(0, 1) for value in (low, high))
    return maps.flatten(0, 1), low, high


def smoothing(frames: int, like: Tensor) -> Tensor:
    """Weights (frames, frames) of a Gaussian mean over neighbouring frames; every row sums to 1, also at the ends."""
    time = torch.arange(frames, device=like.device, dtype=like.dtype)
    weights = torch.exp(-((time[:, None] - time) ** 2) / (2 * SMOOTHING**2))
    return weights / weights.sum(dim=1, keepdim=True)


def time_band(frames: int, threshold: int, like: Tensor) -> Tensor:
    """The projection (frames, frames) onto the frequencies |k| < threshold over time; 1 keeps the video's mean alone.

    Raises:
        FreeUValueError: a threshold below 1 or above frames // 2 + 1, where the band would wrap round.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int) or not 1 <= threshold <= frames // 2 + 1:
        raise FreeUValueError(
            f"time_threshold must be 1 to {frames // 2 + 1} for {frames} frames (half of them and 1), got {threshold!r}"
        )
    if 2 * threshold - 1 >= frames:
        return torch.eye(frames, device=like.device, dtype=like.dtype)
    time = torch.arange(frames, device=like.device, dtype=like.dtype)
    angle = 2 * math.pi / frames * (time[:, None] - time)
    band = torch.ones_like(angle)
    for k in range(1, threshold):
        band += 2 * torch.cos(k * angle)
    return band / frames


def project(x: Tensor, frames: int, threshold: int) -> Tensor:
    """The slow part of features (videos * frames, C, H, W): their projection onto ``time_band``."""
    videos = check_frames(x.shape[0], frames)
    band = time_band(frames, threshold, x)
    return torch.einsum("st,bt...->bs...", band, x.reshape(videos, frames, *x.shape[1:])).flatten(0, 1)


def frame_weights(strengths: tuple[float, ...], frames: int, like: Tensor) -> Tensor:
    """Strength of each frame, (frames,): given at equal distances from the first frame to the last, linear between."""
    if len(strengths) == 1 or frames == 1:
        return torch.full((frames,), strengths[0], device=like.device, dtype=like.dtype)
    places = [frame * (len(strengths) - 1) / (frames - 1) for frame in range(frames)]
    found = []
    for place in places:
        before = min(int(place), len(strengths) - 2)
        part = place - before
        found.append((1 - part) * strengths[before] + part * strengths[before + 1])
    return torch.tensor(found, device=like.device, dtype=like.dtype)

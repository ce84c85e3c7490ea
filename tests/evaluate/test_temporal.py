"""Flicker, flow and the spectrum over time against known answers."""

import importlib.util

import numpy as np
import pytest
from made_clips import noisy, sliding, smooth
from tolerances import FLOW

from freeu.errors import FreeUValueError
from freeu.evaluate import (
    fast_share,
    flicker,
    frame_difference,
    motion_strength,
    optical_flow,
    subject_movement,
    temporal_spectrum,
    traceable_share,
)

STILL = np.repeat(smooth(48, 64)[None], 5, axis=0)


def test_a_still_clip_has_nothing_of_anything():
    assert frame_difference(STILL) == 0.0
    assert flicker(STILL) == pytest.approx(0.0, abs=1e-3)
    assert traceable_share(STILL) == 1.0
    assert fast_share(STILL) == 0.0
    assert motion_strength(STILL) == pytest.approx(0.0, abs=FLOW)
    assert subject_movement(STILL).kind == "still"


@pytest.mark.parametrize(("x", "y"), [(2, 0), (0, -3), (-4, 2)])
def test_flow_of_a_translation(x, y):
    frames = sliding(x, y)
    flow = optical_flow(frames[0], frames[1])
    inner = flow.forward[12:-12, 12:-12]
    assert np.abs(inner - (x, y)).mean() < FLOW
    assert flow.traceable[12:-12, 12:-12].mean() > 0.95
    assert motion_strength(frames) == pytest.approx(np.hypot(x, y), rel=0.2)
    # Each of five steps goes so far, of a side of 64.
    moved = subject_movement(frames)
    assert (moved.right, moved.down) == pytest.approx((5 * x / 64, 5 * y / 64), abs=0.05)
    assert moved.growth == pytest.approx(0.0, abs=0.03)


def test_flow_leaves_out_what_is_covered():
    frames = np.repeat(smooth(64, 64)[None], 2, axis=0)
    patch = smooth(32, 32, seed=5)
    frames[0, 16:48, 8:40], frames[1, 16:48, 14:46] = patch, patch
    flow = optical_flow(*frames)
    assert flow.traceable[20:44, 41:46].mean() < 0.4  # where the patch goes
    assert flow.traceable[20:44, 14:34].mean() > 0.9  # on the patch
    assert np.abs(flow.forward[20:44, 14:34] - (6, 0)).mean() < FLOW


def test_movement_is_taken_out_of_flicker():
    frames = sliding(3, 1)
    assert frame_difference(frames) > 10.0
    assert flicker(frames) < 0.1 * frame_difference(frames)


@pytest.mark.parametrize("frames", [STILL, sliding(2, 1)], ids=["still", "sliding"])
def test_noise_raises_flicker_and_fast_changes(frames):
    levels = (0.0, 2.0, 5.0, 10.0, 20.0)
    flickers, shares = zip(*((flicker(noisy(frames, x)), fast_share(noisy(frames, x))) for x in levels), strict=True)
    assert list(flickers) == sorted(set(flickers))
    assert list(shares) == sorted(set(shares))
    # The difference of two noises: sqrt(2) times as much, sqrt(2 / pi) of that on the mean of absolute values.
    apart = 2.0 * 5.0 / np.sqrt(np.pi)
    assert frame_difference(noisy(STILL, 5.0)) == pytest.approx(apart, rel=0.05)
    assert flicker(noisy(STILL, 5.0)) == pytest.approx(apart, rel=0.3)


def test_power_over_time_adds_up_to_the_variance():
    frames = noisy(sliding(2, 0, count=7), 12.0)
    light = frames @ np.array((0.2126, 0.7152, 0.0722))
    frequency, power = temporal_spectrum(frames)
    assert frequency == pytest.approx(np.arange(7) / 14)
    assert power.sum() == pytest.approx(np.square(light).mean())
    assert power[1:].sum() == pytest.approx(light.var(axis=0).mean())


def test_power_over_time_by_frequency():
    steps = np.arange(8)
    # A cosine of the transform itself: all power in one bin.
    wave = np.round(128 + 100 * np.cos(np.pi * 3 * (2 * steps + 1) / 16)).astype(np.uint8)
    frequency, power = temporal_spectrum(np.tile(wave[:, None, None, None], (1, 4, 4, 3)))
    assert frequency[power[1:].argmax() + 1] == 3 / 16
    assert power[3] == pytest.approx(100**2 / 2, rel=0.01)
    # New noise in every frame is white: as much at each frequency. A ramp has hardly anything at high ones.
    _, power = temporal_spectrum(noisy(np.full((8, 64, 64, 3), 128, dtype=np.uint8), 10.0))
    assert power[1:].max() < 1.3 * power[1:].min()
    ramp = np.tile((20 * steps).astype(np.uint8)[:, None, None, None], (1, 4, 4, 3))
    assert fast_share(ramp) < 0.01
    assert fast_share(noisy(np.full((8, 64, 64, 3), 128, dtype=np.uint8), 10.0)) == pytest.approx(3 / 7, abs=0.05)


def test_less_can_be_traced_where_everything_changes():
    assert traceable_share([smooth(64, 64, seed=0), smooth(64, 64, seed=9)]) < 0.8 < traceable_share(sliding(1, 1))
    black = np.zeros((2, 16, 16, 3), dtype=np.uint8)
    black[1] = 255
    assert flicker(black) == 255.0  # nothing moves there, all of it changes


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (STILL[:1], "at least 2 frames, got 1"),
        (STILL / 255.0, "uint8 of shape (height, width, 3), got float64 (48, 64, 3)"),
        ([STILL[0], STILL[1][:40]], "one size, got 64x40, 64x48"),
        (STILL[:, :8, :8], "at least 12x12, got 8x8"),
    ],
)
def test_bad_clips_are_named(frames, message):
    with pytest.raises(FreeUValueError) as error:
        flicker(frames)
    assert message in str(error.value)


def test_without_opencv(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cv2" else real(name))
    with pytest.raises(FreeUValueError, match=r"cv2 is not installed: pip install 'freeu\[video\]'"):
        flicker(STILL)
    assert frame_difference(STILL) == 0.0

"""Videos generated from layers that move by known maps: flow and the frames between against what they must be."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
known_videos = pytest.importorskip("known_videos")

from freeu.motion.estimate import along, steady_flow  # noqa: E402
from freeu.motion.measure import Flow, optical_flow, warp_back  # noqa: E402
from freeu.rerender.video.propagate import propagate  # noqa: E402

# Pixels, mean over what both frames show; benchmarks/results/flow.md has what they are on the videos of the benchmark.
NEAR, FAR = 0.12, 0.5
# dB, the frames between two key frames that are the video's own.
IDENTITY = 38.0


@pytest.fixture(scope="module")
def textured():
    return {video.name: video for video in known_videos.textured_videos(5)}


@pytest.fixture(scope="module")
def emoji():
    return known_videos.emoji_videos(2, count=5)


def error(flow, truth, visible):
    return float(np.linalg.norm(flow.forward - truth, axis=2)[visible].mean())


def psnr(one, other):
    return 10.0 * np.log10(255.0**2 / max(np.square(one.astype(float) - other).mean(), 1e-9))


@pytest.mark.parametrize("name", ["translation", "rotation", "zoom", "occluder"])
def test_the_truth_is_true(textured, name):
    video = textured[name]
    truth, visible = video.truth(1, 3)
    warped = warp_back(video.frames[3], Flow(truth, visible))
    # Layers are sampled bilinearly twice; a wrong truth of half a pixel would cost tens of levels at edges.
    assert np.abs(warped - video.frames[1])[visible].mean() < 3.0
    assert visible.mean() > 0.8


@pytest.mark.parametrize("name", ["translation", "rotation", "zoom", "occluder"])
def test_textured_films(textured, name):
    video = textured[name]
    assert error(steady_flow(video.frames[1], video.frames[0]), *video.truth(1, 0)) < NEAR
    flow = along(video.frames[:5])
    assert error(flow, *video.truth(0, 4)) < FAR
    hidden = ~video.truth(0, 4)[1]
    assert (hidden & ~flow.traceable).sum() > 0.6 * hidden.sum()


def test_emoji_films(emoji):
    for video in emoji:
        truth = video.truth(1, 0)
        plain = error(optical_flow(video.frames[1], video.frames[0]), *truth)
        assert error(steady_flow(video.frames[1], video.frames[0]), *truth) < min(NEAR, 0.2 * plain)
        assert error(along(video.frames), *video.truth(0, 4)) < FAR


def test_the_frames_between_are_those_of_the_film(textured, emoji):
    for video in (textured["occluder"], emoji[0]):
        frames = video.frames[:4]
        drawn = list(propagate(frames, frames[0], frames[-1]))
        assert len(drawn) == 4
        for got, want in zip(drawn[1:-1], frames[1:-1], strict=True):
            assert psnr(got, want) > IDENTITY

"""Flow between frames near and far, against truths known from how the frames were made."""

import numpy as np
import pytest

from freeu.errors import FreeUValueError
from freeu.motion import repair as repair
from freeu.motion.estimate import Tracker, along, at_latent, consistent, inverted, steady_flow
from freeu.motion.measure import Flow
from freeu.rerender.denoise.fusion import view_from
from freeu.rerender.denoise.memory import KeyFrame

pytest.importorskip("cv2")


def square(left, top=20, side=24, size=64, ground=(40, 90, 160), colour=(230, 200, 30)):
    """A flat square on a flat ground: nothing to follow but its edges."""
    frame = np.empty((size, size, 3), np.uint8)
    frame[:] = ground
    frame[top : top + side, left : left + side] = colour
    return frame


def test_a_flat_square_moves_and_its_ground_rests():
    flow = steady_flow(square(10), square(15))
    inside = np.zeros((64, 64), bool)
    inside[20:44, 10:34] = True
    np.testing.assert_allclose(flow.forward[inside], np.tile(np.float32((5.0, 0.0)), (inside.sum(), 1)), atol=0.05)
    far = ~inside
    far[17:47, 7:37] = False
    np.testing.assert_array_equal(flow.forward[far], 0.0)
    assert flow.traceable[inside].all()
    assert not flow.traceable[23:41, 36:38].any()  # the ground that the square comes to lie on


def test_a_film_that_stands_still():
    flow = steady_flow(square(10), square(10))
    np.testing.assert_array_equal(flow.forward, 0.0)
    assert flow.traceable.all()


def test_flow_is_the_same_on_every_run_and_leaves_the_frames_alone():
    frames = [square(10), square(14)]
    kept = [frame.copy() for frame in frames]
    runs = [steady_flow(*frames) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].forward, runs[1].forward)
    np.testing.assert_array_equal(runs[0].traceable, runs[1].traceable)
    np.testing.assert_array_equal(frames, kept)


def test_a_tracker_follows_farther_than_one_look_reaches():
    frames = [square(2 + 5 * step, size=80) for step in range(8)]
    tracker = Tracker(frames[0])
    flows = [tracker.follow(frame) for frame in frames[1:]]
    for step, flow in enumerate(flows, start=1):
        np.testing.assert_allclose(flow.forward[24:40, 6 + 5 * step : 22 + 5 * step, 0], -5.0 * step, atol=0.1)
    whole = along(reversed(frames))
    np.testing.assert_array_equal(whole.forward, flows[-1].forward)


def test_another_estimator_is_asked_for_the_whole_way():
    asked = []

    def estimator(target, reference):
        asked.append((int(target[0, 0, 0]), int(reference[0, 0, 0])))
        return Flow(np.zeros((16, 16, 2), np.float32), np.ones((16, 16), bool))

    frames = [np.full((16, 16, 3), value, np.uint8) for value in (1, 2, 3)]
    tracker = Tracker(frames[0], estimator)
    tracker.follow(frames[1])
    tracker.follow(frames[2])
    along(frames, estimator)
    view_from(frames[2], KeyFrame(frames[1], frames[1]), None, estimator)
    assert asked == [(2, 1), (3, 1), (1, 3), (3, 2)]


@pytest.mark.parametrize(
    ("target", "reference", "start", "message"),
    [
        (np.zeros((8, 16, 3), np.uint8), np.zeros((8, 16, 3), np.uint8), None, "at least 12x12, got 16x8"),
        (np.zeros((16, 16, 3), np.uint8), np.zeros((16, 20, 3), np.uint8), None, "one size"),
        (np.zeros((16, 16, 3)), np.zeros((16, 16, 3), np.uint8), None, "uint8"),
        (
            np.zeros((16, 16, 3), np.uint8),
            np.zeros((16, 16, 3), np.uint8),
            Flow(np.zeros((8, 8, 2), np.float32), np.ones((8, 8), bool)),
            r"a flow of \(8, 8\) does not fit",
        ),
    ],
)
def test_frames_that_do_not_do(target, reference, start, message):
    with pytest.raises(FreeUValueError, match=message):
        steady_flow(target, reference, start)


def test_a_way_needs_two_frames():
    with pytest.raises(FreeUValueError, match="at least 2 frames, got 1"):
        along([square(3)])


def test_there_and_back():
    forward = np.zeros((20, 30, 2), np.float32)
    forward[5:10, 5:10] = (8.0, 3.0)
    back = inverted(forward)
    np.testing.assert_array_equal(back[8:13, 13:18], np.tile(np.float32((-8.0, -3.0)), (5, 5, 1)))
    np.testing.assert_array_equal(back[:, 25:], 0.0)
    home = consistent(forward, back)
    assert home[5:10, 5:10].all()
    assert not home[8:10, 13:18].any()  # what the patch comes to lie on
    away = np.full((20, 30, 2), 40.0, np.float32)
    assert not consistent(away, -away).any()
    np.testing.assert_array_equal(inverted(away), 0.0)


def test_maps_are_found_by_consensus():
    draw = np.random.default_rng(0)
    one = np.array([[1.05, -0.02, 1.0], [0.03, 0.98, -2.0]])
    other = np.array([[1.0, 0.0, 7.0], [0.0, 1.0, 0.5]])
    field = repair.along_map(one, (40, 60))
    field[:, 40:] = repair.along_map(other, (40, 60))[:, 40:]
    wild = draw.random((40, 60)) < 0.2
    field[wild] += draw.uniform(-20, 20, (wild.sum(), 2)).astype(np.float32)
    found = repair.affine_maps(field, np.ones((40, 60), bool))
    np.testing.assert_allclose(found[0], one, atol=1e-3)
    np.testing.assert_allclose(found[1], other, atol=1e-3)
    np.testing.assert_allclose(repair.inverse(one) @ [*(one @ [3.0, 4.0, 1.0]), 1.0], [3.0, 4.0], atol=1e-12)
    assert len(repair.distinct([one, one + 1e-4, other], (40, 60))) == 2
    assert not repair.is_plausible(np.array([[0.1, 0.0, 0.0], [0.0, 1.0, 0.0]]))


def test_flow_of_latents():
    forward = np.zeros((8, 16, 2), dtype=np.float32)
    forward[:, :8, 0], forward[:, 8:, 1] = 6.0, -4.0
    forward[0:4, 0:4, 0] += np.arange(4) - 1.5  # evens out within a latent pixel
    traceable = np.ones((8, 16), dtype=bool)
    traceable[3, 4] = False
    small, visible = at_latent(Flow(forward, traceable), 4)
    assert small.dtype == np.float32
    np.testing.assert_array_equal(small[:, :2], np.tile(np.float32((1.5, 0.0)), (2, 2, 1)))
    np.testing.assert_array_equal(small[:, 2:], np.tile(np.float32((0.0, -1.0)), (2, 2, 1)))
    np.testing.assert_array_equal(visible, [[True, False, True, True], [True] * 4])


def test_latents_that_do_not_fit():
    with pytest.raises(FreeUValueError, match="latents 8 times smaller do not fit a flow of 20x16 pixels"):
        at_latent(Flow(np.zeros((16, 20, 2), dtype=np.float32), np.ones((16, 20), dtype=bool)), 8)

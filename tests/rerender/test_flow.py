"""Flow between frames near and far, against truths known from how the frames were made."""

import numpy as np
import pytest

from freeu.errors import FreeUValueError
from freeu.evaluate.motion import Flow
from freeu.rerender.flow import at_latent


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

"""Statistics and diversity worked by hand."""

import math

import numpy as np
import pytest
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.evaluate import image_statistics, mean_distance, pixel_diversity, vendi_score


def test_a_constant_colour():
    found = image_statistics(Image.new("RGB", (8, 6), (255, 0, 0)))
    assert found == pytest.approx(
        {"brightness": 0.2126, "contrast": 0.0, "saturation": 1.0, "sharpness": 0.0, "high_frequency": 0.0}, abs=1e-12
    )
    black = image_statistics(np.zeros((4, 4, 3), dtype=np.uint8))
    assert set(black.values()) == {0.0}


def test_saturation_is_the_mean_of_hsv():
    picture = np.zeros((4, 4, 3))
    picture[:2] = (1.0, 0.5, 0.5)  # S = 0.5
    picture[2:] = (0.2, 0.4, 0.1)  # S = 0.75
    assert image_statistics(picture)["saturation"] == pytest.approx(0.625)


def test_a_checkerboard_is_all_high_frequency():
    board = np.indices((8, 8)).sum(0) % 2
    found = image_statistics(np.repeat(board[..., None], 3, axis=2).astype(float))
    # Luma is 0 or 1; the Laplacian is +4 or -4, so its variance is 16.
    assert found == pytest.approx(
        {"brightness": 0.5, "contrast": 0.5, "saturation": 0.0, "sharpness": 16.0, "high_frequency": 1.0}
    )


def test_frequencies_at_and_beyond_half_of_nyquist():
    across = np.arange(16)

    def share(cycles):
        wave = 0.5 + 0.5 * np.cos(2 * np.pi * cycles * across / 16)
        return image_statistics(np.broadcast_to(wave[None, :, None], (16, 16, 3)))["high_frequency"]

    assert share(4) == pytest.approx(0.0, abs=1e-12)  # 0.25 cycles per pixel is not beyond
    assert share(5) == pytest.approx(1.0)


def test_a_ramp_is_not_sharp():
    ramp = np.broadcast_to(np.linspace(0, 1, 10)[None, :, None], (10, 10, 3))
    assert image_statistics(ramp)["sharpness"] == pytest.approx(0.0, abs=1e-12)


def test_bad_pictures_are_named():
    with pytest.raises(FreeUValueError, match=r"shape \(height, width, 3\), got \(4, 4\)"):
        image_statistics(np.zeros((4, 4)))
    with pytest.raises(FreeUValueError, match="0 to 1, got 0 to 255"):
        image_statistics(np.array([0.0, 255.0, 0.0] * 9).reshape(3, 3, 3))
    with pytest.raises(FreeUValueError, match="at least 3x3 pixels, got 2x4"):
        image_statistics(np.zeros((4, 2, 3)))


def test_diversity_by_hand():
    same = np.ones((3, 4))
    assert (mean_distance(same), vendi_score(same)) == pytest.approx((0.0, 1.0))
    assert (mean_distance(np.eye(4)), vendi_score(5 * np.eye(4))) == pytest.approx((1.0, 4.0))
    # Two at 60 degrees: cosine 1/2, eigenvalues 3/4 and 1/4.
    two = np.array([[1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    assert mean_distance(two) == pytest.approx(0.5)
    assert vendi_score(two) == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


def test_pixel_diversity_by_hand():
    black, white = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "white")
    assert pixel_diversity([black, white]) == pytest.approx(1.0)
    assert pixel_diversity([black, black, white]) == pytest.approx(2 / 3)


def test_bad_sets_are_named():
    with pytest.raises(FreeUValueError, match="no direction"):
        mean_distance(np.zeros((2, 3)))
    with pytest.raises(FreeUValueError, match="at least 2"):
        vendi_score(np.ones((1, 3)))
    with pytest.raises(FreeUValueError, match="one size, got 4x4, 5x4"):
        pixel_diversity([np.zeros((4, 4, 3)), np.zeros((4, 5, 3))])

"""Edges of images, and how well two images share them."""

from __future__ import annotations

import numpy as np
import pytest
from freeu_zoo import films
from freeu_zoo.world import edges, scenes
from PIL import Image

pytest.importorskip("cv2")


def fox() -> Image.Image:
    return scenes.compose(films.film("fox", "3d", "blue", "still", 2).scene)


def test_they_lie_where_things_end() -> None:
    square = Image.new("RGB", (64, 64))
    square.paste((255, 255, 255), (16, 16, 48, 48))
    found = edges.canny(square)
    assert found.any()
    assert not found[24:40, 24:40].any()
    assert not found[:12].any()
    assert np.asarray(edges.as_image(found)).max() == 255


def test_agreement_of_equal_and_of_other_edges() -> None:
    found = edges.canny(fox())
    assert edges.agreement(found, found) == 1.0
    assert edges.agreement(np.roll(found, 2, axis=1), found) > 0.95
    assert edges.agreement(np.roll(found, 40, axis=0), found) < 0.5
    nothing = np.zeros_like(found)
    assert edges.agreement(nothing, found) == edges.agreement(found, nothing) == 0.0
    assert edges.agreement(nothing, nothing) == 1.0

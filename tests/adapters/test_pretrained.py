"""FreeU on trained weights of a family that freeu does not know."""

from __future__ import annotations

import pretrained_unet
import pytest
import torch
from foreign_unets import Foreign
from unet_contract import CHECKS

import freeu
from freeu.errors import NoSitesError

ROW = Foreign(
    "mouse-pupil-analysis UNet",
    "mouse_pupil_analysis.unet",
    "UNet",
    {},
    lambda: (pretrained_unet.eye()[0],),
    ("conv1", "conv2"),
)


@pytest.fixture(scope="module")
def trained():
    try:
        return pretrained_unet.load()
    except ImportError as error:
        pytest.skip(f"mouse-pupil-analysis is not installed: {error}")


def test_the_model_is_trained(trained):
    image, pupil = pretrained_unet.eye()
    with torch.no_grad():
        assert pretrained_unet.overlap(trained(image), pupil) > 0.8


def test_without_an_example_the_error_says_how_to_give_one(trained):
    with pytest.raises(NoSitesError, match=r"example_args=\(x, t\)") as caught:
        freeu.apply(pretrained_unet.load(), **pretrained_unet.FACTORS)
    assert "\n" not in str(caught.value)


def test_contract(trained):
    assert CHECKS["sites"](ROW, trained) == "2"
    for name in ("v1", "v2", "restore", "nests, copies", "autograd"):
        assert CHECKS[name](ROW, trained) == "yes"
    assert CHECKS["auto equals named"](ROW, trained) == "only"
    with torch.no_grad(), freeu.enabled(trained, **pretrained_unet.FACTORS) as handle:
        trained(pretrained_unet.eye()[0])
        assert handle.verify() == {"conv1": 1, "conv2": 1}

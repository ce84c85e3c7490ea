"""Every adapter on the real class from the real package: one list of checks for all."""

from __future__ import annotations

import pytest
from foreign_unets import Foreign
from torch import nn
from unet_classes import CLASSES
from unet_contract import CHECKS

COMPILED = ("guided-diffusion UNetModel (ADM)", "diffusers StableCascadeUNet", "MONAI DiffusionModelUNet, 3-D")


@pytest.fixture(scope="module", params=CLASSES)
def real(request: pytest.FixtureRequest) -> tuple[Foreign, nn.Module]:
    row = CLASSES[request.param]
    try:
        model = row.build()
        CHECKS["sites"](row, model)  # a U-Net of no known family needs its example once
        return row, model
    except ImportError as error:
        pytest.skip(f"{row.module} is not installed: {error}")


@pytest.mark.parametrize("name", CHECKS)
def test_contract(real: tuple[Foreign, nn.Module], name: str) -> None:
    row, model = real
    if name == "compile" and row.family not in COMPILED:
        pytest.skip("compiling three kinds is enough here: it takes seconds each; scripts/coverage.py compiles all")
    assert CHECKS[name](row, model) != ""

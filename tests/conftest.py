"""Fixtures that many tests share: tiny U-Nets of real classes, a fixed seed, the embedded model, the command line."""

import contextlib
import random
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "scripts"))  # what keeps the documentation is tested too
sys.path.append(str(Path(__file__).parents[1] / "integrations" / "webui"))  # as a web UI does while it loads scripts

from command_line import run_cli


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)  # whatever an earlier test has left
    torch.manual_seed(0)
    random.seed(0)


def tiny_unet(widths: tuple[int, ...] = (8, 16, 32, 32), **changes):
    """A UNet2DConditionModel with the block types of Stable Diffusion 1.5, as wide as ``widths``."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    settings = {
        "sample_size": 16,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
        "down_block_types": ("CrossAttnDownBlock2D",) * (len(widths) - 1) + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(widths) - 1),
    }
    return UNet2DConditionModel(**(settings | changes)).eval()


def tiny_sdxl_unet():
    """A UNet2DConditionModel with the block types of Stable Diffusion XL."""
    return tiny_unet(
        (8, 16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


def tiny_inputs(batch: int = 2, size: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(sample, timestep, encoder_hidden_states) for the tiny U-Nets."""
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(batch, 4, size, size, generator=generator)
    return sample, torch.tensor(500), torch.randn(batch, 5, 8, generator=generator)


def guided(unet):
    """A pipeline that stacks its batch as the one whose ``__call__`` it has."""
    from diffusers import StableDiffusionPipeline

    class Guided:
        do_classifier_free_guidance = True

    Guided.__call__ = StableDiffusionPipeline.__call__
    Guided.__name__, Guided.__module__ = "StableDiffusionPipeline", "diffusers"
    pipe = Guided()
    pipe.unet = unet
    return pipe


@pytest.fixture
def unet():
    return tiny_unet()


@pytest.fixture
def inputs():
    return tiny_inputs()


@pytest.fixture
def run(inputs):
    """Calls a U-Net in inference and returns its output."""

    def call(model: torch.nn.Module, timestep: float | torch.Tensor | None = None) -> torch.Tensor:
        sample, t, text = inputs
        with torch.no_grad():
            return model(sample, t if timestep is None else timestep, text, return_dict=False)[0]

    return call


@pytest.fixture(scope="session")
def cli():
    """The command line, in this process."""
    return run_cli


@pytest.fixture(scope="session")
def mini():
    """The embedded Stable Diffusion, loaded once."""
    pytest.importorskip("freeu_zoo")
    from freeu.pipelines.models.loading import load
    from freeu.pipelines.models.sources.sources import find_model

    return load(find_model(None))


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with contextlib.ExitStack() as stack:
        started = stack.enter_context(playwright.sync_playwright())
        try:
            browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except playwright.Error:
            pytest.skip("no Chromium: install it, or run `playwright install chromium`")
        stack.callback(browser.close)
        yield browser


@pytest.fixture
def watched(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(120_000)
    from browser import Watched

    yield Watched(context.new_page())
    context.close()

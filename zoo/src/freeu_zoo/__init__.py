"""Embedded miniature diffusion models for FreeU: real Hugging Face directories that work offline, on any machine.

Importing this package loads neither torch nor diffusers.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["DEFAULT_MODEL", "__version__", "model_path", "models"]

__version__ = "0.1.0"

DEFAULT_MODEL = "mini-sd"
"""The model to use when nobody names one."""


def models() -> dict[str, Path]:
    """Shipped models by name: directories that ``from_pretrained`` loads, each with a ``freeu-zoo.json``."""
    folder = Path(__file__).parent / "models"
    return {path.parent.name: path.parent for path in sorted(folder.glob("[!.]*/freeu-zoo.json"))}


def model_path(name: str = DEFAULT_MODEL) -> Path:
    """The directory of one model.

    Raises:
        ValueError: no such model; the message names those there are.
    """
    known = models()
    if name not in known:
        raise ValueError(f"no model {name!r} in the zoo; known: {', '.join(known) or 'none'}")
    return known[name]

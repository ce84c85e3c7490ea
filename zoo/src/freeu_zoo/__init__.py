"""Embedded miniature diffusion models for FreeU: real Hugging Face directories that work offline, on any machine.

Importing this package loads neither torch nor diffusers.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freeu_zoo.reader import SceneReader

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_VIDEO_MODEL",
    "DISTRIBUTIONS",
    "__version__",
    "control_path",
    "judge_path",
    "load_reader",
    "model_path",
    "models",
    "reader_path",
]

__version__ = "0.2.0"

DEFAULT_MODEL = "mini-sd"
"""The model to use when nobody names one."""

DEFAULT_VIDEO_MODEL = "mini-modelscope"
"""The model that generates videos when nobody names one."""


DISTRIBUTIONS = {"mini-modelscope": "freeu-zoo-video"}
"""Models that are installed by themselves, with the name that ``pip install`` takes."""


def _homes() -> list[Path]:
    """Folders of models: this package's, and those of other distributions that are installed; none is imported."""
    homes = [Path(__file__).parent / "models"]
    for name in dict.fromkeys(DISTRIBUTIONS.values()):
        spec = importlib.util.find_spec(name.replace("-", "_"))
        if spec is not None and spec.origin is not None:
            homes.append(Path(spec.origin).parent / "models")
    return homes


def _directories(kind: str) -> dict[str, Path]:
    """Installed directories by name."""
    found = {}
    for home in _homes():
        for path in sorted(home.glob("[!.]*/freeu-zoo.json")):
            if json.loads(path.read_text(encoding="utf-8")).get("kind", "diffusion") == kind:
                found[path.parent.name] = path.parent
    return found


def models() -> dict[str, Path]:
    """Installed pipelines by name, each a directory as it is shipped, with a ``freeu-zoo.json``.

    ``from_pretrained`` loads them, except those that are an addition to another one (kind "lcm"): for these
    ``model_path`` gives the directory to load.
    """
    return _directories("diffusion") | _directories("video") | _directories("lcm")


def model_path(name: str = DEFAULT_MODEL) -> Path:
    """The directory of one pipeline, which ``from_pretrained`` loads.

    A model that is shipped as an addition to another one is put together in the user's cache when it is asked for
    first; the environment variable ``FREEU_ZOO_CACHE`` names another folder.

    Raises:
        ValueError: no such model, or one that is not installed; the message names those there are, or the command. A
            model that cannot be put together.
    """
    known = models()
    if name not in known:
        if name in DISTRIBUTIONS:
            raise ValueError(f"{name} is not installed: pip install {DISTRIBUTIONS[name]}")
        raise ValueError(f"no model {name!r} in the zoo; known: {', '.join(known) or 'none'}")
    if name not in _directories("lcm"):
        return known[name]
    from freeu_zoo.assemble import cached
    from freeu_zoo.errors import ZooError

    facts = json.loads((known[name] / "freeu-zoo.json").read_text(encoding="utf-8"))
    try:
        return cached(model_path(facts["parent"]), known[name])
    except ZooError as error:
        raise ValueError(str(error)) from None


def judge_path() -> Path:
    """The directory of the judge: a ``CLIPModel`` with its tokenizer and image processor.

    Raises:
        ValueError: its weights are not in this installation.
    """
    return _only("judge")


def control_path() -> Path:
    """The directory of the ControlNet for canny edges, a ``ControlNetModel`` for the default model.

    Raises:
        ValueError: its weights are not in this installation.
    """
    return _only("control")


def load_reader(device: str = "cpu") -> SceneReader:
    """The scene reader, which says from an image alone what it shows.

    Raises:
        ValueError: its weights are not in this installation.
    """
    from freeu_zoo.reader import SceneReader

    return SceneReader.load(reader_path(), device)


def reader_path() -> Path:
    """The directory of the scene reader; its ``freeu-zoo.json`` states its accuracy.

    Raises:
        ValueError: its weights are not in this installation.
    """
    return _only("reader")


def _only(kind: str) -> Path:
    found = _directories(kind)
    if not found:
        raise ValueError(f"this installation of freeu-zoo holds no {kind}")
    return next(iter(found.values()))

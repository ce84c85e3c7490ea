"""The scene reader and the CLIP of ``freeu-zoo``, which is found by the name of the installed package only."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.alignment import Reader
from freeu.extras import need


def load_reader(device: str = "cpu") -> Reader:
    """The scene reader of the installed freeu-zoo.

    Args:
        device: a device of torch.

    Raises:
        FreeUValueError: no freeu-zoo, or one without a scene reader.

    >>> type(load_reader()).__name__
    'SceneReader'
    """
    load = _zoo("load_reader", "scene reader")
    try:
        return cast(Reader, load(device))
    except ValueError as error:
        raise FreeUValueError(f"this freeu-zoo has no scene reader ({error}): update it") from None


def judge_path() -> Path:
    """The directory of the judge (a ``CLIPModel`` with tokenizer and image processor) of the installed freeu-zoo.

    Raises:
        FreeUValueError: no freeu-zoo, or one without a judge.

    >>> judge_path().name
    'judge'
    """
    find = _zoo("judge_path", "judge")
    try:
        return Path(find())
    except ValueError as error:
        raise FreeUValueError(f"this freeu-zoo has no judge ({error}): update it, or name a CLIP directory") from None


def _zoo(name: str, what: str) -> Any:
    need("demo", "freeu_zoo")
    found = getattr(importlib.import_module("freeu_zoo"), name, None)
    if found is None:
        raise FreeUValueError(f"this freeu-zoo has no {what}: update it with pip install --upgrade freeu-zoo")
    return found

"""Axes for the script X/Y/Z plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lib_freeu_exact.settings import preset_names

ATTRIBUTE = "freeu_exact"
"""Of the processing: values of controls that an axis has set."""
_NUMBERS = ("b1", "b2", "s1", "s2", "start", "end", "strength")


def axes(option: Callable[..., Any]) -> Iterator[Any]:
    """Every axis.

    Args:
        option: the host's class ``AxisOption`` (label, type, apply, choices).
    """
    yield option("[FreeU exact] Enabled", truth, setter("enabled"), choices=lambda: ["True", "False"])
    yield option("[FreeU exact] Preset", str, setter("preset"), choices=preset_names)
    yield option("[FreeU exact] Version", int, setter("version"), choices=lambda: ["1", "2"])
    for name in _NUMBERS:
        yield option(f"[FreeU exact] {name}", float, setter(name))
    yield option("[FreeU exact] More settings", str, setter("more"))


def setter(name: str) -> Callable[[Any, Any, Any], None]:
    """What an axis does to a processing: it is copied for each cell, so a new mapping is made."""

    def apply(p: Any, value: Any, _values: Any) -> None:
        setattr(p, ATTRIBUTE, {**getattr(p, ATTRIBUTE, {}), name: value})

    return apply


def truth(text: Any) -> bool:
    """A truth value as it is typed into the grid."""
    words = {"true": True, "1": True, "false": False, "0": False}
    if str(text).strip().lower() not in words:
        raise ValueError(f"enabled must be True or False, got {text!r}")
    return words[str(text).strip().lower()]

"""FreeU's settings from the widgets of a node and a text."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from freeu import FreeUConfig, FreeUValueError
from freeu.errors import shown
from freeu.json_files import parse_json

_SERVED = {"b", "s", "version", "profile", "mask", "threshold", "channels", "high_gain", "share", "guidance", "sites"}
_SERVED |= {"start", "end", "ramp", "unit", "strength", "b_window", "s_window", "dc", "skip_gain", "skip_gain_ends"}
"""Fields that the patch serves. The others it cannot: it is told neither where one video ends nor what a ControlNet has
added to the skip."""


def settings(text: str, b1: float, b2: float, s1: float, s2: float, version: int) -> FreeUConfig:
    """The settings that a node is to apply.

    Args:
        text: a configuration of freeu as JSON or in its short form (``mask=radial dc=keep``); may be empty. What it
            names wins over the widgets.
        b1, b2, s1, s2, version: of the widgets.

    Raises:
        FreeUValueError: a text that is no configuration, a value out of range, or a field that has no meaning here.

    >>> str(settings("mask=radial", 1.3, 1.4, 0.9, 0.2, 2))
    'b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 profile=comfyui mask=radial'
    """
    text = text.strip()
    if text.startswith("{"):
        given = parse_json(text, "config")
        assert isinstance(given, dict), "it begins with a brace"
        usual: dict[str, Any] = {"b": [b1, b2], "s": [s1, s2], "version": version, "profile": "comfyui"}
        if isinstance(given.get("profile"), str) and given["profile"] not in ("comfyui", "official"):
            del usual["version"]  # another tool's name says its version too
        config = FreeUConfig.from_dict({**usual, **given})
    else:
        words = {"b1": b1, "b2": b2, "s1": s1, "s2": s2, "v": version, "profile": "comfyui"}
        named = {word.partition("=")[0] for word in text.replace(",", " ").split()}
        if "version" in named or "profile" in named:
            del words["v"]
        usual_words = [f"{name}={value}" for name, value in words.items() if name not in named]
        config = FreeUConfig.parse(" ".join([*usual_words, text]))
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name not in _SERVED and value != item.default:
            raise FreeUValueError(
                f"{item.name}={shown(value)} cannot be served in ComfyUI, whose patches are not told about frames or "
                f"ControlNets: leave {item.name} out"
            )
    return config

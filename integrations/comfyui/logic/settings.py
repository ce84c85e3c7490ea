"""FreeU's settings from the widgets of a node and a text."""

from __future__ import annotations

from dataclasses import fields

from freeu import FreeUConfig, FreeUValueError
from freeu.errors import shown
from freeu.metadata.fields import over_widgets

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
    config = over_widgets(text, b1, b2, s1, s2, version)
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name not in _SERVED and value != item.default:
            raise FreeUValueError(
                f"{item.name}={shown(value)} cannot be served in ComfyUI, whose patches are not told about frames or "
                f"ControlNets: leave {item.name} out"
            )
    return config

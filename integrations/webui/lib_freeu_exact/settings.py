"""FreeU's settings from the controls of the extension, from an API call, and in the text of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from freeu import FreeUConfig, FreeUValueError, preset, presets
from freeu.metadata.fields import freeu_of

CUSTOM = "(sliders)"
"""The entry of the list of presets that leaves the sliders as they are."""
KEY = "FreeU"
"""The field of an image's text with every setting in the short form; freeu itself writes the same."""


@dataclass(frozen=True)
class Controls:
    """The values of the controls, in their order on the page and in ``alwayson_scripts`` of the API.

    Args:
        enabled: whether FreeU is put on the model.
        b1, b2: factors of the backbone in stage 1 and 2, 1 does nothing.
        s1, s2: factors of the skip's low frequencies.
        version: of the backbone's operator: 1 a constant, 2 by its structure map.
        start, end: fractions of the sampling steps, 0..1.
        strength: of all of it, 0..1.
        more: other fields of ``FreeUConfig`` in the short form (``b3=1.1 mask=radial dc=keep``); they win over the
            sliders.
    """

    enabled: bool = False
    b1: float = 1.3
    b2: float = 1.4
    s1: float = 0.9
    s2: float = 0.2
    version: int = 2
    start: float = 0.0
    end: float = 1.0
    strength: float = 1.0
    more: str = ""

    @property
    def config(self) -> FreeUConfig:
        """The settings.

        Raises:
            FreeUValueError: a value out of range, or words in ``more`` that are no settings.

        >>> str(Controls(more="mask=radial").config)
        'b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 profile=comfyui mask=radial'
        """
        words = {name: getattr(self, name) for name in ("b1", "b2", "s1", "s2")}
        words |= {"v": int(self.version), "profile": "comfyui"}
        words |= {name: getattr(self, name) for name in ("start", "end", "strength")}
        named = {word.partition("=")[0] for word in self.more.split()}
        named |= {"v"} if "version" in named else set()
        own = [f"{name}={value}" for name, value in words.items() if name not in named]
        return FreeUConfig.parse(" ".join([*own, self.more]))

    def changed(self, values: Mapping[str, Any]) -> Controls:
        """The same with some values of another source: an API call, or an axis of a grid.

        Raises:
            FreeUValueError: a name that is no control, or an unknown preset.
        """
        values = dict(values)
        name = values.pop("preset", None)
        base = self if name in (None, CUSTOM) else replace(self, **of_preset(str(name)))
        known = {field.name for field in fields(self)}
        unknown = sorted(set(values) - known)
        if unknown:
            names = ", ".join(["preset", *(field.name for field in fields(self))])
            raise FreeUValueError(f"{unknown[0]} is no setting of FreeU (exact): use {names}")
        return replace(base, **values)


def controls_from(args: Sequence[Any]) -> Controls:
    """The controls that a host passes: their values in order, or one mapping of some of them (from the API).

    Raises:
        FreeUValueError: more values than controls, or a name that is no control.
    """
    if args and isinstance(args[0], Mapping):
        return Controls(enabled=True).changed(args[0])
    names = [field.name for field in fields(Controls)]
    if len(args) > len(names):
        raise FreeUValueError(f"FreeU (exact) takes {len(names)} values ({', '.join(names)}), got {len(args)}")
    return replace(Controls(), **dict(zip(names, args, strict=False)))


def of_preset(name: str) -> dict[str, Any]:
    """What a preset sets the controls to.

    Raises:
        FreeUValueError: no preset of that name.
    """
    return _controls_of(preset(name))


def preset_names() -> list[str]:
    """The entries of the list of presets."""
    return [CUSTOM, *presets()]


def _controls_of(config: FreeUConfig) -> dict[str, Any]:
    """Values of the controls that mean a configuration; what has no slider of its own stands in ``more``."""
    usual = FreeUConfig(b=(1.0, 1.0), s=(1.0, 1.0), version=2, profile="comfyui")
    b, s = config.b, config.s
    found: dict[str, Any] = {"enabled": True, "version": config.version}
    found |= {"start": config.start, "end": config.end, "strength": config.strength}
    if isinstance(b, tuple) and isinstance(s, tuple):
        found |= {"b1": b[0], "b2": b[1], "s1": s[0], "s2": s[1]}
    shown = dict(word.partition("=")[::2] for word in str(config).split())
    own = {"b1", "b2", "s1", "s2", "v", "start", "end", "strength"}
    more = {name: value for name, value in shown.items() if name not in own}
    if more.get("profile", "official") in ("official", usual.profile):  # the same places in the U-Nets of these hosts
        more.pop("profile", None)
    found["more"] = " ".join(f"{name}={value}" for name, value in more.items())
    return found


def infotext(config: FreeUConfig, beside_integrated: bool) -> dict[str, Any]:
    """Fields for the text of an image.

    Args:
        config: what was applied.
        beside_integrated: whether the host has an extension of its own that reads ``freeu_enabled`` and would switch
            itself on besides when the text is pasted.
    """
    found: dict[str, Any] = {KEY: str(config)}
    b, s = config.b, config.s
    if not beside_integrated and isinstance(b, tuple) and isinstance(s, tuple):
        found |= {"freeu_enabled": True, "freeu_b1": b[0], "freeu_b2": b[1], "freeu_s1": s[0], "freeu_s2": s[1]}
        found |= {"freeu_start": config.start, "freeu_end": config.end}
    return found


def pasted(name: str, text_fields: Mapping[str, Any]) -> Any:
    """The value of a control under the settings in an image's text; None leaves it alone.

    Reads what this extension and freeu write, sd-webui-freeu's stages and Forge's ``freeu_*``.

    Args:
        name: of the control.
        text_fields: of the text, as the host reads it.
    """
    try:
        config = freeu_of({key: str(value) for key, value in text_fields.items()})
    except FreeUValueError:
        config = None
    if config is None:
        return False if name == "enabled" else None
    return _controls_of(config)[name]

"""FreeU's settings as fields of a text of A1111, in the words of each tool, and as inputs of a node of ComfyUI."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.foreign.comfyui import OWN_NODE
from freeu.foreign.tools import tool
from freeu.json_files import parse_json

FREEU_FIELDS = (
    *(OWN_NODE, "FreeU", "FreeU Stages", "FreeU Schedule", "FreeU Version"),
    *(f"freeu_{name}" for name in ("enabled", "b1", "b2", "s1", "s2", "start", "end")),
)
"""Fields that hold FreeU's settings: those of freeu, of sd-webui-freeu and of Forge."""
REGION_FIELD = "FreeU Region"
"""Says that FreeU acted in a region alone, by the first digits of the mask's SHA-256."""
_OF_FORGE = {"b1": "", "b2": "", "s1": "", "s2": "", "start": "0", "end": "1"}
"""What Forge says, and the value where an older one says nothing; the four factors are always there."""
_OF_STAGE = {
    "backbone_factor": 1.0,
    "skip_factor": 1.0,
    "backbone_offset": 0.0,
    "backbone_width": 0.5,
    "skip_cutoff": 0.0,
    "skip_high_end_factor": 1.0,
}
"""What sd-webui-freeu says of a stage, and the value where it says nothing."""
_ALIKE = {
    "mask": "window",
    "threshold": 1,
    "share": "none",
    "guidance": "both",
    "ramp": 0.0,
    "unit": "fraction",
    "over_time": "frame",
    "time_threshold": 0,
    "control": "after",
    "dc": "scale",
    "skip_gain": 1.0,
    "sites": (),
    "skip_gain_ends": (),
    "frame_strength": (),
}
"""Settings of FreeU for which sd-webui-freeu has no words, and the values at which it needs none."""

_TUPLE = re.compile(r"\(\s*(\S{1,20})\s*,\s*(\S{1,20})\s*,\s*(\S{1,20})\s*,\s*(\S{1,20})\s*\)")
"""Fooocus' four numbers, in the order of ``_FOUR``."""
_COMMON = 32
"""Base widths of U-Nets are multiples of it."""
_LAST_TIMESTEP = 999.0
_FOUR = ("b1", "b2", "s1", "s2")


def freeu_fields(config: FreeUConfig, region: str | None = None) -> dict[str, str]:
    """FreeU's settings: exactly under "FreeU", and in the words of sd-webui-freeu where it can be told to do the same.

    That extension amplifies one channel more than half of them, and has no regions.

    Args:
        config: the settings.
        region: SHA-256 of the mask that says where FreeU acted; None: everywhere.
    """
    if region is not None:
        return {"FreeU": str(config), REGION_FIELD: region[:16]}
    found = {"FreeU": str(config)}
    by_channels = config.profile != "diffusers" and config.channels in (None, "first", "first-inclusive")
    if not by_channels or config.windows or any(getattr(config, name) != value for name, value in _ALIKE.items()):
        return found
    stages = []
    for stage in config.stages:
        factors = {"backbone_factor": stage.b, "skip_factor": stage.s, "skip_high_end_factor": config.high_gain}
        scaled = {name: round(1.0 + config.strength * (value - 1.0), 6) for name, value in factors.items()}
        stages.append({name: value for name, value in scaled.items() if value != 1.0})
    return found | {
        "FreeU Stages": json.dumps(stages),
        "FreeU Schedule": f"{config.start}, {config.end}, 0.0",
        "FreeU Version": str(config.version),
    }


def said_in(config: FreeUConfig, dialect: str) -> dict[str, str]:
    """FreeU's settings in the words of a dialect; of "comfyui" the class of a node and its factors.

    sd-webui-freeu's windows of channels are those of U-Nets of Stable Diffusion, with 1280, 640 and 320 channels.

    Raises:
        FreeUValueError: the dialect cannot say them, with the first field that is in the way.

    >>> said_in(FreeUConfig(b=(1.2, 1.4), s=(0.9, 0.2)), "fooocus")
    {'FreeU': '(1.2, 1.4, 0.9, 0.2)'}
    """
    if dialect == "freeu":
        return {"FreeU": str(config)}
    _check(config, dialect)
    stages = [stage.toward_identity(config.strength) for stage in config.stages]
    if dialect == "a1111":
        found = []
        for number, stage in enumerate(stages):
            names = {"backbone_factor": stage.b, "skip_factor": stage.s}
            high = 1.0 + config.strength * (config.high_gain - 1.0)
            one = {name: value for name, value in {**names, "skip_high_end_factor": high}.items() if value != 1.0}
            if config.channels == "first" and stage.b != 1.0:
                one["backbone_width"] = 0.5 - 1.0 / (1280 >> number)
            found.append(one)
        schedule = f"{config.start}, {config.end}, 0.0"
        version = str(config.version)
        return {"FreeU Stages": json.dumps(found), "FreeU Schedule": schedule, "FreeU Version": version}
    four = dict(zip(_FOUR, (stages[0].b, stages[1].b, stages[0].s, stages[1].s), strict=True))
    target = tool(dialect)
    for name, value in four.items():
        low, high = target.b_range if name[0] == "b" else target.s_range
        if not low <= value <= high:
            raise FreeUValueError(f"{dialect} takes {name} from {low:g} to {high:g}, and here it is {value:g}")
    if dialect == "fooocus":
        return {"FreeU": f"({', '.join(map(repr, four.values()))})"}
    if dialect == "sdnext":
        if target.zero_is_off and 0.0 in four.values():
            raise FreeUValueError("sdnext is off as a whole where a factor is 0")
        return {"FreeU": " ".join(f"{name}={value!r}" for name, value in four.items())}
    if dialect == "comfyui":
        return {"class_type": "FreeU_V2" if config.version == 2 else "FreeU"} | {n: repr(v) for n, v in four.items()}
    more = {"start": config.start, "end": config.end}
    return {"freeu_enabled": "True"} | {f"freeu_{name}": repr(value) for name, value in {**four, **more}.items()}


def _check(config: FreeUConfig, dialect: str) -> None:
    """Refuse what a dialect has no words for."""
    wanted: dict[str, Any] = dict(_ALIKE)
    wanted |= {"b_window": (0.0, 1.0), "s_window": (0.0, 1.0)}
    if dialect != "a1111":
        wanted |= {"high_gain": 1.0, "channels": "first"}
    if dialect not in ("a1111", "forge"):
        wanted |= {"start": 0.0, "end": 1.0}
    for name, value in wanted.items():
        given = getattr(config, name)
        if given != value:
            raise FreeUValueError(f"{dialect} has no words for {name}={given!r}")
    by_block = config.profile == "diffusers"
    if by_block != (dialect == "sdnext"):
        kind = "diffusers" if dialect == "sdnext" else "official, comfyui or a1111"
        raise FreeUValueError(f"{dialect} acts where profile {kind} does, and here it is {config.profile}")
    if config.version not in tool(dialect).versions:
        raise FreeUValueError(f"{dialect} has no version {config.version}")
    if config.channels not in ("first", "first-inclusive"):
        raise FreeUValueError(f"{dialect} has no words for channels={config.channels!r}")
    if dialect != "a1111" and any(not stage.identity for stage in config.stages[2:]):
        raise FreeUValueError(f"{dialect} has two stages, and here the third has factors of its own")


def freeu_of(fields: Mapping[str, str]) -> FreeUConfig | None:
    """FreeU's settings in an image's fields; None where there are none.

    Those of freeu, SD.Next and Fooocus stand under "FreeU", those of sd-webui-freeu and Forge under names of theirs,
    and those of our node in ComfyUI are its inputs.

    Raises:
        FreeUValueError: settings that are damaged, or that freeu has no words for.

    >>> str(freeu_of({"FreeU": "(1.01, 1.02, 0.99, 0.95)"}))
    'b1=1.01 b2=1.02 s1=0.99 s2=0.95 v=2'
    """
    if OWN_NODE in fields:
        return _of_node(fields[OWN_NODE])
    if "FreeU" in fields:
        return _of_text(fields["FreeU"].strip())
    if "FreeU Stages" in fields:
        return _of_webui(fields)
    if fields.get("freeu_enabled") == "True":  # Forge computes as ComfyUI's FreeU_V2
        b1, b2, s1, s2, start, end = (
            _number(f"freeu_{name}", fields.get(f"freeu_{name}", usual)) for name, usual in _OF_FORGE.items()
        )
        return FreeUConfig(b=(b1, b2), s=(s1, s2), profile="comfyui", start=start, end=end)
    return None


def freeu_form(fields: Mapping[str, str]) -> str | None:
    """The dialect of FreeU's settings in an image's fields; None where there are none."""
    if OWN_NODE in fields:
        return "comfyui"
    if "FreeU" in fields:
        text = fields["FreeU"].strip()
        return "fooocus" if text.startswith("(") else "freeu" if _names(text) & {"v", "version"} else "sdnext"
    if "FreeU Stages" in fields:
        return "a1111"
    return "forge" if "freeu_enabled" in fields else None


def over_widgets(text: str, b1: float, b2: float, s1: float, s2: float, version: int) -> FreeUConfig:
    """The settings of our node in ComfyUI: a text, JSON or in the short form, wins over the widgets.

    Raises:
        FreeUValueError: a text that is no configuration, or a value out of range.
    """
    text = text.strip()
    if text.startswith("{"):
        given = parse_json(text, "config")
        assert isinstance(given, dict), "it begins with a brace"
        usual: dict[str, Any] = {"b": [b1, b2], "s": [s1, s2], "version": version, "profile": "comfyui"}
        if isinstance(given.get("profile"), str) and given["profile"] not in ("comfyui", "official"):
            del usual["version"]  # another tool's name says its version too
        return FreeUConfig.from_dict({**usual, **given})
    words = {"b1": b1, "b2": b2, "s1": s1, "s2": s2, "v": version, "profile": "comfyui"}
    named = _names(text)
    if "version" in named or "profile" in named:
        del words["v"]
    usual_words = [f"{name}={value}" for name, value in words.items() if name not in named]
    return FreeUConfig.parse(" ".join([*usual_words, text]))


def _names(text: str) -> set[str]:
    """What a text in the short form names."""
    return {word.partition("=")[0] for word in text.replace(",", " ").split()}


def _of_text(text: str) -> FreeUConfig:
    """The field "FreeU": our short form says its version, that of SD.Next does not, and Fooocus writes a tuple."""
    if text.startswith("("):
        match = _TUPLE.fullmatch(text)
        if match is None:
            raise FreeUValueError("FreeU is no tuple of four numbers")
        b1, b2, s1, s2 = (_number(name, value) for name, value in zip(_FOUR, match.groups(), strict=True))
        return FreeUConfig(b=(b1, b2), s=(s1, s2), version=2)
    if _names(text) == set(_FOUR):  # SD.Next calls enable_freeu of diffusers
        return FreeUConfig.parse(f"{text} profile=diffusers")
    return FreeUConfig.parse(text)


def _of_node(text: str) -> FreeUConfig:
    """The inputs of our node; its start and end are percents of ComfyUI's noise schedule of 1000 timesteps."""
    inputs = parse_json(text, OWN_NODE)
    if not isinstance(inputs, dict):
        raise FreeUValueError(f"{OWN_NODE} has no inputs")
    b1, b2, s1, s2 = (_number(name, str(inputs.get(name, ""))) for name in _FOUR)
    version = _number("version", str(inputs.get("version", "2")))
    own = inputs.get("config", "")
    if not isinstance(own, str):
        raise FreeUValueError(f"config of {OWN_NODE} is no text")
    config = over_widgets(own, b1, b2, s1, s2, int(version) if version in (1.0, 2.0) else -1)
    start, end = (_number(name, str(inputs.get(name, usual))) for name, usual in (("start", 0.0), ("end", 1.0)))
    if (start, end) == (0.0, 1.0):
        return config
    if not config.schedule.whole:
        raise FreeUValueError(f"{OWN_NODE} has a window of its own and one in its config: both have no counterpart")
    return config.replace(unit="timestep", start=_LAST_TIMESTEP * (1.0 - start), end=_LAST_TIMESTEP * (1.0 - end))


def of_extension(data: Mapping[str, Any]) -> dict[str, str]:
    """The fields that sd-webui-freeu's settings as a dictionary mean, such as its API takes; none if it is off.

    Raises:
        FreeUValueError: no such dictionary.
    """
    stages = data.get("stage_infos")
    if not isinstance(stages, list):
        raise FreeUValueError("stage_infos is no list")
    if data.get("enable") is False:
        return {}
    start, end, smooth = (
        data.get(name, usual)
        for name, usual in (("start_ratio", 0.0), ("stop_ratio", 1.0), ("transition_smoothness", 0.0))
    )
    found = {"FreeU Stages": json.dumps(stages), "FreeU Schedule": f"{start}, {end}, {smooth}"}
    return found | {"FreeU Version": str(data.get("version", "1"))}


def _of_webui(fields: Mapping[str, str]) -> FreeUConfig:
    """The settings of sd-webui-freeu; starts and ends that are whole numbers are counted in steps there."""
    data = parse_json(fields["FreeU Stages"], "FreeU Stages")
    if not isinstance(data, list) or not 1 <= len(data) <= 3 or not all(isinstance(one, dict) for one in data):
        raise FreeUValueError("FreeU Stages is no list of up to three stages")
    stages = [{**_OF_STAGE, **one} for one in data]
    for stage in stages:
        for name in _OF_STAGE:
            if isinstance(stage[name], bool) or not isinstance(stage[name], (int, float)):
                raise FreeUValueError(f"{name} is no number")
    while len(stages) > 2 and stages[-1] == _OF_STAGE:
        stages.pop()
    stages += [dict(_OF_STAGE)] * (2 - len(stages))
    for name in ("backbone_offset", "skip_cutoff"):
        if any(stage[name] != _OF_STAGE[name] for stage in stages):
            raise FreeUValueError(f"{name} has no counterpart")
    high = {stage["skip_high_end_factor"] for stage in stages}
    if len(high) != 1:
        raise FreeUValueError("skip_high_end_factor differs by stage")
    parts = [part.strip() for part in fields.get("FreeU Schedule", "0.0, 1.0, 0.0").split(",")]
    if len(parts) != 3 or _number("FreeU Schedule", parts[2]) != 0.0:
        raise FreeUValueError("a smooth FreeU Schedule has no counterpart")
    start, end = (_when(part, fields) for part in parts[:2])
    version = _number("FreeU Version", fields.get("FreeU Version", "1"))
    return FreeUConfig(
        b=tuple(stage["backbone_factor"] for stage in stages),
        s=tuple(stage["skip_factor"] for stage in stages),
        version=int(version) if version in (1.0, 2.0) else -1,
        profile="a1111",
        channels=_channels(stages),
        high_gain=high.pop(),
        start=start,
        end=end,
    )


def _channels(stages: list[dict[str, Any]]) -> str | None:
    """The channels of widths: one half of C is C // 2 + 1 of them there, and 1/2 - 1/C is C // 2, for an even C.

    The C of its stages are 4, 2 and 1 times a base width. A stage alone could mean any width, such as .45 for a C of
    20: there the base must be one that U-Nets have.
    """
    widths = [(4 >> place, one["backbone_width"]) for place, one in enumerate(stages) if one["backbone_factor"] != 1.0]
    if {width for _, width in widths} <= {_OF_STAGE["backbone_width"]}:
        return None
    if all(isinstance(width, float) and 0.0 <= width < 0.5 for _, width in widths):
        bases = [1.0 / (0.5 - width) / times for times, width in widths]
        base = round(bases[0])
        alike = all(abs(one - base) < 1e-3 * base for one in bases)
        if alike and 0 < base < 1e4 and (len(bases) > 1 or base % _COMMON == 0):
            return "first"
    raise FreeUValueError("backbone_width has no counterpart")


def _when(text: str, fields: Mapping[str, str]) -> float:
    """A fraction of the steps."""
    number = _number("FreeU Schedule", text)
    return number / max(1.0, _number("Steps", fields.get("Steps", ""))) if text.isdigit() else number


def _number(name: str, text: str) -> float:
    try:
        return float(text[:40])
    except ValueError:
        raise FreeUValueError(f"{name} is no number") from None

"""The settings inside an image in the words of A1111 and of its FreeU extension, which other tools read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.foreign.parameters import Parameters, write_parameters
from freeu.json_files import parse_json
from freeu.pipelines.models.schedulers import SAMPLERS, sampler_name

KARRAS = "Karras"
_A1111 = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "pndm": "PLMS",
    "euler": "Euler",
    "euler-a": "Euler a",
    "heun": "Heun",
    "dpm++2s": "DPM++ 2S",
    "dpm++2m": "DPM++ 2M",
    "dpm++2m-sde": "DPM++ 2M SDE",
    "deis": "DEIS",
    "unipc": "UniPC",
    "lcm": "LCM",
    "tcd": "TCD",
}
"""What A1111 or Forge call a sampler of ours; those with Karras sigmas have a field of their own for it."""
_KARRAS_UNLESS_TOLD = "DPM++ 2M"
"""What these samplers of A1111 mean by the schedule "Automatic"."""
REGION_FIELD = "FreeU Region"
"""Says that FreeU acted in a region alone, by the first digits of the mask's SHA-256."""
FREEU_FIELDS = (
    *("FreeU", "FreeU Stages", "FreeU Schedule", "FreeU Version"),
    *(f"freeu_{name}" for name in ("enabled", "b1", "b2", "s1", "s2", "start", "end")),
)
"""Fields that hold FreeU's settings: those of freeu, of sd-webui-freeu and of Forge."""
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


def infotext(settings: Mapping[str, Any]) -> str:
    """The text ``parameters`` of an image.

    Args:
        settings: what freeu writes into its own chunk; see ``executors.settings_of``.
    """
    fields = {"Steps": str(settings["steps"]), **_sampler(settings)}
    fields["CFG scale"] = f"{settings['guidance']:g}"
    fields["Seed"] = str(settings["seed"])
    fields["Size"] = f"{settings['width']}x{settings['height']}"
    fields["Model"] = str(settings["model"]["name"])
    if settings.get("image_strength") is not None:
        fields["Denoising strength"] = f"{settings['image_strength']:g}"
    control = settings.get("control")
    if control:
        fields["ControlNet 0"] = (
            f"Module: {control['preprocess']}, Model: {control['name']}, Weight: {control['scale']:g}, "
            f"Guidance Start: {control['start']:g}, Guidance End: {control['end']:g}"
        )
    if settings.get("config") is not None:
        fields |= freeu_fields(FreeUConfig.from_dict(settings["config"]), settings.get("region_sha256"))
    fields["Version"] = f"freeu {settings['environment'].get('freeu', '')}".strip()
    loras = "".join(f" <lora:{one['name']}:{one['weight']:g}>" for one in settings.get("loras", ()))
    return write_parameters(Parameters(settings["prompt"] + loras, settings["negative_prompt"], fields))


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


def _sampler(settings: Mapping[str, Any]) -> dict[str, str]:
    """Sampler and schedule by the names of A1111; of a model's own sampler those of the class and settings it has."""
    name = settings["scheduler"] or own_sampler(settings)
    if name is None:
        used = (settings.get("used") or {}).get("sampler")
        return {"Sampler": used["class"].removesuffix("Scheduler")} if used else {}
    plain = name.removesuffix("-karras")
    found = {"Sampler": _A1111.get(plain, plain)}
    if plain != name:
        found["Schedule type"] = KARRAS
    elif found["Sampler"].startswith(_KARRAS_UNLESS_TOLD):
        found["Schedule type"] = "Uniform"
    return found


def own_sampler(settings: Mapping[str, Any]) -> str | None:
    """The name of the sampler that was used where none was asked for, by freeu's own settings; None if unknown."""
    used = (settings.get("used") or {}).get("sampler")
    return _name_of(used) if used else None


def _name_of(used: Mapping[str, Any]) -> str | None:
    """The sampler of the table with this class and these settings; the one with the most settings in common."""
    known = {name: one for name, one in SAMPLERS.items() if one.cls == used["class"]}
    switches = {key for one in known.values() for key in one.settings if key.startswith("use_")}
    fitting = {
        name: len(one.settings)
        for name, one in known.items()
        if all(used["settings"].get(key) == value for key, value in one.settings.items())
        and all(not used["settings"].get(key) or key in one.settings for key in switches)
    }
    return max(fitting, key=lambda name: fitting[name]) if fitting else None


def sampler_of(fields: Mapping[str, str]) -> str | None:
    """Our name of the sampler that settings of A1111 name, or None where there is none such.

    Raises:
        FreeUValueError: a sampler or schedule that freeu does not have.
    """
    if "Sampler" not in fields:
        return None
    schedule = fields.get("Schedule type", "")
    name = fields["Sampler"]
    if schedule == "Automatic" and name.startswith(_KARRAS_UNLESS_TOLD):
        schedule = KARRAS
    if schedule not in ("", "Automatic", "Normal", "Uniform"):
        name += f" {schedule}"
    elif name == _A1111["pndm"]:
        return "pndm"
    return sampler_name(name)


def freeu_of(fields: Mapping[str, str]) -> FreeUConfig | None:
    """FreeU's settings in an image's fields, as freeu, sd-webui-freeu or Forge write them; None where there are none.

    Raises:
        FreeUValueError: settings that are damaged, or that freeu has no words for.
    """
    if "FreeU" in fields:
        return FreeUConfig.parse(fields["FreeU"])
    if "FreeU Stages" in fields:
        return _of_webui(fields)
    if fields.get("freeu_enabled") == "True":  # Forge computes as ComfyUI's FreeU_V2
        b1, b2, s1, s2, start, end = (
            _number(f"freeu_{name}", fields.get(f"freeu_{name}", usual)) for name, usual in _OF_FORGE.items()
        )
        return FreeUConfig(b=(b1, b2), s=(s1, s2), profile="comfyui", start=start, end=end)
    return None


def _of_webui(fields: Mapping[str, str]) -> FreeUConfig:
    """The settings of sd-webui-freeu; starts and ends that are whole numbers are counted in steps there."""
    data = parse_json(fields["FreeU Stages"], "FreeU Stages")
    if not isinstance(data, list) or not 1 <= len(data) <= 3 or not all(isinstance(one, dict) for one in data):
        raise FreeUValueError("FreeU Stages is no list of up to three stages")
    stages = [{**_OF_STAGE, **one} for one in data]
    stages += [dict(_OF_STAGE)] * (2 - len(stages))
    for name in ("backbone_offset", "backbone_width", "skip_cutoff"):
        if any(stage[name] != _OF_STAGE[name] for stage in stages):
            raise FreeUValueError(f"{name} has no counterpart")
    high = {
        stage["skip_high_end_factor"] for stage in stages if isinstance(stage["skip_high_end_factor"], (int, float))
    }
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
        high_gain=high.pop(),
        start=start,
        end=end,
    )


def _when(text: str, fields: Mapping[str, str]) -> float:
    """A fraction of the steps."""
    number = _number("FreeU Schedule", text)
    return number / max(1.0, _number("Steps", fields.get("Steps", ""))) if text.isdigit() else number


def _number(name: str, text: str) -> float:
    try:
        return float(text[:40])
    except ValueError:
        raise FreeUValueError(f"{name} is no number") from None

"""The settings inside an image in the words of A1111 and of its FreeU extension, which other tools read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from freeu.config import FreeUConfig
from freeu.foreign.parameters import Parameters, write_parameters
from freeu.metadata.fields import freeu_fields
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

"""Samplers under the names that users know, as a table; diffusers' class and its settings are looked up at the end."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from freeu.errors import FreeUValueError, unknown_name
from freeu.extras import need


@dataclass(frozen=True)
class Sampler:
    """A class of diffusers and the settings that make it the sampler of this name."""

    cls: str
    settings: dict[str, Any] = field(default_factory=dict)


_KARRAS = {"use_karras_sigmas": True}
_SDE = {"algorithm_type": "sde-dpmsolver++"}

SAMPLERS = {
    "ddim": Sampler("DDIMScheduler"),
    "ddpm": Sampler("DDPMScheduler"),
    "pndm": Sampler("PNDMScheduler", {"skip_prk_steps": True}),  # as Stable Diffusion ships it
    "euler": Sampler("EulerDiscreteScheduler"),
    "euler-a": Sampler("EulerAncestralDiscreteScheduler"),
    "heun": Sampler("HeunDiscreteScheduler"),
    "dpm2": Sampler("KDPM2DiscreteScheduler"),
    "dpm2-a": Sampler("KDPM2AncestralDiscreteScheduler"),
    "lms": Sampler("LMSDiscreteScheduler"),
    "dpm++2s": Sampler("DPMSolverSinglestepScheduler"),
    "dpm++2m": Sampler("DPMSolverMultistepScheduler"),
    "dpm++2m-karras": Sampler("DPMSolverMultistepScheduler", _KARRAS),
    "dpm++2m-sde": Sampler("DPMSolverMultistepScheduler", _SDE),
    "dpm++2m-sde-karras": Sampler("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "deis": Sampler("DEISMultistepScheduler"),
    "unipc": Sampler("UniPCMultistepScheduler"),
    "lcm": Sampler("LCMScheduler"),
    "tcd": Sampler("TCDScheduler"),
}


SCHEDULES: dict[str, dict[str, Any]] = {
    "karras": _KARRAS,
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "sgm-uniform": {"timestep_spacing": "trailing"},
}
"""Schedules of sigmas or timesteps that a name may end in, as diffusers' own table maps those of A1111 and ComfyUI."""
_PLAIN_SCHEDULES = {
    "karras": "karras",
    "exponential": "exponential",
    "beta": "beta",
    "sgmuniform": "sgm-uniform",
    "simple": "sgm-uniform",
    "trailing": "sgm-uniform",
    "normal": "",
    "uniform": "",
    "automatic": "",
}
_OF_SIGMAS = ("euler", "heun", "dpm2", "dpm2-a", "lms", "dpm++2s", "dpm++2m", "dpm++2m-sde", "deis", "unipc")
"""Samplers that take other sigmas; the others take "sgm-uniform" alone."""
NEEDS_SCIPY = ("lms", "beta")

_ALIASES = {
    "eulerancestral": "euler-a",
    "dpm2ancestral": "dpm2-a",
    "dpm2a": "dpm2-a",
    "unipcbh2": "unipc",
    "plms": "pndm",
    "dpm++2msdegpu": "dpm++2m-sde",
}
"""Names of ComfyUI and A1111 for the same samplers, as ``_plain`` writes them."""
_NEAREST = {
    "dpm++sde": "dpm++2s",
    "dpm++sdegpu": "dpm++2s",
    "dpm++2sa": "dpm++2s",
    "dpm++2sancestral": "dpm++2s",
    "dpm++2msdeheun": "dpm++2m-sde",
    "dpm++3msde": "dpm++2m-sde",
    "dpm++3msdegpu": "dpm++2m-sde",
    "dpmfast": "dpm++2m",
    "dpmadaptive": "dpm++2m",
    "heun++2": "heun",
    "restart": "heun",
    "eulercfg++": "euler",
    "eulerancestralcfg++": "euler-a",
    "ddimcfg++": "ddim",
    "ipndm": "deis",
    "ipndmv": "deis",
}
"""Names of ComfyUI and A1111 for samplers that diffusers lacks, or that draw noise which no seed reproduces there."""


def _plain(name: str) -> str:
    """Without capitals, spaces, hyphens and underscores; "pp" of ComfyUI is "++"."""
    text = "".join(letter for letter in name.lower() if letter.isalnum() or letter == "+")
    return text.replace("dpmpp", "dpm++").replace("cfgpp", "cfg++").replace("heunpp", "heun++")


_BY_PLAIN_NAME = {**{_plain(name): name for name in SAMPLERS}, **_ALIASES}


def sampler_name(name: str) -> str:
    """The table's name for what a user wrote ("DPM++ 2M Karras", "dpmpp_2m karras", "Euler a SGM Uniform").

    Returns:
        a name of ``SAMPLERS``, or one with a name of ``SCHEDULES`` after a hyphen.

    Raises:
        FreeUValueError: an unknown name, one that diffusers lacks (with the nearest), or a schedule that it lacks.
    """
    plain = _plain(name)
    if plain in _BY_PLAIN_NAME:
        return _BY_PLAIN_NAME[plain]
    base, schedule = plain, ""
    for ending in _PLAIN_SCHEDULES:
        if plain.endswith(ending):
            base, schedule = plain.removesuffix(ending), _PLAIN_SCHEDULES[ending]
            break
    if not base:
        raise FreeUValueError(f"{name} is a schedule, which belongs to a sampler: write both, such as dpm++2m-karras")
    if base in _NEAREST:
        near = _joined(_NEAREST[base], schedule)
        raise FreeUValueError(f"diffusers has no sampler {name!r} that a seed reproduces: the nearest is {near}")
    if base not in _BY_PLAIN_NAME:
        raise unknown_name("scheduler", name, SAMPLERS)
    sampler = _BY_PLAIN_NAME[base]
    if schedule not in ("", "sgm-uniform") and sampler not in _OF_SIGMAS:
        raise FreeUValueError(f"{sampler} has no {schedule} sigmas in diffusers: {', '.join(_OF_SIGMAS)} have")
    return _joined(sampler, schedule)


def _joined(sampler: str, schedule: str) -> str:
    return f"{sampler}-{schedule}" if schedule else sampler


def sampler_of(name: str) -> Sampler:
    """The class and the settings of what ``sampler_name`` gave."""
    name = sampler_name(name)
    for schedule, settings in SCHEDULES.items():
        if name not in SAMPLERS and name.endswith(f"-{schedule}"):
            base = SAMPLERS[name.removesuffix(f"-{schedule}")]
            return Sampler(base.cls, {**base.settings, **settings})
    return SAMPLERS[name]


def check_sampler(name: str) -> None:
    """Everything that can be wrong with a sampler without a model.

    Raises:
        FreeUValueError: as ``sampler_name``, or scipy is missing, which some need.
    """
    found = sampler_name(name)
    if found.split("-")[0] in NEEDS_SCIPY or found.split("-")[-1] in NEEDS_SCIPY:
        need("eval", "scipy")


def set_sampler(pipe: Any, name: str) -> None:
    """Give a pipeline another scheduler, built from the settings of its own.

    Raises:
        FreeUValueError: unknown name, or a scheduler that cannot take over from the model's own (a flow-matching one).
    """
    import diffusers

    sampler = sampler_of(name)
    try:
        pipe.scheduler = getattr(diffusers, sampler.cls).from_config(pipe.scheduler.config, **sampler.settings)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        raise FreeUValueError(f"scheduler {name!r} does not work with this model: {error}") from None


PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def set_prediction(pipe: Any, prediction_type: str | None, zero_snr: bool = False) -> None:
    """What the scheduler takes the U-Net's output for; None and False leave it as it is.

    Args:
        prediction_type: one of ``PREDICTION_TYPES``.
        zero_snr: whether the noise schedule ends in pure noise.

    Raises:
        FreeUValueError: a scheduler that knows no such thing.
    """
    changes: dict[str, Any] = {} if prediction_type is None else {"prediction_type": prediction_type}
    if zero_snr:
        # Such a model begins with pure noise, which leading steps leave out.
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if not changes:
        return
    cls = type(pipe.scheduler)
    for name in changes:
        if name not in inspect.signature(cls.__init__).parameters:
            raise FreeUValueError(
                f"{cls.__name__} knows no {name}, which this model needs: give --scheduler euler or ddim"
            )
    try:
        pipe.scheduler = cls.from_config(pipe.scheduler.config, **changes)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise FreeUValueError(f"{cls.__name__} does not work with {changes}: {error}") from None


def fresh_scheduler(pipe: Any) -> None:
    """Rebuild the scheduler from its settings: no state of an earlier image can reach the next one."""
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)

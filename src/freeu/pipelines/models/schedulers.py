"""Samplers under the names that users know, as a table; diffusers' class and its settings are looked up at the end."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from freeu.errors import FreeUValueError, unknown_name


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


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "+")


_BY_PLAIN_NAME = {_plain(name): name for name in SAMPLERS}


def sampler_name(name: str) -> str:
    """The table's name for what a user wrote ("DPM++ 2M Karras"); unknown names raise ``FreeUValueError``."""
    try:
        return _BY_PLAIN_NAME[_plain(name)]
    except KeyError:
        raise unknown_name("scheduler", name, SAMPLERS) from None


def set_sampler(pipe: Any, name: str) -> None:
    """Give a pipeline another scheduler, built from the settings of its own.

    Raises:
        FreeUValueError: unknown name, or a scheduler that cannot take over from the model's own (a flow-matching one).
    """
    import diffusers

    sampler = SAMPLERS[sampler_name(name)]
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

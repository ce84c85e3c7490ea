"""Where in the denoising a call stands, from the timestep that the U-Net really receives."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from freeu.errors import FreeURuntimeError
from freeu.ops._checks import recording
from freeu.schedule import Schedule

_EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler")
_TRAIN_TIMESTEPS = 1000  # of a bare U-Net, whose configuration does not say; every Stable Diffusion was trained so


class PipelineRef:
    """A weak reference to a pipeline that a deep copy of that pipeline takes along to the copy."""

    def __init__(self, pipe: object | None) -> None:
        self._ref = weakref.ref(pipe) if pipe is not None else None

    def __call__(self) -> Any:
        return self._ref() if self._ref is not None else None

    def __deepcopy__(self, memo: dict[int, Any]) -> PipelineRef:
        pipe = self()
        return PipelineRef(memo.get(id(pipe), pipe))

    def __reduce__(self) -> tuple[type[PipelineRef], tuple[None]]:
        return (PipelineRef, (None,))


class Clock:
    """Turns a timestep into a position on a schedule.

    With a pipeline the position comes from its scheduler as it is at that moment: a fraction is the index of the
    timestep among the scheduler's timesteps over their number, so half of the steps are half under every spacing, and
    image-to-image at strength 0.5 begins at 0.5. For a bare U-Net a fraction is 1 - t / 1000.
    """

    def __init__(self, pipe: object | None = None, scheduler: object | None = None) -> None:
        self.pipe = PipelineRef(pipe)
        self._scheduler = scheduler

    @property
    def scheduler(self) -> Any:
        pipe = self.pipe()
        return self._scheduler if pipe is None else getattr(pipe, "scheduler", None)

    @property
    def _continuous(self) -> bool:
        """Whether the scheduler's timesteps are 0.25 log(sigma) (EDM's c_noise), as those of Stable Video Diffusion and
        of the schedulers named after EDM."""
        config = getattr(self.scheduler, "config", None)
        return getattr(config, "timestep_type", None) == "continuous" or type(self.scheduler).__name__ in _EDM

    def check(self, schedule: Schedule, continuous: bool = False) -> None:
        """Refuse a schedule where no scheduler can translate timesteps.

        Args:
            schedule: when FreeU is to act.
            continuous: whether the U-Net's timesteps are a function of the noise level.

        Raises:
            FreeURuntimeError: no pipeline and no scheduler were given, or the scheduler has no noise levels.
        """
        if continuous and schedule.unit == "fraction" and not schedule.whole and self.scheduler is None:
            raise FreeURuntimeError(
                "this U-Net's timesteps do not tell how much of the denoising is done: apply FreeU to the pipeline "
                "instead of its U-Net, or give scheduler=..."
            )
        if (
            schedule.unit == "sigma"
            and not self._continuous
            and getattr(self.scheduler, "alphas_cumprod", None) is None
        ):
            raise FreeURuntimeError(
                "a schedule by sigma needs the scheduler's noise levels (alphas_cumprod): apply FreeU to the pipeline "
                f"instead of its U-Net, or give scheduler=...; got {type(self.scheduler).__name__}"
            )

    def position(self, timestep: Tensor, unit: str) -> Tensor:
        """Position of a 0-d timestep in the schedule's unit, as a 0-d tensor; traceable by a compiler."""
        dtype = torch.float32 if timestep.device.type == "mps" else torch.float64  # that device has no float64
        t = timestep.to(dtype)
        if unit == "timestep":
            return t
        scheduler = self.scheduler
        if unit == "sigma" and self._continuous:
            return (4.0 * t).exp()
        if unit == "sigma":
            alphas = scheduler.alphas_cumprod.to(device=t.device, dtype=dtype)
            t = t.clamp(0, len(alphas) - 1)
            below, above = t.floor().long(), t.ceil().long()
            # By index_select: a compiler cannot take a place that is data out of brackets.
            first, second = alphas.index_select(0, torch.stack([below, above])).unbind()
            alpha = torch.lerp(first, second, t - t.floor())
            return ((1.0 - alpha) / alpha).sqrt()
        total = _TRAIN_TIMESTEPS
        if scheduler is not None:
            total = int(getattr(scheduler.config, "num_train_timesteps", total))
        by_time = 1.0 - t / total
        steps = getattr(scheduler, "timesteps", None)
        if steps is None or len(steps) == 0:
            return by_time
        times = torch.as_tensor(steps).to(dtype).to(t.device)
        distance = (times - t).abs()
        # Second-order schedulers name a timestep twice: distinct ones are counted.
        new = times.diff() != 0.0
        before = (new & (torch.arange(len(new), device=t.device) < distance.argmin())).sum()
        # A timestep that the scheduler did not choose (somebody else drives the U-Net) has no index.
        known = distance.min() <= total / len(steps)
        return torch.where(known, before.to(dtype) / (new.sum() + 1), by_time)


def tensor_weight(schedule: Schedule, position: Tensor) -> Tensor:
    """``Schedule.weight`` on a 0-d tensor, without branches on its value, so that it can be compiled."""
    sign = 1.0 if schedule.unit == "fraction" else -1.0
    weight = torch.ones_like(position)
    edges = []
    if schedule.rises:
        since = sign * (position - schedule.start)
        edges.append((since, since >= 0.0))
    if schedule.falls:
        left = sign * (schedule.end - position)
        edges.append((left, left > 0.0))
    for distance, inside in edges:
        if schedule.ramp > 0.0:
            x = (distance / schedule.ramp).clamp(0.0, 1.0)
            weight = weight * x * x * (3.0 - 2.0 * x)
        weight = weight * inside
    return weight


def one_timestep(value: Any) -> Tensor:
    """The one timestep of a call, as a 0-d tensor.

    Raises:
        FreeURuntimeError: the call has no timestep, or the samples of the batch have different ones.
    """
    if value is None:
        raise FreeURuntimeError("a schedule needs the timestep, and this call of the U-Net has none")
    t = torch.as_tensor(value)
    if t.dim() == 0:
        return t
    flat = t.flatten()
    if not recording() and bool((flat != flat[0]).any()):
        raise FreeURuntimeError(
            f"a schedule needs one timestep for the whole batch, got {flat.tolist()}: use start=0, end=1 in training"
        )
    return flat[0]

"""Where in the denoising a call stands, from the timestep that the U-Net really receives."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import torch
from torch import Tensor

from freeu.core.calls import Weights
from freeu.errors import FreeURuntimeError
from freeu.ops._checks import recording
from freeu.schedule import Schedule

_EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler")
_ENDS_AT_ZERO = ("DDPMWuerstchenScheduler",)  # the last of its timesteps is where the last step arrives
_TRAIN_TIMESTEPS = 1000  # of a bare U-Net, whose configuration does not say; every Stable Diffusion was trained so


class PipelineRef:
    """A weak reference to a pipeline that a deep copy of that pipeline takes along to the copy.

    A pickled U-Net does not take its pipeline along: the reference is then ``lost``, as it is when the pipeline is
    collected.
    """

    def __init__(self, pipe: object | None) -> None:
        self._known = pipe is not None
        try:
            self._ref: Any = weakref.ref(pipe) if pipe is not None else None
        except TypeError:  # an object with slots
            self._ref = lambda: pipe

    def __call__(self) -> Any:
        return self._ref() if self._ref is not None else None

    @property
    def lost(self) -> bool:
        """True if there was a pipeline and it cannot be asked any more."""
        return self._known and self() is None

    def __deepcopy__(self, memo: dict[int, Any]) -> PipelineRef:
        pipe = self()
        copied = PipelineRef(memo.get(id(pipe), pipe))
        copied._known = self._known
        return copied

    def __getstate__(self) -> bool:
        return self._known

    def __setstate__(self, known: bool) -> None:
        self._known, self._ref = known, None


class Clock:
    """Turns a timestep into a position on a schedule.

    With a pipeline the position comes from its scheduler as it is at that moment: a fraction is the index of the
    timestep among the scheduler's timesteps over their number, so half of the steps are half under every spacing, and
    image-to-image at strength 0.5 begins at 0.5. For a bare U-Net a fraction is 1 - t / 1000.

    The scheduler is kept when the pipeline is gone: one that was made of the same components goes on with it.

    Args:
        pipe: whose scheduler, as it is at each call, tells the position.
        scheduler: tells it instead, whatever the pipeline has.
    """

    def __init__(self, pipe: object | None = None, scheduler: object | None = None) -> None:
        self.pipe = PipelineRef(pipe)
        self._given = scheduler
        self._last = getattr(pipe, "scheduler", None)
        self._forgotten = False

    @property
    def scheduler(self) -> Any:
        if self._given is not None:
            return self._given
        now = getattr(self.pipe(), "scheduler", None)
        if now is None:
            return self._last
        if now is not self._last and not torch.compiler.is_compiling():
            self._last = now
        return now

    def __getstate__(self) -> dict[str, Any]:
        # One scheduler of a pipeline that is pickled as a whole stays one.
        return self.__dict__ | {"_last": self.scheduler if self._given is None else None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Clock:
        """A scheduler is copied with its pipeline; the copy of a U-Net alone is driven by the same scheduler."""
        copied = memo[id(self)] = Clock(scheduler=memo.get(id(self._given), self._given))
        pipe, scheduler = self.pipe(), self.scheduler
        copied.pipe = copy.deepcopy(self.pipe, memo)
        # Without the pipeline nobody knows whether what is being copied has a scheduler of its own.
        copied._forgotten = self._forgotten or (self._given is None and self.pipe.lost and id(scheduler) not in memo)
        if self._given is None and not copied._forgotten:
            together = id(pipe) in memo or id(scheduler) in memo
            copied._last = copy.deepcopy(scheduler, memo) if together else scheduler
        return copied

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
        """Position of a 0-d timestep in the schedule's unit, as a 0-d tensor; traceable by a compiler.

        Raises:
            FreeURuntimeError: the pipeline is gone and its scheduler with it; or the timestep is none of the
                scheduler's. Compiled code on an accelerator cannot raise: its position is NaN then.
        """
        dtype = torch.float32 if timestep.device.type == "mps" else torch.float64  # that device has no float64
        t = timestep.to(dtype)
        if unit == "timestep":
            return t
        scheduler = self.scheduler
        if scheduler is None and (self._forgotten or self.pipe.lost):
            raise FreeURuntimeError(
                f"the pipeline that FreeU was applied to is gone, and with it the scheduler that a schedule by {unit} "
                "needs: apply FreeU to the new pipeline, or give scheduler=..."
            )
        if unit == "sigma" and self._continuous:
            return (4.0 * t).exp()
        if unit == "sigma":
            if getattr(scheduler, "alphas_cumprod", None) is None:
                self.check(Schedule(1.0, 0.0, unit=unit))
            alphas = scheduler.alphas_cumprod.to(device=t.device, dtype=dtype)
            t = t.clamp(0, len(alphas) - 1)
            below, above = t.floor().long(), t.ceil().long()
            # By index_select: a compiler cannot take a place that is data out of brackets.
            first, second = alphas.index_select(0, torch.stack([below, above])).unbind()
            alpha = torch.lerp(first, second, t - t.floor())
            return ((1.0 - alpha) / alpha).sqrt()
        steps = getattr(scheduler, "timesteps", None)
        if steps is None or len(steps) == 0:
            total = _TRAIN_TIMESTEPS
            if scheduler is not None:
                total = int(getattr(scheduler.config, "num_train_timesteps", total))
            return 1.0 - t / total
        if self._given is None and _never_set(scheduler):
            raise FreeURuntimeError(
                f"the {type(scheduler).__name__} that FreeU goes by has no steps yet, so another one drives it: "
                "apply FreeU to the pipeline that runs, give scheduler=..., or use unit='timestep'"
            )
        times = torch.as_tensor(steps).to(dtype).to(t.device)
        if type(scheduler).__name__ in _ENDS_AT_ZERO:
            times = times[:-1]
        distance = (times - t).abs()
        # A timestep of half precision is rounded; that of another scheduler lies anywhere between those of this one.
        rounding = torch.finfo(timestep.dtype).eps * t.abs() if timestep.is_floating_point() else 0.0
        gap = (times.max() - times.min()) / max(len(times) - 1, 1)
        known = distance.min() <= 0.05 * gap + rounding + 1e-6
        # Second-order schedulers name a timestep twice: distinct ones are counted.
        new = times.diff() != 0.0
        before = (new & (torch.arange(len(new), device=t.device) < distance.argmin())).sum()
        return self._if_known(known, before.to(dtype) / (new.sum() + 1), timestep)

    def _if_known(self, known: Tensor, position: Tensor, timestep: Tensor) -> Tensor:
        """The position, unless the timestep is none of the scheduler's: then somebody else drives the U-Net."""
        message = (
            f"none of the timesteps of the {type(self.scheduler).__name__} that FreeU goes by: another one drives "
            "this U-Net. Apply FreeU to the pipeline that runs, give scheduler=..., or use unit='timestep'"
        )
        if not torch.compiler.is_compiling():
            if not known:
                raise FreeURuntimeError(f"timestep {float(timestep):g} is {message}")
        elif timestep.device.type == "cpu":
            torch._assert_async(known, f"the timestep is {message}")
        else:  # there an assertion would end the process
            position = torch.where(known, position, torch.nan)
        return position


def _never_set(scheduler: Any) -> bool:
    """True for a scheduler whose ``set_timesteps`` was never called, where it tells."""
    steps = getattr(scheduler, "num_inference_steps", 0)
    return steps is None and not getattr(scheduler, "custom_timesteps", False)


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


def tensor_weights(schedules: tuple[Schedule, Schedule, Schedule], position: Tensor) -> Weights:
    """``FreeUConfig.weights`` on a 0-d tensor; one tensor twice where neither has a window of its own."""
    both, *own = schedules
    weight = tensor_weight(both, position)
    return Weights(*[weight if one.whole else weight * tensor_weight(one, position) for one in own])


def one_timestep(value: Any) -> Tensor:
    """The one timestep of a call, as a 0-d tensor.

    Raises:
        FreeURuntimeError: the call has no timestep, or the samples of the batch have different ones.
    """
    if value is None:
        raise FreeURuntimeError("a schedule needs the timestep, and this call of the U-Net has none")
    # A number is put on the CPU whatever the default device is: no work of it belongs on an accelerator.
    t = value if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")
    if t.dim() == 0:
        return t
    flat = t.flatten()
    if not recording() and bool((flat != flat[0]).any()):
        raise FreeURuntimeError(
            f"a schedule needs one timestep for the whole batch, got {flat.tolist()}: use start=0, end=1 in training"
        )
    return flat[0]

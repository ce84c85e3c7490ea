"""Denoising steps of any scheduler, in which the predicted clean latents (x_0) can be changed.

The constraints change the U-Net's prediction of the clean latents, x_{t->0} in the paper. The scheduler's own step is
used: the latents after it are moved by alpha (changed - predicted), where alpha is the signal level in them. For DDIM
this is what the official code does, which replaces the prediction and keeps the direction of the noise; for other
solvers it is the same to first order. Solvers that restart from older latents (Heun and UniPC in their corrector steps,
PNDM in its first two calls) lose some of the change. PNDM's first step is made twice by diffusers while image-to-image
truncates the schedule, so its images keep noise, here as in diffusers: use DDIM.
"""

from __future__ import annotations

import copy
import inspect
import math
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.pipelines.models.schedulers import fresh_scheduler

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class Steps:
    """The steps of one image.

    Args:
        pipe: its scheduler is rebuilt from its config, so that no state of an earlier image is carried over.
        steps: of the full schedule.
        strength: denoising strength, above 0 to 1: the last ``int(steps * strength)`` steps are made.
        device: of the latents.
        generator: for schedulers that add noise.

    Attributes:
        times: the timestep of each call of the U-Net, shape (total,).

    Raises:
        FreeUValueError: a scheduler with an unknown prediction type, such as for flow matching.
    """

    def __init__(
        self, pipe: Any, steps: int, strength: float, device: torch.device, generator: torch.Generator
    ) -> None:
        fresh_scheduler(pipe)
        self.scheduler: Any = pipe.scheduler
        self.prediction = str(getattr(self.scheduler.config, "prediction_type", None))
        if self.prediction not in PREDICTIONS:
            raise FreeUValueError(
                f"{type(self.scheduler).__name__} predicts {self.prediction}: key frames need a scheduler of "
                f"{', '.join(PREDICTIONS)}, such as DDIM"
            )
        self.scheduler.set_timesteps(steps, device=device)
        self._untouched = copy.deepcopy(self.scheduler)  # for noise levels: the other one counts its steps
        first = (steps - int(steps * strength)) * self.scheduler.order
        self.times: Tensor = self.scheduler.timesteps[first:]
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(first)
        known = inspect.signature(self.scheduler.step).parameters
        fixed = {"eta": 0.0, "generator": generator}  # as diffusers' pipelines do
        self._more = {name: value for name, value in fixed.items() if name in known}

    def __len__(self) -> int:
        return len(self.times)

    def noisy(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Latents noised to the level of the first step; shapes as given."""
        found: Tensor = self.scheduler.add_noise(latents, noise, self.times[:1])
        return found

    def scaled(self, latents: Tensor, step: int) -> Tensor:
        """Latents scaled as input of the U-Net."""
        found: Tensor = self.scheduler.scale_model_input(latents, self.times[step])
        return found

    def clean(self, output: Tensor, latents: Tensor, step: int) -> Tensor:
        """The clean latents that the U-Net's output predicts, x_{t->0}, float32, the shape of ``latents``.

        Args:
            output: of the U-Net, after guidance.
            latents: before the step.
        """
        signal, noise = self._levels(step)
        whole = math.hypot(signal, noise)  # not 1 for schedulers that let the noise grow, such as Euler's
        latents, output = latents.float(), output.float()
        if self.prediction == "sample":
            return output
        if self.prediction == "epsilon":
            return (latents - noise * output) / signal
        return (signal * latents / whole - noise * output) / whole

    def step(self, output: Tensor, latents: Tensor, step: int) -> Tensor:
        """The latents after a step; steps must be made in order."""
        found: Tensor = self.scheduler.step(output, self.times[step], latents, **self._more, return_dict=False)[0]
        return found

    def moved(self, latents: Tensor, change: Tensor, step: int) -> Tensor:
        """The latents after a step if the U-Net's clean prediction had been larger by ``change``."""
        signal = self._levels(step + 1)[0] if step + 1 < len(self) else 1.0
        found: Tensor = latents.float() + signal * change
        return found.to(latents.dtype)

    def _levels(self, step: int) -> tuple[float, float]:
        """Signal and noise level of the latents before a step, from the scheduler's own ``add_noise``."""
        import torch

        pair = torch.eye(2, dtype=torch.float32, device=self.times.device).reshape(2, 2, 1, 1)
        time = self.times[step : step + 1]
        signal, noise = self._untouched.add_noise(pair[:1], pair[1:], time).flatten().tolist()
        return signal, noise

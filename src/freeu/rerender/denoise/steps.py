"""Denoising with the scheduler of the pipeline, whatever it is, so that what the U-Net believes can be changed.

The constraints change the image without noise that the U-Net predicts, x_{t->0} in the paper. A scheduler's step is
never rewritten: the latents after it are moved by alpha (changed - predicted), where alpha is the share of the image
in them. For DDIM this is what the official code does, which replaces the prediction and keeps the direction of the
noise; for other solvers it is the same to first order. Those that begin again from older latents (Heun and UniPC in
their corrections, PNDM in its first two calls) lose some of it. With PNDM, whose first step diffusers makes twice while
image-to-image cuts the schedule, drawings keep noise as they do in diffusers: DDIM is the better choice.
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
        pipe: its scheduler is rebuilt from its settings, so that no state of an earlier image reaches this one.
        steps: of the whole schedule.
        strength: how much of it is made, above 0 to 1; what is left out is the beginning.
        device: where the latents are.
        generator: for schedulers that add noise.

    Attributes:
        times: the timestep of each call of the U-Net, shape (total,).

    Raises:
        FreeUValueError: a scheduler whose prediction is unknown, as those for flow matching.
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
        self._untouched = copy.deepcopy(self.scheduler)  # tells noise levels; the other keeps count of its steps
        first = (steps - int(steps * strength)) * self.scheduler.order
        self.times: Tensor = self.scheduler.timesteps[first:]
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(first)
        known = inspect.signature(self.scheduler.step).parameters
        settled = {"eta": 0.0, "generator": generator}  # as diffusers' pipelines do
        self._more = {name: value for name, value in settled.items() if name in known}

    def __len__(self) -> int:
        return len(self.times)

    def noisy(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Latents with the noise that the first step expects; shapes as given."""
        found: Tensor = self.scheduler.add_noise(latents, noise, self.times[:1])
        return found

    def scaled(self, latents: Tensor, step: int) -> Tensor:
        """What the U-Net is shown."""
        found: Tensor = self.scheduler.scale_model_input(latents, self.times[step])
        return found

    def clean(self, output: Tensor, latents: Tensor, step: int) -> Tensor:
        """The image without noise that the U-Net's output means, x_{t->0} float32, the shape of ``latents``.

        Args:
            output: of the U-Net, after guidance.
            latents: before the step.
        """
        picture, noise = self._levels(step)
        whole = math.hypot(picture, noise)  # not 1 for schedulers that let the noise grow, such as Euler's
        latents, output = latents.float(), output.float()
        if self.prediction == "sample":
            return output
        if self.prediction == "epsilon":
            return (latents - noise * output) / picture
        return (picture * latents / whole - noise * output) / whole

    def step(self, output: Tensor, latents: Tensor, step: int) -> Tensor:
        """The latents after a step, which are made in order."""
        found: Tensor = self.scheduler.step(output, self.times[step], latents, **self._more, return_dict=False)[0]
        return found

    def moved(self, latents: Tensor, change: Tensor, step: int) -> Tensor:
        """Latents after a step for which the U-Net had predicted ``change`` more in the image without noise."""
        picture = self._levels(step + 1)[0] if step + 1 < len(self) else 1.0
        found: Tensor = latents.float() + picture * change
        return found.to(latents.dtype)

    def _levels(self, step: int) -> tuple[float, float]:
        """The shares of image and noise in the latents before a step, asked of the scheduler's own ``add_noise``."""
        import torch

        pair = torch.eye(2, dtype=torch.float32, device=self.times.device).reshape(2, 2, 1, 1)
        time = self.times[step : step + 1]
        picture, noise = self._untouched.add_noise(pair[:1], pair[1:], time).flatten().tolist()
        return picture, noise

"""A resumable training run. Step n depends on the seed, n and the weights alone, so a resumed run is bit-identical."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.personalize.training.checkpoint import Checkpoint, TrainingState
from freeu.personalize.training.signals import StopSignals

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Parameter

CHECKPOINT = "checkpoint"
"""Name of the checkpoint's folder inside the folder of a training."""

AtStep = Callable[[int, Mapping[str, float]], None]
"""Called after each step, and once at the start: how many steps are made, and the losses of the last one."""


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings of AdamW, its learning rate schedule, and how often a checkpoint is written.

    Args:
        steps: of the optimizer.
        learning_rate: the highest.
        warmup: steps of linear warm-up to it.
        cosine: whether the rate falls to zero along half a cosine after that; else it is constant.
        betas, weight_decay, epsilon: of AdamW (arXiv:1711.05101); the defaults are those of torch.
        max_grad_norm: norm to which gradients are clipped.
        checkpoint_steps: steps between checkpoints.
    """

    steps: int
    learning_rate: float
    warmup: int = 0
    cosine: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    checkpoint_steps: int = 100

    def rate(self, step: int) -> float:
        """Learning rate of the next step after ``step`` steps."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        done = max(0.0, step - self.warmup) / max(1, self.steps - self.warmup)
        fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, done)) if self.cosine else 1.0
        return self.learning_rate * warm * fall


def seed_of(seed: int, *purpose: object) -> int:
    """A seed for one purpose, such as ``seed_of(0, "noise", 17)``: 63 bits of a SHA-256, the same on every machine."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_of(seed: int, *purpose: object) -> torch.Generator:
    """A torch generator, on the CPU, for one purpose."""
    import torch

    return torch.Generator("cpu").manual_seed(seed_of(seed, *purpose))


def batch_rows(seed: int, count: int, batch: int, step: int) -> list[int]:
    """Which of ``count`` examples are in the batch of a step: all of them, reshuffled every epoch.

    Args:
        count, batch: at least 1; a batch may be longer than an epoch.
    """
    found = []
    for place in range(step * batch, (step + 1) * batch):
        order = list(range(count))
        random.Random(seed_of(seed, "order", count, place // count)).shuffle(order)
        found.append(order[place % count])
    return found


class Training:
    """Steps of AdamW on named parameters, with checkpoints.

    Args:
        parameters: to be trained, by name; all require gradients. They are changed in place.
        losses_of: the losses of a step by name, which are added; ``step`` counts from 0. Its random numbers must come
            from ``generator_of(seed, ..., step)``, or from torch's own generators, which are seeded for every step.
        optimizer: see ``OptimizerSettings``.
        folder: of the training; the state is kept in ``folder/checkpoint``.
        identity: see ``Checkpoint``. Optimizer settings and seed are added to it; the number of steps is no part of it
            while the learning rate is constant, so that a training can be made longer.
        seed: of all random numbers.
        after_step: called when the optimizer has changed the parameters, for instance to restore rows of an embedding
            that are not trained; it must depend on the parameters alone.
        share: factor of the learning rate, for a parameter's name.

    Attributes:
        step: how many steps are made.
        losses: every step's losses by name.
        seconds: of training so far, over all runs.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        losses_of: Callable[[int], Mapping[str, Tensor]],
        optimizer: OptimizerSettings,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        seed: int = 0,
        after_step: Callable[[], None] = lambda: None,
        share: Callable[[str], float] = lambda name: 1.0,
    ) -> None:
        import torch

        assert parameters, "there must be something to train"
        self.parameters = dict(parameters)
        self.settings, self.seed = optimizer, seed
        self.checkpoint = Checkpoint(folder / CHECKPOINT, {**identity, "seed": seed, **_identity_of(optimizer)})
        self.step, self.seconds = 0, 0.0
        self._saved = 0  # the step of the checkpoint
        self.losses: dict[str, list[float]] = {}
        self._losses_of, self._after_step = losses_of, after_step
        self._shares = {name: share(name) for name in self.parameters}
        self._optimizer = torch.optim.AdamW(
            [{"params": [value], "name": name} for name, value in self.parameters.items()],
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            eps=optimizer.epsilon,
            weight_decay=optimizer.weight_decay,
            fused=True,
        )

    @property
    def finished(self) -> bool:
        """Whether all steps are made."""
        return self.step >= self.settings.steps

    def resume(self) -> bool:
        """Resume from the checkpoint, if there is one.

        Raises:
            FreeUValueError: the checkpoint is damaged, or of another training.
        """
        import torch

        state = self.checkpoint.read()
        if state is None:
            return False
        wanted = {f"weights/{name}": value.shape for name, value in self.parameters.items()}
        found = {name: value.shape for name, value in state.tensors.items() if name.startswith("weights/")}
        if wanted != found:
            raise FreeUValueError(
                f"the checkpoint {self.checkpoint.folder} holds other weights than this training has "
                f"({len(found)} there, {len(wanted)} here): name a folder that does not exist yet"
            )
        for name, value in self.parameters.items():
            with torch.no_grad():
                value.copy_(state.tensors[f"weights/{name}"])
            self._optimizer.state[value] = {
                "step": torch.tensor(float(state.step), device=value.device),
                **{part: state.tensors[f"{part}/{name}"].to(value.device) for part in ("exp_avg", "exp_avg_sq")},
            }
        self.step, self.losses, self.seconds = state.step, state.series, state.seconds
        self._saved = self.step
        return True

    def save(self) -> None:
        """Write the checkpoint, unless it is there; before the first step there is none."""
        if self.step == self._saved:
            return
        tensors: dict[str, Tensor] = {}
        for name, value in self.parameters.items():
            kept = self._optimizer.state[value]
            tensors[f"weights/{name}"] = value
            tensors |= {f"{part}/{name}": kept[part] for part in ("exp_avg", "exp_avg_sq")}
        self.checkpoint.write(TrainingState(self.step, tensors, self.losses, self.seconds))
        self._saved = self.step

    def train(self, at_step: AtStep = lambda step, losses: None) -> None:
        """Train to the end; writes a checkpoint, also after SIGINT or SIGTERM.

        Args:
            at_step: may generate images with the current weights, but must not change them.

        Raises:
            KeyboardInterrupt: stopped by a signal; the checkpoint holds every step that was made.
            FreeURuntimeError: a loss is no longer a number, or the disk is full; the last checkpoint is unchanged.
        """
        import torch

        stop = StopSignals()
        devices = {value.device for value in self.parameters.values() if value.device.type == "cuda"}
        try:
            with stop.listening(), torch.random.fork_rng(devices=[device.index or 0 for device in devices]):
                at_step(self.step, {name: values[-1] for name, values in self.losses.items()})
                while not self.finished:
                    with stop.later():
                        losses = self._train_step()
                    if self.step % self.settings.checkpoint_steps == 0 and not self.finished:
                        self.save()
                    at_step(self.step, losses)
        except KeyboardInterrupt:
            self.save()
            raise
        self.save()

    def _train_step(self) -> dict[str, float]:
        import torch

        began = time.perf_counter()
        torch.manual_seed(seed_of(self.seed, "step", self.step))
        rate = self.settings.rate(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * self._shares[group["name"]]
        losses = self._losses_of(self.step)
        numbers = {name: value.item() for name, value in losses.items()}
        for name, number in numbers.items():
            if not math.isfinite(number):
                kept = f"the checkpoint of step {self._saved} is kept" if self._saved else "nothing was kept"
                raise FreeURuntimeError(
                    f"the {name} loss is {number} at step {self.step}: lower the learning rate "
                    f"({self.settings.learning_rate:g}); {kept}"
                )
        self._optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm)
        self._optimizer.step()
        self._after_step()
        self.step += 1
        for name, number in numbers.items():
            self.losses.setdefault(name, []).append(number)
        self.seconds += time.perf_counter() - began
        return numbers


def _identity_of(settings: OptimizerSettings) -> dict[str, Any]:
    """The optimizer settings that determine the steps made so far."""
    found: dict[str, Any] = {
        "learning rate": settings.learning_rate,
        "warm-up": settings.warmup,
        "schedule": "cosine" if settings.cosine else "constant",
        "optimizer": {
            "betas": list(settings.betas),
            "weight decay": settings.weight_decay,
            "epsilon": settings.epsilon,
            "most gradient": settings.max_grad_norm,
        },
    }
    if settings.cosine:
        found["steps"] = settings.steps
    return found


def mean_losses(losses: Mapping[str, list[float]], points: int = 200) -> list[dict[str, float]]:
    """Losses of a training as at most ``points`` rows: the last step of each interval and its mean losses."""
    steps = max((len(values) for values in losses.values()), default=0)
    width = max(1, math.ceil(steps / points))
    return [
        {"step": min(start + width, steps)}
        | {
            name: math.fsum(values[start : start + width]) / len(values[start : start + width])
            for name, values in losses.items()
        }
        for start in range(0, steps, width)
    ]

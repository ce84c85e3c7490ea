"""One resumable training run, shared by the U-Net, the judge and the reader: steps, averages, checkpoints, reports."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from freeu.personalize import Checkpoint, StopSignals, TrainingState
from freeu_zoo.recipe import JudgeRecipe, ReaderRecipe, UnetRecipe

Say = Callable[[str], None]
Batch = TypeVar("Batch")
Settings = UnetRecipe | JudgeRecipe | ReaderRecipe

CURVE = ("step", "seconds", "loss", "held_out")
"""What each row of a run's curve says: the mean loss since the row before, and the measure on held-out scenes.

A checkpoint has these columns as its series.
"""


@dataclass(frozen=True)
class OptimizerSettings:
    """How long a run is and how fast it learns.

    Args:
        samples: of the whole run.
        batch: samples of a step.
        learning_rate: the highest.
        warmup: steps of linear warm-up.
        level: part of the run, 0..1, at the highest rate; a cosine follows.
        weight_decay: of AdamW.
        betas: of AdamW.
        ema: decay of the average of the weights.
        checkpoint_minutes: between checkpoints.
        report_steps: between validations.
    """

    samples: int
    batch: int
    learning_rate: float
    warmup: int
    level: float
    weight_decay: float
    betas: tuple[float, float]
    ema: float
    checkpoint_minutes: float
    report_steps: int

    @classmethod
    def of(
        cls, settings: Settings, warmup: int, betas: tuple[float, float], ema: float, report_steps: int
    ) -> OptimizerSettings:
        """What a part of a recipe sets."""
        return cls(
            samples=settings.samples,
            batch=settings.batch,
            learning_rate=settings.learning_rate,
            warmup=warmup,
            level=settings.level,
            weight_decay=settings.weight_decay,
            betas=betas,
            ema=ema,
            checkpoint_minutes=settings.checkpoint_minutes,
            report_steps=report_steps,
        )


def rate(step: int, progress: float, warmup: int, level: float) -> float:
    """Learning rate as a fraction of the highest, after ``step`` steps and ``progress`` (0..1) of the run."""
    warm = min(1.0, (step + 1) / max(1, warmup))
    fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, (progress - level) / (1 - level))))
    return warm * max(fall, 0.01)


class Prefetch(Generic[Batch]):
    """Makes the next step's batch in a thread while the present one is learned.

    Args:
        make: the batch of a step; it must follow from the step alone.
    """

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1)
        self._coming: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of that step."""
        coming = self._coming
        batch = coming[1].result() if coming is not None and coming[0] == step else self._make(step)
        self._coming = (step + 1, self._pool.submit(self._make, step + 1))
        return batch


class Run(ABC):
    """A run. What step n sees must follow from the seed and n alone: then a resumed run is the same run.

    Args:
        name: for its log lines.
        model: what is trained; it is moved to ``device``.
        settings: how long the run is and how fast it learns.
        checkpoint: where its state is kept.
        say: takes lines of the log.
        device: "cpu" or "cuda".
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        settings: OptimizerSettings,
        checkpoint: Checkpoint,
        say: Say,
        device: str = "cpu",
    ) -> None:
        self.name, self.settings, self.checkpoint, self.say = name, settings, checkpoint, say
        self.device = torch.device(device)
        self.model = model.to(self.device).train()
        self.optimizer = torch.optim.AdamW(
            self.learning_rates(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.step, self.seconds = 0, 0.0
        self.curve: list[list[float]] = []
        self.begin_average()

    def learning_rates(self) -> list[dict[str, Any]]:
        """Groups of parameters; a group's ``share`` (1 unless given) scales its learning rate."""
        return [{"params": list(self.model.parameters())}]

    @abstractmethod
    def loss_of(self, step: int) -> Tensor:
        """The loss of that step's batch."""

    @abstractmethod
    def measure(self) -> float:
        """A figure on held-out scenes; called with the averaged weights in evaluation mode."""

    def begin_average(self) -> None:
        """Let the average be the present weights."""
        self.ema = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def progress(self) -> float:
        """How much of the run is over, 0..1."""
        return min(1.0, self.step * self.settings.batch / self.settings.samples)

    def train_step(self) -> float:
        """One optimizer step; returns the loss."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = (
                group.get("share", 1.0)
                * settings.learning_rate
                * rate(self.step, self.progress(), settings.warmup, settings.level)
            )
        loss = self.loss_of(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        return loss.item()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            mean = self.ema[name]
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    @torch.no_grad()
    def validate(self) -> float:
        """``measure`` with the averaged weights."""
        held = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        self.model.eval()
        try:
            return self.measure()
        finally:
            self.model.load_state_dict(held)
            self.model.train()

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one.

        Raises:
            FreeUValueError: the checkpoint is damaged or of another recipe.
        """
        state = self.checkpoint.read()
        if state is None:
            return False
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "exp_avg": {}, "exp_avg_sq": {}}
        for name, value in state.tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = value.to(self.device)
        self.model.load_state_dict(parts["model"])
        self.ema = parts["ema"]
        self.step, self.seconds, self.curve = facts_of(state).values()
        self.say(f"{self.name}: resumed at step {self.step}, {self.seconds / 60:.1f} minutes")
        for name, parameter in self.model.named_parameters():
            if name in parts["exp_avg"]:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.step), device=self.device),
                    "exp_avg": parts["exp_avg"][name],
                    "exp_avg_sq": parts["exp_avg_sq"][name],
                }
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"ema/{name}": value for name, value in self.ema.items()}
        for name, parameter in self.model.named_parameters():
            kept = self.optimizer.state.get(parameter, {})
            tensors |= {f"{part}/{name}": kept[part] for part in ("exp_avg", "exp_avg_sq") if part in kept}
        columns = zip(*self.curve, strict=True) if self.curve else [()] * len(CURVE)
        series = {name: list(column) for name, column in zip(CURVE, columns, strict=True)}
        self.checkpoint.write(TrainingState(self.step, tensors, series, self.seconds))

    def go(self, minutes: float = math.inf, now_and_then: Callable[[], None] | None = None, every: float = 20) -> bool:
        """Train until all samples were seen or this sitting's minutes are over; leaves a checkpoint.

        Args:
            minutes: of training in this sitting.
            now_and_then: called after every ``every`` minutes of training, and at the end, with a fresh checkpoint.

        Returns:
            whether the whole run is over.

        Raises:
            KeyboardInterrupt: stopped by SIGINT or SIGTERM; the checkpoint holds every step that was made.
            FloatingPointError: the loss or the measure is no longer finite.
        """
        losses: list[float] = []
        stop = StopSignals()
        started = saved = called = self.seconds
        try:
            with stop.listening():
                while self.progress() < 1 and self.seconds - started < minutes * 60:
                    with stop.later():  # for validation the model holds other weights, which must not be saved
                        losses.append(self._timed_step())
                        if len(losses) == self.settings.report_steps or self.progress() >= 1:
                            self._report(losses)
                            losses = []
                    if self.seconds - saved > self.settings.checkpoint_minutes * 60:
                        saved = self.seconds
                        self.save()
                    if now_and_then is not None and self.seconds - called > every * 60:
                        called = self.seconds
                        self.save()
                        now_and_then()
        except KeyboardInterrupt:
            self.save()
            raise
        self.save()
        over = self.progress() >= 1
        if now_and_then is not None and over:
            now_and_then()
        self.say(f"{self.name}: checkpoint at step {self.step}, {self.progress():.0%} of the run")
        return over

    def _timed_step(self) -> float:
        """``train_step``; only training counts as seconds, validation and images take no part."""
        began = time.monotonic()
        loss = self.train_step()
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss {loss} at step {self.step}; the last checkpoint is before it")
        self.seconds += time.monotonic() - began
        return loss

    def _report(self, losses: list[float]) -> None:
        held_out = self.validate()
        seen = self.step * self.settings.batch
        if not math.isfinite(held_out):
            raise FloatingPointError(f"held out {held_out} at step {self.step}; the last checkpoint is before it")
        mean = sum(losses) / len(losses)
        self.curve.append([self.step, self.seconds, mean, held_out])
        self.say(
            f"{self.name} step {self.step}, {self.seconds / 60:.1f} min, {seen} samples "
            f"({seen / self.seconds:.1f}/s), loss {mean:.4f}, held out {held_out:.4f}, {self.progress():.0%}"
        )


def facts_of(state: TrainingState) -> dict[str, Any]:
    """Step, seconds and curve of the run that a checkpoint is of."""
    curve = [list(row) for row in zip(*(state.series[name] for name in CURVE), strict=True)]
    return {"step": state.step, "seconds": state.seconds, "curve": curve}


def average_of(state: TrainingState) -> dict[str, Tensor]:
    """The averaged weights in a checkpoint."""
    return {name.removeprefix("ema/"): value for name, value in state.tensors.items() if name.startswith("ema/")}

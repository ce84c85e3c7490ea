"""The effective CFG scale of a method (GA-Eval), and the CFG scale at which it equals that of plain sampling."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from freeu.config import FreeUConfig
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.evaluate.calibration.guidance import checked_seeds, negative_of_each, predicted, sample
from freeu.guiding.settings import Guiding
from freeu.intervals import mean_interval

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 0.005
"""Largest relative difference between the effective scale that is reached and the one that is looked for."""
MOST = 12
"""Scales that are tried before the search gives up."""
LOWEST, HIGHEST = 1.001, 100.0
"""CFG scales between which is searched: at 1 and below pipelines turn guidance off."""


@dataclass(frozen=True)
class EffectiveScale:
    """What ``effective_scale`` found.

    Args:
        guidance: the CFG scale that the method was run with.
        effective: the CFG scale of plain sampling that is as strong, mean over steps and prompts.
        low, high: 95 % bootstrap interval over prompts; None with one prompt.
        prompts: how many trajectories were measured.
        per_step: the effective scale of each step alone, mean over prompts; None where guidance has no effect.
    """

    guidance: float
    effective: float
    low: float | None
    high: float | None
    prompts: int
    per_step: tuple[float | None, ...]


@dataclass(frozen=True)
class NeutralScale:
    """What ``neutral_scale`` found.

    Args:
        guidance: the CFG scale of plain sampling, which is its effective scale too.
        matched: the CFG scale at which the method's effective scale equals that.
        effective: the effective scale that was reached there.
        low, high: 95 % bootstrap interval of ``effective`` over prompts; None with one prompt.
        tolerance: the largest relative difference between ``effective`` and ``guidance`` that was accepted.
        prompts: how many trajectories were measured each time, with the same seeds.
        evaluations: the CFG scales that were tried, each with its effective scale, in order.
    """

    guidance: float
    matched: float
    effective: float
    low: float | None
    high: float | None
    tolerance: float
    prompts: int
    evaluations: tuple[tuple[float, float], ...]


def projected_scale(plain: Tensor, guided: Tensor) -> Tensor:
    """The CFG scale of plain guidance in a guided prediction: GA-Eval's effective scale of one step.

    With eps_u and eps_c the predictions of the plain network without and with the prompt, d = eps_c - eps_u, and e the
    guided prediction of the method at the same state x_t, it is |P(e - eps_u)| / |d| with P the projection onto d (Xie
    et al. 2026, arXiv:2602.22570), which is

        |<e - eps_u, d>| / <d, d>.

    Plain guidance, e = eps_u + w d, gives w. Predictions of v or of the sample give the same as those of noise, since
    they differ by one factor in all differences at one x_t.

    Args:
        plain: shape (B, 2, ...): unconditional, conditional.
        guided: shape (B, ...).

    Returns:
        shape (B,), in float64; NaN where d is 0.

    >>> import torch
    >>> plain = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])  # d = (1, 0)
    >>> projected_scale(plain, torch.tensor([[3.0, 4.0]])).tolist()  # what lies across d does not count
    [3.0]
    """
    pair, made = plain.double().flatten(2), guided.double().flatten(1)
    d = pair[:, 1] - pair[:, 0]
    return ((made - pair[:, 0]) * d).sum(1).abs() / (d * d).sum(1)


def effective_scale(
    pipe: Any,
    config: FreeUConfig | None,
    prompts: Sequence[str],
    *,
    guidance: float,
    steps: int,
    guiding: Guiding | None = None,
    rescale: float | None = None,
    negative_prompt: str | Sequence[str] = "",
    seeds: Sequence[int] | None = None,
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> EffectiveScale:
    """The effective CFG scale of a method (GA-Eval), on the method's own trajectory.

    At every step the U-Net is evaluated once more at the same state without FreeU and all else, which gives eps_c and
    eps_u: in the official code too, a method that changes the network is compared with the network as it is. The
    trajectory does not change.

    Args:
        pipe, prompts, steps and what is not named here: as in ``calibrate_guidance``.
        config: FreeU's settings; None without FreeU.
        guidance: the CFG scale that the method is run with, above 1.
        guiding: a guidance interval, FreSca or both, or None.
        rescale: of guidance rescale, 0..1, or None.

    Raises:
        FreeUValueError: a CFG scale of 1 or less, no prompt, a pipeline that has no two predictions to guide between or
            that lacks guidance rescale.
        FreeURuntimeError: the pipeline did not call its U-Net with both halves in one batch.

    >>> import freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> from freeu.guiding import Guiding
    >>> from freeu.guiding.settings import parse_interval
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> pipe.set_progress_bar_config(disable=True)
    >>> late = Guiding(parse_interval("0.5-1"))  # scale 1 at the first of two steps and 3 at the second
    >>> found = effective_scale(pipe, None, ["a 3d fox"], guidance=3.0, steps=2, guiding=late, width=64, height=64)
    >>> round(found.effective, 3)
    2.0
    """
    numbers = checked_seeds(pipe, prompts, seeds, guidance)
    size = {"width": width, "height": height, "frames": frames}
    more: dict[str, Any] = {} if rescale is None else {"guidance_rescale": rescale}
    found = []
    negatives = negative_of_each(prompts, negative_prompt)
    for done, (prompt, seed, negative) in enumerate(zip(prompts, numbers, negatives, strict=True), start=1):
        with _OwnPath(pipe, config, guidance, guiding, rescale) as path:
            sample(pipe, prompt, seed, guidance, steps, negative, **size, **more)
        found.append(path.scales)
        if progress is not None:
            progress(done)
    scales = np.array(found)
    known = np.isfinite(scales)
    if not known.any(axis=1).all():
        raise FreeUValueError("guidance has no effect here: the conditional prediction equals the unconditional one")
    means = [float(row[there].mean()) for row, there in zip(scales, known, strict=True)]
    estimate = mean_interval(means)
    steps_of = zip(scales.T, known.T, strict=True)
    per_step = tuple(float(step[there].mean()) if there.any() else None for step, there in steps_of)
    return EffectiveScale(guidance, estimate.value, estimate.low, estimate.high, len(prompts), per_step)


def neutral_scale(
    measure: Callable[[float], EffectiveScale], guidance: float, tolerance: float = TOLERANCE, most: int = MOST
) -> NeutralScale:
    """The CFG scale at which a method's effective scale equals that of plain sampling at another CFG scale.

    The effective scale of plain sampling at w is w, so this is a root in one unknown: secants, and bisection where a
    secant leaves the bracket.

    Args:
        measure: gives the effective scale of the method at a CFG scale, on the same prompts and seeds each time.
        guidance: the CFG scale of plain sampling, above 1.
        tolerance: largest relative difference that is accepted.
        most: scales that are tried at most.

    Raises:
        FreeUValueError: no scale from 1 to 100 has that effective scale, or none was found in ``most`` trials.

    >>> def measure(scale):  # guided at half of the steps
    ...     return EffectiveScale(scale, 0.5 * scale + 0.5, None, None, 1, (scale, 1.0))
    >>> found = neutral_scale(measure, 5.0)
    >>> round(found.matched, 3), len(found.evaluations)
    (9.0, 3)
    """
    tried: list[tuple[float, float]] = []
    scale = min(max(guidance, LOWEST), HIGHEST)
    while True:
        found = measure(scale)
        tried.append((scale, found.effective))
        if abs(found.effective - guidance) <= tolerance * guidance:
            return NeutralScale(
                guidance, scale, found.effective, found.low, found.high, tolerance, found.prompts, tuple(tried)
            )
        if len(tried) >= most:
            nearest = min(tried, key=lambda one: abs(one[1] - guidance))
            raise FreeUValueError(
                f"no CFG scale with an effective scale of {guidance:g} was found in {most} trials: the nearest was "
                f"{nearest[0]:.4g} with {nearest[1]:.4g}"
            )
        following = _following(tried, guidance)
        if following == scale:
            side = "above" if found.effective > guidance else "below"
            raise FreeUValueError(
                f"no CFG scale from 1 to {HIGHEST:g} has an effective scale of {guidance:g}: at {scale:.4g} it is "
                f"{found.effective:.4g}, {side} that; use another --guidance-scale"
            )
        scale = following


def _following(tried: Sequence[tuple[float, float]], target: float) -> float:
    """The next scale to try."""
    low = max((scale for scale, effective in tried if effective < target), default=LOWEST)
    high = min((scale for scale, effective in tried if effective > target), default=HIGHEST)
    if len(tried) == 1:
        ((scale, effective),) = tried
        guess = scale * target / effective if effective > 0.0 else 2.0 * scale
    else:
        (first, one), (second, two) = tried[-2:]
        slope = (two - one) / (second - first)
        guess = second + (target - two) / slope if slope > 0.0 else float("nan")
    bracketed = {effective < target for _, effective in tried} == {True, False}
    # Secants creep where the slope changes much: once in a while the bracket is halved.
    if not low <= guess <= high or (bracketed and len(tried) % 4 == 3):  # not a number neither
        guess = (low + high) / 2.0 if bracketed else LOWEST if high < HIGHEST else HIGHEST
    return float(guess)


class _OwnPath:
    """A method on a pipeline, and a last hook on its U-Net that measures each step; undone at the end."""

    def __init__(
        self, pipe: Any, config: FreeUConfig | None, guidance: float, guiding: Guiding | None, rescale: float | None
    ) -> None:
        import freeu
        from freeu.adapters.finding import unet_of
        from freeu.guiding.hook import check_rescale, enabled

        self.pipe = pipe
        self.config = config
        self.guidance = guidance
        self.rescale = rescale
        self.scales: list[float] = []
        if rescale is not None:
            check_rescale(pipe, guidance)
        with contextlib.ExitStack() as stack:
            if config is not None:
                stack.enter_context(freeu.enabled(pipe, config))
            if guiding is not None:
                stack.enter_context(enabled(pipe, guiding, guidance))
            # Last: it sees what the pipeline gets.
            stack.callback(unet_of(pipe).register_forward_hook(self._measure, with_kwargs=True).remove)
            self._stack = stack.pop_all()

    def __enter__(self) -> _OwnPath:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _measure(self, unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        import freeu

        made = predicted(output)
        if made.shape[0] != 2:
            raise FreeURuntimeError(
                f"{type(self.pipe).__name__} called its U-Net with a batch of {made.shape[0]}, and calibration needs 2 "
                "(unconditional, conditional): this pipeline cannot be calibrated"
            )
        # Not through its hooks: those of the guidance belong to the method.
        if self.config is None:
            plain = predicted(unet.forward(*args, **kwargs))
        else:
            with freeu.enabled(self.pipe, FreeUConfig()):
                plain = predicted(unet.forward(*args, **kwargs))
        u, c = made.chunk(2)
        guided = u + self.guidance * (c - u)
        if self.rescale:
            from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

            guided = rescale_noise_cfg(guided, c, self.rescale)
        self.scales += projected_scale(plain[None], guided).tolist()

"""The CFG scale that changes the noise prediction as much as FreeU does, to compare both at equal strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from freeu.config import FreeUConfig
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.intervals import ratio_interval
from freeu.pipelines.models.sources.families import TEXT_TO_VIDEO_PIPELINES
from freeu.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]

GUIDED = "do_classifier_free_guidance"


@dataclass(frozen=True)
class Calibration:
    """What ``match_guidance`` found.

    Args:
        guidance: the CFG scale that FreeU was run with.
        matched: the CFG scale at which plain sampling is as strong along the direction of guidance.
        low, high: 95 % bootstrap interval of ``matched`` over prompts; None with one prompt.
        explained: share of FreeU's change that lies along that direction, 0..1 (the squared cosine, pooled). Guidance
            can imitate this share and nothing of the rest.
        prompts: how many trajectories were pooled.
        per_step: the matched scale of each step alone, in order; None where guidance has no effect.
        explained_per_step: the share of each step alone; None where FreeU or guidance has no effect.
    """

    guidance: float
    matched: float
    low: float | None
    high: float | None
    explained: float
    prompts: int
    per_step: tuple[float | None, ...]
    explained_per_step: tuple[float | None, ...]


def match_guidance(
    plain: Tensor, changed: Tensor, guidance: float, weights: Sequence[float] | None = None
) -> Calibration:
    """The CFG scale at which plain sampling changes the noise along the guidance direction as FreeU does.

    At a state x_t of the plain trajectory let eps_u and eps_c be the unconditional and the conditional prediction,
    d = eps_c - eps_u the direction of guidance and e(w) = eps_u + w d the guided prediction (Ho & Salimans 2022, Eq. 6,
    in the notation of diffusers). FreeU gives e_F = eps_u^F + w (eps_c^F - eps_u^F) at the same state and scale.
    Plain sampling at another scale gives e(w') - e(w) = (w' - w) d. The w' that comes nearest to FreeU's change
    D = e_F - e(w) minimises the sum over steps and prompts of |D - (w' - w) d|^2, so

        w' = w + sum <D, d> / sum <d, d>,      share explained = (sum <D, d>)^2 / (sum <D, D> sum <d, d>).

    The sums are pooled and not averaged over steps, so each step counts by how much guidance does in it. Networks that
    predict v or the sample are converted to noise by ``weights``: both D and d are differences at one x_t, in which the
    term in x_t cancels, so one factor per step remains (``noise_weight``).

    Args:
        plain: predictions of the plain network, shape (steps, prompts, 2, ...): unconditional, conditional.
        changed: predictions of the network with FreeU at the same states, of the same shape.
        guidance: the CFG scale w of the trajectory.
        weights: a factor for each step that turns a difference of predictions into one of noise; None means 1.

    Raises:
        FreeUValueError: shapes that do not fit, or guidance that changes nothing (d is 0 everywhere).

    >>> import torch
    >>> plain = torch.randn(5, 3, 2, 4, 8, 8)  # steps, prompts, halves, latent
    >>> direction = plain[:, :, 1:] - plain[:, :, :1]
    >>> changed = plain + torch.cat([0 * direction, 0.1 * direction], dim=2)  # guidance, made a tenth stronger
    >>> found = match_guidance(plain, changed, guidance=7.0)
    >>> round(found.matched, 3), round(found.explained, 3)
    (7.7, 1.0)
    """
    import torch

    if plain.shape != changed.shape or plain.dim() < 4 or plain.shape[2] != 2 or plain.numel() == 0:
        raise FreeUValueError(
            "predictions must have one shape (steps, prompts, 2, ...), "
            f"got {tuple(plain.shape)} and {tuple(changed.shape)}"
        )
    if weights is not None and len(weights) != len(plain):
        raise FreeUValueError(f"every step needs a weight, got {len(plain)} steps and {len(weights)} weights")
    factors = [1.0] * len(plain) if weights is None else list(weights)
    sums = [torch.stack(inner_products(plain[i], changed[i], guidance, factors[i])) for i in range(len(plain))]
    return _solve(torch.stack(sums, dim=1).cpu().numpy(), guidance)


def inner_products(
    plain: Tensor, changed: Tensor, guidance: float, weight: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """<D, d>, <d, d> and <D, D> of ``match_guidance`` at one step, each of shape (prompts,), in float64.

    Args:
        plain, changed: shape (prompts, 2, ...).
    """
    first, second = plain.double().flatten(2), changed.double().flatten(2)
    d = weight * (first[:, 1] - first[:, 0])
    shift = second - first
    change = weight * (shift[:, 0] + guidance * (shift[:, 1] - shift[:, 0]))
    return (change * d).sum(1), (d * d).sum(1), (change * change).sum(1)


def _solve(sums: Floats, guidance: float) -> Calibration:
    """From <D, d>, <d, d>, <D, D>, shape (3, steps, prompts)."""
    along, direction, change = sums
    if not direction.sum() > 0.0:
        raise FreeUValueError("guidance has no effect here: the conditional prediction equals the unconditional one")
    slope = float(along.sum() / direction.sum())
    low, high = ratio_interval(along.sum(axis=0), direction.sum(axis=0))
    steps = list(zip(along.sum(axis=1), direction.sum(axis=1), change.sum(axis=1), strict=True))
    return Calibration(
        guidance=guidance,
        matched=guidance + slope,
        low=None if low is None else guidance + low,
        high=None if high is None else guidance + high,
        explained=_share(along.sum(), direction.sum(), change.sum()) or 0.0,
        prompts=along.shape[1],
        per_step=tuple(guidance + float(a / d) if d > 0.0 else None for a, d, _ in steps),
        explained_per_step=tuple(_share(*step) for step in steps),
    )


def _share(along: float, direction: float, change: float) -> float | None:
    whole = float(direction * change)
    return min(1.0, float(along) ** 2 / whole) if whole > 0.0 else None


def noise_weight(prediction: str, alpha_bar: float) -> float:
    """The factor between a difference of predictions at one x_t and the difference of predicted noise.

    From x_t = sqrt(a) x_0 + sqrt(1-a) eps with a = alpha_bar: eps = sqrt(a) v + sqrt(1-a) x_t (Salimans & Ho 2022), and
    eps = (x_t - sqrt(a) x_0) / sqrt(1-a). Schedulers that scale their input (such as Euler) pass the network this same
    x_t, so the factors hold for them too.

    Args:
        prediction: "epsilon", "v_prediction" or "sample".
        alpha_bar: cumulative product of alphas at this timestep, in 0..1; below 1 for "sample".
    """
    if prediction == "epsilon":
        return 1.0
    if prediction == "v_prediction":
        return float(np.sqrt(alpha_bar))
    if prediction == "sample":
        return float(-np.sqrt(alpha_bar / (1.0 - alpha_bar)))
    raise FreeUValueError(
        f"guidance cannot be calibrated for a network that predicts {prediction!r}: "
        "known are epsilon, v_prediction and sample"
    )


def why_unguided(pipe: Any, guidance: float) -> str | None:
    """Why a pipeline, such as a consistency model, has no two predictions to guide between; None if it has."""
    if not guidance > 1.0:
        return f"calibration needs a CFG scale above 1, got {guidance:g}: at 1 there is no guidance"
    if pipe.unet.config.get("time_cond_proj_dim") is not None:
        return (
            "calibration needs predictions with and without the prompt, and this U-Net takes the CFG scale as an input"
        )
    return None


def calibrate_guidance(
    pipe: Any,
    config: FreeUConfig,
    prompts: Sequence[str],
    *,
    guidance: float,
    steps: int,
    negative_prompt: str | Sequence[str] = "",
    seeds: Sequence[int] | None = None,
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """``match_guidance`` on a loaded text-to-image or text-to-video pipeline of Stable Diffusion's kind (XL included).

    Runs the plain trajectory of each prompt; at each of its states the U-Net is evaluated once more with FreeU. The
    trajectory itself does not change, and FreeU's schedule uses the current step.

    Args:
        pipe: a pipeline of diffusers with ``unet``, ``scheduler`` and classifier-free guidance in one batch.
        config: FreeU's settings.
        prompts: at least one; some sixteen give a usable interval.
        guidance: the CFG scale of the trajectory, above 1 (below, pipelines leave out the unconditional half).
        steps: denoising steps.
        negative_prompt: for the unconditional half; several are one for each prompt.
        seeds: one for each prompt; None means 0, 1, 2 ...
        width, height: of the images in pixels; None is the pipeline's default.
        frames: of each video; None for images.
        progress: called with the number of prompts done.

    Raises:
        FreeUValueError: a CFG scale of 1 or less, no prompt, an unknown prediction type, a pipeline that cannot be
            calibrated.
        FreeURuntimeError: the pipeline did not call its U-Net with both halves in one batch, or FreeU did not act.

    >>> import freeu, freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> pipe.set_progress_bar_config(disable=True)
    >>> found = calibrate_guidance(
    ...     pipe, freeu.preset("sd14"), ["a 3d fox on a blue background"], guidance=3.0, steps=2, width=64, height=64
    ... )
    >>> found.guidance, len(found.per_step), found.matched > 3
    (3.0, 2, True)
    """
    import torch

    numbers = checked_seeds(pipe, prompts, seeds, guidance)
    _check_prediction(pipe)
    size = {"width": width, "height": height, "frames": frames}
    found = []
    negatives = negative_of_each(prompts, negative_prompt)
    for done, (prompt, seed, negative) in enumerate(zip(prompts, numbers, negatives, strict=True), start=1):
        probe = _Probe(pipe, config, guidance)
        hook = pipe.unet.register_forward_hook(probe, with_kwargs=True)
        try:
            sample(pipe, prompt, seed, guidance, steps, negative, **size)
        finally:
            hook.remove()
        found.append(torch.stack(probe.sums, dim=1))
        if progress is not None:
            progress(done)
    return _solve(torch.stack(found, dim=2).numpy(), guidance)


def negative_of_each(prompts: Sequence[str], negative: str | Sequence[str]) -> Sequence[str]:
    """A negative prompt for each prompt.

    Raises:
        FreeUValueError: several, and not as many as prompts.
    """
    found = [negative] * len(prompts) if isinstance(negative, str) else negative
    if len(found) != len(prompts):
        counts = f"{counted(len(prompts), 'prompt')} and {counted(len(found), 'negative prompt')}"
        raise FreeUValueError(f"one negative prompt is for all, several are one for each prompt, got {counts}")
    return found


def checked_seeds(pipe: Any, prompts: Sequence[str], seeds: Sequence[int] | None, guidance: float) -> Sequence[int]:
    """A seed for each prompt, of a calibration that can be done.

    Raises:
        FreeUValueError: no prompt, or seeds of another number; a CFG scale or a pipeline without two predictions to
            guide between, or one that does more than generate from a text.
    """
    if reason := why_unguided(pipe, guidance):
        raise FreeUValueError(reason)
    if not prompts:
        raise FreeUValueError("calibration needs at least one prompt")
    numbers = range(len(prompts)) if seeds is None else seeds
    if len(numbers) != len(prompts):
        counts = f"{counted(len(prompts), 'prompt')} and {counted(len(numbers), 'seed')}"
        raise FreeUValueError(f"every prompt needs a seed, got {counts}")
    config = pipe.unet.config
    if config.in_channels != config.out_channels or not (hasattr(type(pipe), GUIDED) or _generates_videos(pipe)):
        raise FreeUValueError(
            f"guidance of {type(pipe).__name__} cannot be calibrated: it needs a text-to-image or text-to-video "
            f"pipeline whose U-Net has as many output as input channels, got {config.in_channels} in and "
            f"{config.out_channels} out"
        )
    return numbers


def sample(
    pipe: Any,
    prompt: str,
    seed: int,
    guidance: float,
    steps: int,
    negative_prompt: str,
    *,
    width: int | None,
    height: int | None,
    frames: int | None,
    **more: Any,
) -> None:
    """One trajectory, for the hooks that look at it; what it leads to is not decoded."""
    import torch

    from freeu.pipelines.models.schedulers import fresh_scheduler

    fresh_scheduler(pipe)
    pipe(
        prompt,
        negative_prompt=negative_prompt or None,
        num_inference_steps=steps,
        guidance_scale=guidance,
        width=width,
        height=height,
        **({} if frames is None else {"num_frames": frames}),
        **more,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="latent",
    )


def _check_prediction(pipe: Any) -> None:
    scheduler = getattr(pipe, "scheduler", None)
    prediction = getattr(getattr(scheduler, "config", None), "prediction_type", None)
    noise_weight(str(prediction), 0.5)
    if prediction != "epsilon" and getattr(scheduler, "alphas_cumprod", None) is None:
        raise FreeUValueError(
            f"{type(scheduler).__name__} has no noise levels (alphas_cumprod): use another --scheduler, such as ddim"
        )


def _generates_videos(pipe: Any) -> bool:
    return type(pipe).__name__ in TEXT_TO_VIDEO_PIPELINES


class _Probe:
    """Forward hook of the plain U-Net: evaluates it once more with FreeU on the same arguments."""

    def __init__(self, pipe: Any, config: FreeUConfig, guidance: float) -> None:
        self.pipe = pipe
        self.config = config
        self.guidance = guidance
        self.sums: list[Tensor] = []
        self._inside = False

    def __call__(self, unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._inside:
            return
        import torch

        import freeu

        plain = predicted(output)
        # Text-to-video pipelines lack this property; above a scale of 1 they guide.
        if not getattr(self.pipe, GUIDED, _generates_videos(self.pipe)) or plain.shape[0] != 2:
            raise FreeURuntimeError(
                f"{type(self.pipe).__name__} called its U-Net with a batch of {plain.shape[0]}, and calibration needs "
                "2 (unconditional, conditional): this pipeline cannot be calibrated"
            )
        self._inside = True
        try:
            # FreeU's schedule reads the step from the timestep and the scheduler and does not count calls.
            with freeu.enabled(self.pipe, self.config):
                changed = predicted(unet(*args, **kwargs))
        finally:
            self._inside = False
        weight = self._weight(args[1] if len(args) > 1 else kwargs["timestep"])
        sums = inner_products(plain[None], changed[None], self.guidance, weight)
        self.sums.append(torch.cat(sums).cpu())

    def _weight(self, timestep: Any) -> float:
        scheduler = self.pipe.scheduler
        prediction = str(scheduler.config.prediction_type)
        if prediction == "epsilon":
            return 1.0
        alphas = scheduler.alphas_cumprod
        at = float(np.interp(float(timestep), np.arange(len(alphas)), alphas.double().cpu().numpy()))
        return noise_weight(prediction, at)


def predicted(output: Any) -> Tensor:
    """What a U-Net predicted, by its output."""
    found: Tensor = output[0] if isinstance(output, tuple) else output.sample
    return found.detach()

"""Whether any step of a run falls in the interval in which FreeU is to act."""

from __future__ import annotations

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.pipelines.runs.plan import Plan
from freeu.wording import counted


def acts(config: FreeUConfig, steps: int, strength: float | None = None) -> bool:
    """Whether FreeU changes a step of a denoising.

    Timesteps and noise levels of steps are the scheduler's business: by these units the answer is yes, and the handle's
    ``verify`` tells after the first image.

    Args:
        config: with its schedule.
        steps: of the whole denoising.
        strength: the share of it that is run from an image or video; None for all of it.
    """
    if config.unit != "fraction":
        return True
    b, skip = _reached(config, steps, strength)
    parts = _parts(config)
    return (b and parts["b_window"]) or (skip and parts["s_window"])


def idle_windows(config: FreeUConfig, steps: int, strength: float | None = None) -> list[str]:
    """Which of ``b_window`` and ``s_window`` no step falls in, though there is something that it lets act.

    Args:
        config, steps, strength: as for ``acts``; other units than the fraction give none, as there.
    """
    if config.unit != "fraction":
        return []
    reached = dict(zip(("b_window", "s_window"), _reached(config, steps, strength), strict=True))
    parts = _parts(config)
    return [name for name in config.windows if parts[name] and not reached[name]]


def _reached(config: FreeUConfig, steps: int, strength: float | None) -> tuple[bool, bool]:
    """Whether b, and what acts on the skip, have a weight above 0 in any step."""
    first = 0 if strength is None else steps - min(int(steps * strength), steps)
    weights = [config.weights(step / steps) for step in range(first, steps)]
    return any(b > 0.0 for b, _ in weights), any(skip > 0.0 for _, skip in weights)


def _parts(config: FreeUConfig) -> dict[str, bool]:
    """Which halves of FreeU a configuration has, by the field that is their window."""
    stages = [*config.stages, *(own for _, own in config.sites)]
    skip = any(stage.s != 1.0 or stage.g != 1.0 for stage in stages) or config.high_gain != 1.0
    return {
        "b_window": any(stage.b != 1.0 for stage in stages),
        "s_window": skip or any(gain != 1.0 for gain in config.skip_gain_ends),
    }


def check_interval(plan: Plan) -> None:
    """Refuse a plan whose arms could not differ, or on which ScaleCrafter could not act.

    Raises:
        FreeUValueError: no step falls in the interval.
    """
    config = plan.config
    strength = plan.image_strength if plan.image_strength is not None else plan.video_strength
    if plan.scalecrafter is not None and plan.scalecrafter.end < 1.0:
        first = 0 if strength is None else plan.steps - min(int(plan.steps * strength), plan.steps)
        if first / plan.steps >= plan.scalecrafter.end:
            raise FreeUValueError(
                f"ScaleCrafter would act on no step: it ends at {plan.scalecrafter.end:g}, and the first step begins "
                f"at {first / plan.steps:g} of the denoising: raise --scalecrafter-end or --denoising-strength"
            )
    if config is None or config.identity:
        return
    idle = idle_windows(config, plan.steps, strength)
    if acts(config, plan.steps, strength) and not idle:
        return
    first = 0 if strength is None else plan.steps - min(int(plan.steps * strength), plan.steps)
    count = plan.steps - first
    ran = f"the last {count} of {counted(plan.steps, 'step')}" if first else counted(plan.steps, "step")
    begin = f"{ran} begin at {first / plan.steps:g} to {(plan.steps - 1) / plan.steps:g} of the denoising"
    for name in idle:
        start, end = getattr(config, name)
        raise FreeUValueError(
            f"{name} lets nothing act on any step: it is from {start:g} to {end:g}, within {config.start:g} to "
            f"{config.end:g}, and {begin}: change --{name.replace('_', '-')}, or run more steps"
        )
    raise FreeUValueError(
        f"FreeU would act on no step: it acts from {config.start:g} to {config.end:g}, and {begin}: change --start or "
        "--end, or run more steps"
    )

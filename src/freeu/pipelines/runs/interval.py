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
    first = 0 if strength is None else steps - min(int(steps * strength), steps)
    return any(config.schedule.weight(step / steps) > 0.0 for step in range(first, steps))


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
    if config is None or config.identity or acts(config, plan.steps, strength):
        return
    first = 0 if strength is None else plan.steps - min(int(plan.steps * strength), plan.steps)
    count = plan.steps - first
    ran = f"the last {count} of {counted(plan.steps, 'step')}" if first else counted(plan.steps, "step")
    raise FreeUValueError(
        f"FreeU would act on no step: it acts from {config.start:g} to {config.end:g}, and {ran} begin at "
        f"{first / plan.steps:g} to {(plan.steps - 1) / plan.steps:g} of the denoising: change --start or --end, or "
        "run more steps"
    )

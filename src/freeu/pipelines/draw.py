"""One call of a pipeline for one picture of a plan."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.pipelines.plan import Picture, Plan
from freeu.pipelines.schedulers import fresh_scheduler

if TYPE_CHECKING:
    from PIL.Image import Image

OnStep = Callable[[float, Any], None]
"""Told at the end of each denoising step: the fraction (0..1) that is done, and the latents."""


def draw(
    pipe: Any,
    plan: Plan,
    picture: Picture,
    image: Image | None = None,
    mask: Image | None = None,
    on_step: OnStep = lambda fraction, latents: None,
) -> tuple[Image, bool]:
    """One picture, and whether the safety checker blacked it out.

    Args:
        pipe: the pipeline that the plan was made for.
        picture: which prompt, seed and arm of the plan.
        image, mask: the inputs of the tasks "image" and "inpaint".
        on_step: changes nothing by what it returns.

    Raises:
        FreeUValueError: the pipeline refuses these settings.
        FreeURuntimeError: FreeU did not act, or the device has too little memory.
    """
    import torch

    import freeu

    fresh_scheduler(pipe)
    arguments: dict[str, Any] = {
        "prompt": picture.prompt,
        "negative_prompt": plan.negative_prompt or None,
        "num_inference_steps": plan.steps,
        "guidance_scale": plan.guidance,
        "width": plan.width,
        "height": plan.height,
        "image": image,
        "mask_image": mask,
        "strength": plan.image_strength,
        "generator": torch.Generator("cpu").manual_seed(picture.seed),
        "callback_on_step_end": _reporter(pipe, on_step),
    }
    known = inspect.signature(pipe.__call__).parameters
    arguments = {name: value for name, value in arguments.items() if name in known and value is not None}
    try:
        if picture.arm == "freeu":
            with freeu.enabled(pipe, plan.config) as handle:
                result = pipe(**arguments)
                handle.verify()
        else:
            result = pipe(**arguments)
    except torch.OutOfMemoryError:
        raise FreeURuntimeError(
            f"out of memory at {plan.width}x{plan.height} in {plan.dtype}: use a smaller --width and --height, "
            "--dtype float16 or --device cpu"
        ) from None
    except ValueError as error:
        if isinstance(error, FreeUValueError):
            raise
        raise FreeUValueError(f"{type(pipe).__name__} refuses these settings: {error}") from error
    flags = getattr(result, "nsfw_content_detected", None)
    return result.images[0].convert("RGB"), bool(flags and flags[0])


def _reporter(pipe: Any, report: OnStep) -> Callable[..., dict[str, Any]]:
    """A callback for the end of each step. It changes nothing; a step more or less than planned does no harm."""

    def callback(_pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        total = max(int(getattr(pipe, "num_timesteps", 0) or 0), step + 1)
        report(min((step + 1) / total, 0.99), tensors.get("latents"))
        return tensors

    return callback

"""One call of a pipeline for one image or video of a plan."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.pipelines.io.frames import Frames
from freeu.pipelines.models.memory import tiles, what_to_try
from freeu.pipelines.models.schedulers import fresh_scheduler
from freeu.pipelines.models.weighting import embeddings
from freeu.pipelines.runs.plan import Plan, PlannedImage

if TYPE_CHECKING:
    from PIL.Image import Image

OnStep = Callable[[float, Any], None]
"""Told at the end of each denoising step: the fraction (0..1) that is done, and the latents."""


def generate_image(
    pipe: Any,
    plan: Plan,
    planned: PlannedImage,
    image: Image | None = None,
    mask: Image | None = None,
    on_step: OnStep = lambda fraction, latents: None,
    control_image: Image | None = None,
    region: Image | None = None,
) -> tuple[Image, bool]:
    """``generate_frames`` for a model of still images: the one image instead of frames."""
    ((found, flagged),) = generate_images(pipe, plan, (planned,), image, mask, on_step, control_image, region)
    return found, flagged


def generate_images(
    pipe: Any,
    plan: Plan,
    batch: Sequence[PlannedImage],
    image: Image | None = None,
    mask: Image | None = None,
    on_step: OnStep = lambda fraction, latents: None,
    control_image: Image | None = None,
    region: Image | None = None,
) -> list[tuple[Image, bool]]:
    """Still images by one call of the pipeline, and of each whether the safety checker blacked it out.

    Args:
        batch: which images of the plan, all of one arm; several only where ``plan.batchable``.
        the others, and errors: as ``generate_frames``.
    """
    arguments = _image_arguments(plan, image, mask, control_image)
    result = _called(pipe, plan, batch, arguments, on_step, region)
    flags = getattr(result, "nsfw_content_detected", None) or [False] * len(batch)
    assert len(result.images) == len(batch), "callers that generate still images refuse models that generate videos"
    return [(one.convert("RGB"), bool(flag)) for one, flag in zip(result.images, flags, strict=True)]


def generate_frames(
    pipe: Any,
    plan: Plan,
    planned: PlannedImage,
    image: Image | None = None,
    mask: Image | None = None,
    on_step: OnStep = lambda fraction, latents: None,
    control_image: Image | None = None,
    region: Image | None = None,
) -> tuple[Frames, bool]:
    """Generate one image or video, and say whether the safety checker blacked it out.

    Args:
        pipe: the pipeline that the plan was made for.
        planned: which prompt, seed and arm of the plan.
        image, mask: the inputs of the tasks "image" and "inpaint".
        on_step: changes nothing by what it returns.
        control_image: what the plan's ControlNet reads.
        region: white where FreeU acts; None: everywhere.

    Raises:
        FreeUValueError: the pipeline refuses these settings.
        FreeURuntimeError: FreeU did not act, or the device has too little memory.
    """
    if plan.frames is None:
        image, flagged = generate_image(pipe, plan, planned, image, mask, on_step, control_image, region)
        return (image,), flagged
    arguments = _image_arguments(plan, image, mask, control_image)
    result = _called(pipe, plan, (planned,), arguments, on_step, region)
    return tuple(frame.convert("RGB") for frame in result.frames[0]), False


def _image_arguments(
    plan: Plan, image: Image | None, mask: Image | None, control_image: Image | None
) -> dict[str, Any]:
    """What a call says of the images that it starts from or is steered by."""
    arguments: dict[str, Any] = {
        "image": image,
        "mask_image": mask,
        "strength": plan.image_strength,
        "output_type": "pil",
    }
    if plan.control is not None:
        # In text-to-image, pipelines call the image that the ControlNet reads "image".
        arguments["control_image" if plan.task != "text" else "image"] = control_image
        arguments["controlnet_conditioning_scale"] = plan.control.scale
        arguments["control_guidance_start"] = plan.control.start
        arguments["control_guidance_end"] = plan.control.end
    return arguments


def generate_latents(
    pipe: Any,
    plan: Plan,
    planned: PlannedImage,
    image: Image | None = None,
    video: Frames | None = None,
    on_step: OnStep = lambda fraction, latents: None,
    region: Image | None = None,
) -> Any:
    """Generate the latents of one video, for ``decoding.decode_frames``; its frames are not in memory.

    Args:
        image, video: what the tasks "image-to-video" and "video-to-video" begin with.
        the others, and errors: as ``generate_frames``.
    """
    arguments = {
        "image": image,
        "video": list(video) if video is not None else None,
        "strength": plan.video_strength,
        "max_guidance_scale": plan.guidance,
        "fps": plan.fps,
        "target_fps": plan.fps,
        "output_type": "latent",
    }
    return _called(pipe, plan, (planned,), arguments, on_step, region).frames


def _called(
    pipe: Any,
    plan: Plan,
    batch: Sequence[PlannedImage],
    special: dict[str, Any],
    on_step: OnStep,
    region: Image | None,
) -> Any:
    """What the pipeline returns; it is given those arguments that it knows and that are not None."""
    import torch

    import freeu

    fresh_scheduler(pipe)
    several = len(batch) > 1
    negatives = [plan.negative_of(one) for one in batch]
    generators = [torch.Generator("cpu").manual_seed(one.seed) for one in batch]
    arguments: dict[str, Any] = {
        "prompt": [one.prompt for one in batch] if several else batch[0].prompt,
        "negative_prompt": negatives if several else negatives[0] or None,
        "num_inference_steps": plan.steps,
        "guidance_scale": plan.guidance,
        "guidance_rescale": plan.guidance_rescale,
        "width": plan.width,
        "height": plan.height,
        "num_frames": plan.frames,
        "generator": generators if several else generators[0],
        "callback_on_step_end": _reporter(pipe, on_step),
        # Pipelines that have not moved on to the other one.
        "callback": lambda step, _timestep, latents: on_step(min((step + 1) / plan.steps, 0.99), latents),
        **special,
    }
    if plan.weighting is not None:
        encoded = embeddings(pipe, [one.prompt for one in batch], negatives)
        arguments |= {**dict.fromkeys(("prompt", "negative_prompt"), None), **encoded} if encoded else {}
    known = inspect.signature(pipe.__call__).parameters
    arguments = {name: value for name, value in arguments.items() if name in known and value is not None}
    told = "callback_on_step_end" in known or "callback" in known
    try:
        with (
            contextlib.nullcontext() if told else _counted_calls(pipe, plan.steps, on_step),
            finite(pipe, plan.dtype),
            autocast(pipe.unet, plan.autocast),
            channels_last(pipe.unet, plan.device == "cpu" and plan.batch > 1 and plan.offload is None),
            scaled(pipe, plan),
            guided(pipe, plan),
        ):
            if batch[0].arm == "freeu":
                with freeu.enabled(pipe, plan.config, region=region) as handle, read_by(handle.sites, plan):
                    result = pipe(**arguments)
                    handle.verify()
            else:
                result = pipe(**arguments)
    except torch.OutOfMemoryError:
        fewer = "fewer --frames, " if plan.frames is not None else ""
        size = f"{len(batch)} images of {plan.width}x{plan.height}" if several else f"{plan.width}x{plan.height}"
        ways = what_to_try(plan.memory, plan.device, len(batch), plan.dtype, tiles(pipe))
        raise FreeURuntimeError(f"out of memory at {size} in {plan.arithmetic}: try {fewer}{ways}") from None
    except ValueError as error:
        if isinstance(error, FreeUValueError):
            raise
        raise FreeUValueError(f"{type(pipe).__name__} refuses these settings: {error}") from error
    return result


def scaled(pipe: Any, plan: Plan) -> contextlib.AbstractContextManager[Any]:
    """ScaleCrafter, where the plan has it."""
    if plan.scalecrafter is None:
        return contextlib.nullcontext()
    from freeu.scalecrafter.dilation import enabled

    return enabled(pipe, plan.scalecrafter)


def read_by(sites: Sequence[Any], plan: Plan) -> contextlib.AbstractContextManager[Any]:
    """What FreeU changed at these sites shown to one reader alone, where the plan says so."""
    if plan.reader is None:
        return contextlib.nullcontext()
    from freeu.core.readers import one_reader

    return one_reader(sites, plan.reader)


def guided(pipe: Any, plan: Plan) -> contextlib.AbstractContextManager[Any]:
    """What the plan does to guidance beside its scale."""
    if plan.guidance_rescale is not None:
        from freeu.guiding.hook import check_rescale

        check_rescale(pipe, plan.guidance)
    if plan.guiding is None:
        return contextlib.nullcontext()
    from freeu.guiding.hook import enabled

    return enabled(pipe, plan.guiding, plan.guidance)


@contextlib.contextmanager
def channels_last(unet: Any, wanted: bool) -> Iterator[None]:
    """Keep the weights of a U-Net in the memory format in which processors convolve faster.

    It moves values, so what is computed differs by rounding alone. A model that is in this format already stays in it.
    """
    import torch

    format_of = torch.channels_last
    kernels = [value for value in unet.parameters() if value.dim() == 4] if wanted else []
    changed = [value for value in kernels if not value.is_contiguous(memory_format=format_of)]
    for value in changed:
        value.data = value.data.contiguous(memory_format=format_of)
    try:
        yield
    finally:
        for value in changed:
            value.data = value.data.contiguous()


@contextlib.contextmanager
def autocast(unet: Any, dtype: str | None) -> Iterator[None]:
    """Compute a U-Net in another number format, within its calls alone; None leaves it as it is.

    What it returns is in the format of its input again, in which guidance and the scheduler go on.
    """
    if dtype is None:
        yield
        return
    import torch

    entered: list[Any] = []

    def begin(_unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample = args[0] if args else kwargs["sample"]
        entered.append((torch.autocast(sample.device.type, getattr(torch, dtype)), sample.dtype))
        entered[-1][0].__enter__()

    def end(_unet: Any, _args: Any, output: Any) -> Any:
        cast, before = entered.pop()
        cast.__exit__(None, None, None)
        if output is None:  # after an exception
            return None
        if isinstance(output, tuple):
            return (output[0].to(before), *output[1:])
        output.sample = output.sample.to(before)
        return output

    hooks = [
        unet.register_forward_pre_hook(begin, with_kwargs=True),
        unet.register_forward_hook(end, always_call=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def finite(pipe: Any, dtype: str) -> Iterator[None]:
    """Raise ``FreeURuntimeError`` at the end if the U-Net or the decoder gave numbers that are not finite.

    The libraries make a black image of them, and only warn.
    """
    decoder = getattr(getattr(pipe, "vae", None), "decoder", None)
    found: list[tuple[str, Any]] = []

    def look(part: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
            found.append((part, tensor.isfinite().all()))

        return hook

    parts = [("U-Net", pipe.unet), ("decoder of the VAE", decoder)]
    hooks = [part.register_forward_hook(look(name)) for name, part in parts if part is not None]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for part, fine in found:
        if not bool(fine):
            raise not_finite(part, dtype)


def not_finite(part: str, dtype: str) -> FreeURuntimeError:
    """That a part of a pipeline gave NaN or infinity, with what helps."""
    way = "use --dtype float32 or bfloat16" if dtype == "float16" else "use another checkpoint, or lower factors"
    return FreeURuntimeError(f"the {part} gave numbers that are not finite (NaN) in {dtype}, and no image: {way}")


@contextlib.contextmanager
def _counted_calls(pipe: Any, steps: int, report: OnStep) -> Iterator[None]:
    """For pipelines without callbacks: every call of the U-Net is a step."""
    calls = itertools.count(1)
    hook = pipe.unet.register_forward_hook(lambda *_: report(min(next(calls) / steps, 0.99), None))
    try:
        yield
    finally:
        hook.remove()


def _reporter(pipe: Any, report: OnStep) -> Callable[..., dict[str, Any]]:
    """A callback for the end of each step. It changes nothing; a step more or less than planned does no harm."""

    def callback(_pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        total = max(int(getattr(pipe, "num_timesteps", 0) or 0), step + 1)
        report(min((step + 1) / total, 0.99), tensors.get("latents"))
        return tensors

    return callback

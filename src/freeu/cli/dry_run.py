"""``--dry-run``: a request is checked as ever, and shown instead of carried out. No weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from freeu.cli.shell import result, say
from freeu.errors import FreeUValueError
from freeu.wording import counted

if TYPE_CHECKING:
    from freeu.pipelines.models.sources.sources import ModelSource
    from freeu.pipelines.options.model import ModelOptions
    from freeu.pipelines.options.run import RunOptions, SpeedOptions
    from freeu.pipelines.options.sampling import FrameOptions, SamplingOptions
    from freeu.pipelines.runs.request import Request

MOST_PROMPTS = 10
"""Prompts that are printed; JSON has all of them."""


def show_request(
    request: Request, name: str, arms: Sequence[str] = (), count: int | None = None, noun: str | None = None
) -> None:
    """Check a request of images or videos, and print what it would generate.

    Args:
        request: as for the command itself.
        name: what the name of a new folder begins with.
        arms: names of what is compared, where it is more than without and with FreeU.
        count: of what is generated, where it does not follow from prompts, seeds and arms.
        noun: of what is counted; default: image or video.

    Raises:
        FreeUValueError: whatever the command itself would refuse before it loads a model.
    """
    from freeu.pipelines.io.inputs import parse_seeds
    from freeu.pipelines.io.output import dated_folder
    from freeu.pipelines.models.fitness import native_side
    from freeu.pipelines.models.schedulers import sampler_name
    from freeu.pipelines.models.sources.tasks import TASK_NAMES
    from freeu.pipelines.runs.request import check_request

    folder = request.run.output or dated_folder(name)
    source = check_request(request, folder).model
    sampling = request.sampling
    seeds = parse_seeds(sampling.seeds)
    arms = arms or ["with FreeU" if arm == "freeu" else "without FreeU" for arm in request.arms]
    count = len(request.prompts) * len(seeds) * len(arms) if count is None else count
    noun = noun or ("video" if request.command == "video" else "image")
    side = native_side(source)
    data: dict[str, Any] = {
        "model": source.label,
        "kind": source.kind,
        "task": request.task,
        noun + "s": count,
        "prompts": list(request.prompts),
        "negative_prompt": list(request.negatives) or sampling.negative_prompt,
        "seeds": list(seeds),
        "arms": list(arms),
        "freeu": _freeu(request),
        "steps": sampling.steps or source.world.get("default_steps"),
        "guidance_scale": _first(sampling.guidance_scale, source.world.get("default_guidance_scale")),
        "scheduler": sampler_name(sampling.scheduler) if sampling.scheduler is not None else None,
        "width": sampling.width or (side if request.task == "text" else None),
        "height": sampling.height or (side if request.task == "text" else None),
        "folder": str(folder),
    }
    result(data)
    say(f"model: {source.label}{_where(source)}", f"{counted(count, noun)}: {TASK_NAMES[request.task]}")
    say(f"arms: {', '.join(arms)}", f"FreeU: {data['freeu']}")
    say(f"prompts: {len(request.prompts)}", *(f"  {prompt}" for prompt in request.prompts[:MOST_PROMPTS]))
    if len(request.prompts) > MOST_PROMPTS:
        say(f"  and {len(request.prompts) - MOST_PROMPTS} more")
    if request.negatives:
        say("negative prompt: one for each prompt")
    elif sampling.negative_prompt:
        say(f"negative prompt: {sampling.negative_prompt}")
    say(f"seeds: {sampling.seeds}")
    own = "the model's own"
    size = f"{data['width'] or own} x {data['height'] or own}" if data["width"] or data["height"] else own
    say(f"size: {size}", f"steps: {data['steps'] or own}", f"CFG scale: {_first(data['guidance_scale'], own)}")
    say(f"sampler: {data['scheduler'] or own}", f"folder: {folder}")
    say("nothing was generated or written: leave --dry-run out to do it")


def show_experiment(
    prompts: Sequence[Any],
    arms: str,
    known_later: str | None,
    there: bool,
    sampling: SamplingOptions,
    model: ModelOptions,
    run: RunOptions,
    video: FrameOptions,
    speed: SpeedOptions,
) -> None:
    """The same for ``freeu evaluate``.

    Args:
        prompts: with their texts.
        arms: as ``parse_arms`` reads them.
        known_later: the option whose arms depend on the model.
        there: whether the images are there already.
        sampling, model, run, video, speed: of the command.

    Raises:
        FreeUValueError: what would be generated is not known, or is nothing.
    """
    from freeu.evaluate.experiment.arms import parse_arms
    from freeu.pipelines.options.sampling import PromptOptions
    from freeu.pipelines.runs.request import Request

    if there:
        raise FreeUValueError("--images generates nothing: leave --dry-run out")
    if known_later is not None:
        raise FreeUValueError(f"what {known_later} compares is known once the model is loaded: leave --dry-run out")
    names = [arm.name for arm in parse_arms(arms)]
    texts = PromptOptions([prompt.text for prompt in prompts]).collect()
    added, frames = model.add_ons(), video.frames
    request = Request(
        "generate", texts, sampling, model, run, add_ons=added, frames=frames, allow_videos=True, speed=speed
    )
    show_request(request, "freeu-evaluate", names)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _freeu(request: Request) -> str | None:
    if request.freeu is None:
        return None
    base = request.freeu.base()
    more = " ".join(f"{name}={value}" for name, value in request.freeu.overrides().items())
    if base is None:
        return f"as recommended for the model (freeu inspect shows it){', ' if more else ''}{more}"
    return str(base.replace(**request.freeu.overrides()))


def _where(source: ModelSource) -> str:
    return {"embedded": " (embedded)", "hub": " (of the hub)"}.get(source.kind, f" ({source.path})")

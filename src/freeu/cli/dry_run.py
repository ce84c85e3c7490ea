"""``--dry-run``: what was checked as ever is shown instead of carried out. No weights are read, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.cli.shell import result, say
from freeu.errors import FreeUValueError
from freeu.wording import counted

if TYPE_CHECKING:
    from freeu.pipelines.models.sources.sources import ModelSource
    from freeu.pipelines.options.freeu import FreeUOptions
    from freeu.pipelines.runs.plan import Plan
    from freeu.pipelines.runs.request import Request

MOST_PROMPTS = 10
"""Prompts that are printed; JSON has all of them."""


def show(data: Mapping[str, Any], *lines: str) -> None:
    """Print what a command would do: these lines, or the data if JSON was asked for."""
    result(data)
    say(*lines, "nothing was loaded or written: leave --dry-run out to do it")


def show_request(
    request: Request,
    source: ModelSource,
    folder: Path,
    *,
    arms: Sequence[str] = (),
    count: int | None = None,
    noun: str | None = None,
    task: str | None = None,
    headline: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Print what a checked request would generate.

    Args:
        request: of images or videos, checked by ``check_request``.
        source: of its model.
        folder: that would be written.
        arms: names of what is compared, where it is more than without and with FreeU.
        count: of what is generated, where it does not follow from prompts, seeds and arms.
        noun: of what is counted; default: image or video.
        task: of ``tasks.TASK_NAMES``, where it is not that of the request.
        headline: what is said instead of the count, which the data lacks then.
        more: what else the command does, by its name in the data; it wins over what the request says.
    """
    from freeu.pipelines.io.inputs import parse_seeds
    from freeu.pipelines.models.fitness import native_side
    from freeu.pipelines.models.schedulers import sampler_name
    from freeu.pipelines.models.sources.tasks import TASK_NAMES

    more = more or {}
    task = task or request.task
    sampling = request.sampling
    seeds = parse_seeds(sampling.seeds)
    arms = arms or ["with FreeU" if arm == "freeu" else "without FreeU" for arm in request.arms]
    count = len(request.prompts) * len(seeds) * len(arms) if count is None else count
    noun = noun or ("video" if request.command == "video" else "image")
    side = native_side(source) if task == "text" else None
    data: dict[str, Any] = {
        "model": source.label,
        "kind": source.kind,
        "task": task,
        **({noun + "s": count} if headline is None else {}),
        "prompts": list(request.prompts),
        "negative_prompt": list(request.negatives) or sampling.negative_prompt,
        "seeds": list(seeds),
        "arms": list(arms),
        "freeu": freeu_text(request.freeu),
        **({"region": str(request.region.region)} if request.region.region is not None else {}),
        "steps": sampling.steps or source.world.get("default_steps"),
        "guidance_scale": _first(sampling.guidance_scale, source.world.get("default_guidance_scale")),
        "scheduler": sampler_name(sampling.scheduler) if sampling.scheduler is not None else None,
        "width": sampling.width or side,
        "height": sampling.height or side,
        "folder": str(folder),
    }
    beside = {name: value for name, value in more.items() if name not in data}
    data |= more
    own = "the model's own"
    size = f"{data['width'] or own} x {data['height'] or own}" if data["width"] or data["height"] else ""
    show(
        data,
        f"model: {source.label}{_where(source)}",
        f"{headline or counted(count, noun)}: {TASK_NAMES[task]}",
        f"arms: {', '.join(arms)}",
        *([] if data["freeu"] is None else [f"FreeU: {data['freeu']}"]),
        *([f"region: {data['region']}, FreeU acts where it is white"] if "region" in data else []),
        *_prompts(request.prompts, request.negatives, sampling.negative_prompt),
        f"seeds: {sampling.seeds}",
        f"size: {size or (own if task == 'text' else 'that of the input')}",
        f"steps: {_listed(_first(data['steps'], own))}",
        f"CFG scale: {_listed(_first(data['guidance_scale'], own))}",
        f"sampler: {data['scheduler'] or own}",
        *(f"{name.replace('_', ' ')}: {_listed(value)}" for name, value in beside.items()),
        f"folder: {folder}",
    )


def show_plan(plan: Plan, source: ModelSource, folder: Path) -> None:
    """Print what a manifest's plan would generate again.

    Args:
        plan: of the manifest.
        source: of its model, where that is now.
        folder: that would be written.
    """
    from freeu.pipelines.io.inputs import format_seeds
    from freeu.pipelines.models.sources.tasks import TASK_NAMES
    from freeu.pipelines.runs.plan import ARMS

    arms = [ARMS[arm] for arm in plan.arms]
    data = {
        "model": source.label,
        "kind": source.kind,
        "task": plan.task,
        plan.noun + "s": plan.count,
        "prompts": list(plan.prompts),
        "negative_prompt": list(plan.negatives) or plan.negative_prompt,
        "seeds": list(plan.seeds),
        "arms": arms,
        "freeu": None if plan.config is None else str(plan.config),
        "steps": plan.steps,
        "guidance_scale": plan.guidance,
        "scheduler": plan.scheduler,
        "width": plan.width,
        "height": plan.height,
        "folder": str(folder),
    }
    show(
        data,
        f"model: {source.label}{_where(source)}",
        f"{counted(plan.count, plan.noun)} once more: {TASK_NAMES[plan.task]}",
        f"arms: {', '.join(arms)}",
        *_prompts(plan.prompts, plan.negatives, plan.negative_prompt),
        f"seeds: {format_seeds(plan.seeds)}",
        f"folder: {folder}",
    )


def show_existing(arms: Mapping[str, int], prompts: int, reference: int, videos: bool, folder: Path) -> None:
    """Print which outputs that are there already would be scored.

    Args:
        arms: how many each has.
        prompts, reference: how many there are.
        videos: whether they are videos.
        folder: that would be written.
    """
    noun, count = "video" if videos else "image", sum(arms.values())
    show(
        {noun + "s": count, "prompts": prompts, "arms": list(arms), "reference": reference, "folder": str(folder)},
        f"{counted(count, noun)} to score, of {counted(prompts, 'prompt')}",
        f"arms: {', '.join(arms)}",
        f"reference: {reference or 'none'}",
        f"folder: {folder}",
    )


def freeu_text(options: FreeUOptions | None) -> str | None:
    """FreeU's settings for people, as far as they are known without the model; None without FreeU."""
    if options is None:
        return None
    base = options.base()
    more = " ".join(f"{name}={value}" for name, value in options.overrides().items())
    if base is None:
        return f"as recommended for the model (freeu inspect shows it){', ' if more else ''}{more}"
    return str(base.replace(**options.overrides()))


def refuse_copies(*places: tuple[str, str]) -> None:
    """Refuse folders named by URLs, which must be copied before they can be checked.

    Args:
        places: the option and what it was given.

    Raises:
        FreeUValueError: the first URL.
    """
    from freeu.pipelines.io.remote import is_url

    for option, place in places:
        if is_url(place):
            raise FreeUValueError(f"{option} names a URL, and a dry run copies nothing: give a local copy of it")


def _prompts(prompts: Sequence[str], negatives: Sequence[str], negative: str) -> list[str]:
    found = [f"prompts: {len(prompts)}", *(f"  {prompt}" for prompt in prompts[:MOST_PROMPTS])]
    if len(prompts) > MOST_PROMPTS:
        found.append(f"  and {len(prompts) - MOST_PROMPTS} more")
    if negatives:
        return [*found, "negative prompt: one for each prompt"]
    return [*found, *([f"negative prompt: {negative}"] if negative else [])]


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _where(source: ModelSource) -> str:
    return {"embedded": " (embedded)", "hub": " (of the hub)"}.get(source.kind, f" ({source.path})")

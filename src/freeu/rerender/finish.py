"""What follows the videos: both side by side, the page, and the lines that say what was made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.addons.add_ons import added_text
from freeu.pipelines.pages.clip_page import Head, Pair, clip_page
from freeu.pipelines.pages.finish import embedded_note
from freeu.pipelines.pages.page import settings_rows
from freeu.pipelines.pages.strip import beside
from freeu.pipelines.runs.plan import ARMS
from freeu.rerender.request import Job, command_line
from freeu.rerender.run import FILMS, SOURCE
from freeu.wording import counted

PAGE = "rerender.html"
TOGETHER = "side-by-side.mp4"


def finish_film(
    job: Job,
    output: OutputFolder,
    record: Mapping[str, Any],
    say: Callable[[str], None] = lambda what: None,
) -> list[tuple[str, str]]:
    """Write what shows source and videos at once.

    Returns:
        the files worth opening with what each is for.
    """
    folder, plan = output.path, job.plan
    say("side by side")
    labels = ["source", *(ARMS[arm] for arm in plan.arms)]
    shown = [folder / SOURCE, *(folder / FILMS[arm] for arm in plan.arms)]
    with output.file(TOGETHER) as part:
        beside(shown, labels, job.source.clip.fps, part)
    say("page")
    output.write(PAGE, _page(job, output, record))
    films = [(FILMS[arm], f"the video {ARMS[arm]}") for arm in plan.arms]
    return [
        (PAGE, "open it in a browser: source and video in step, side by side or under a slider"),
        *films,
        (TOGETHER, "source and video as one"),
        ("keys-*", "the key frames as they were generated"),
    ]


def _page(job: Job, output: OutputFolder, record: Mapping[str, Any]) -> str:
    folder, plan = output.path, job.plan
    prompt = plan.prompts[0]
    pairs = [
        Pair(
            f"source and video {ARMS[arm]}",
            folder / SOURCE,
            folder / FILMS[arm],
            labels=("source", ARMS[arm]),
            names=("The video that came in", f"The video {ARMS[arm]}: {prompt}"),
        )
        for arm in plan.arms
    ]
    if len(plan.arms) == 2:
        off, on = (folder / FILMS[arm] for arm in plan.arms)
        pairs.insert(0, Pair("without and with FreeU", off, on))
    source = job.source
    return clip_page(
        Head(
            f"Rerendered: {prompt}",
            "A video re-rendered",
            f"{source.path.name}, re-rendered by {plan.model_text}."
            + (" FreeU:" if plan.config is not None else " Without FreeU."),
            str(plan.config) if plan.config is not None else "",
            embedded_note(plan, job.loaded.source.world),
            "",
        ),
        [(prompt, pairs)],
        source.size,
        len(source),
        source.clip.fps,
        [*settings_rows(plan), *rows(job, record)],
        record["environment"],
        {
            "command": command_line(job),
            "python": _python(job),
            "json": plan.config.to_json(indent=2) if plan.config else "{}",
        },
    )


def _python(job: Job) -> str:
    """The key frames of the video in Python, for who has frames and a pipeline of their own."""
    settings, config = job.settings, job.plan.config
    lines = [
        "from freeu.rerender.painter import KeyFramePainter",
        "from freeu.rerender.settings import KeyFrameSettings",
        "",
    ]
    lines.append(
        f"painter = KeyFramePainter(pipe, KeyFrameSettings({settings.prompt!r}, strength={settings.strength:g}))"
    )
    if config is None:
        return "\n".join([*lines, "generated = [painter.paint(frame) for frame in key_frames]"])
    lines.append(f"with freeu.enabled(pipe, freeu.FreeUConfig.parse({json.dumps(str(config))})):")
    return "\n".join([*lines, "    generated = [painter.paint(frame) for frame in key_frames]"])


def rows(job: Job, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings of a video as (name, value), for people."""
    settings, control = job.settings, record["control"]
    drawn = ", ".join(f"{ARMS[arm]}: {len(keys)}" for arm, keys in record["keys"].items())
    return [
        ("frames", f"{len(job.source)} at {job.source.clip.fps:.4g} a second"),
        ("key frames", drawn or "none"),
        ("video strength", f"{settings.strength:g}"),
        ("stages", ", ".join(settings.stages) or "none"),
        ("ControlNet", "none" if control is None else f"{control['name']}, weight {settings.control_scale:g}"),
        ("sound", "kept" if job.source.sound else "none"),
    ]


def film_headline(job: Job) -> list[str]:
    """What is about to be made, for the terminal."""
    plan, source, settings = job.plan, job.source, job.settings
    model = embedded_note(plan, job.loaded.source.world) or f"model {plan.model.name}"
    added = added_text(plan.add_ons())
    control = job.record["control"]
    with_control = f", edges by {control['name']}" if control is not None else ", no ControlNet"
    effect = f"FreeU {plan.config} (profile {plan.config.profile})" if plan.config else "without FreeU"
    every = f"a key frame every {counted(job.keys.interval, 'frame')}"
    return [
        model,
        *([f"with {added}"] if added else []),
        effect,
        f"{source.path.name}: {counted(len(source), 'frame')} at {source.clip.fps:.4g} a second, {every}"
        + (" or sooner" if job.keys.content else "")
        + (", sound" if source.sound else ""),
        f"{source.size[0]}x{source.size[1]}, {counted(settings.made, 'step')} of {plan.steps}, guidance "
        f"{plan.guidance:g}{with_control}, {plan.dtype} on {plan.device}, {counted(plan.threads, 'thread')}",
    ]

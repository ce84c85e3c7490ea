"""After the videos are made: source and output side by side, the page, and the summary on the terminal."""

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
from freeu.rerender.run import SOURCE, VIDEOS
from freeu.wording import counted

PAGE = "rerender.html"
TOGETHER = "side-by-side.mp4"


def finish_rerender(
    job: Job,
    output: OutputFolder,
    record: Mapping[str, Any],
    say: Callable[[str], None] = lambda what: None,
) -> list[tuple[str, str]]:
    """Write the page and the video that show source and output together.

    Returns:
        the files to open, each with what it is.
    """
    folder, plan = output.path, job.plan
    say("side by side")
    labels = ["source", *(ARMS[arm] for arm in plan.arms)]
    shown = [folder / SOURCE, *(folder / VIDEOS[arm] for arm in plan.arms)]
    with output.file(TOGETHER) as part:
        beside(shown, labels, job.source.clip.fps, part)
    say("page")
    output.write(PAGE, _page(job, output, record))
    videos = [(VIDEOS[arm], f"the video {ARMS[arm]}") for arm in plan.arms]
    return [
        (PAGE, "open it in a browser: source and output synchronized, side by side or under a slider"),
        *videos,
        (TOGETHER, "source and output side by side in one video"),
        ("keys-*", "the generated key frames"),
    ]


def _page(job: Job, output: OutputFolder, record: Mapping[str, Any]) -> str:
    folder, plan = output.path, job.plan
    prompt = plan.prompts[0]
    pairs = [
        Pair(
            f"source and output {ARMS[arm]}",
            folder / SOURCE,
            folder / VIDEOS[arm],
            labels=("source", ARMS[arm]),
            names=("The source video", f"The video {ARMS[arm]}: {prompt}"),
        )
        for arm in plan.arms
    ]
    if len(plan.arms) == 2:
        off, on = (folder / VIDEOS[arm] for arm in plan.arms)
        pairs.insert(0, Pair("without and with FreeU", off, on))
    source = job.source
    return clip_page(
        Head(
            f"Re-rendered: {prompt}",
            "A re-rendered video",
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
            "where": " (in the folder of the video)",
            "python": _python(job),
            "json": plan.config.to_json(indent=2) if plan.config else "{}",
        },
    )


def _python(job: Job) -> str:
    """The key frames in Python, for a pipeline and frames in memory."""
    settings, config = job.settings, job.plan.config
    lines = [
        "from freeu.rerender.denoise.generator import KeyFrameGenerator",
        "from freeu.rerender.denoise.settings import KeyFrameSettings",
        "",
        f"generator = KeyFrameGenerator(pipe, KeyFrameSettings({settings.prompt!r}, strength={settings.strength:g}))",
    ]
    if settings.on("outline"):
        lines.append("# Without the stage outline: for that, generate() takes what moves, by the flow of the frames.")
    generate = "images = [generator.generate(frame) for frame in key_frames]"
    if config is None:
        return "\n".join([*lines, generate])
    lines.insert(0, "import freeu")
    lines.append(f"with freeu.enabled(pipe, freeu.FreeUConfig.parse({json.dumps(str(config))})):")
    return "\n".join([*lines, f"    {generate}"])


def rows(job: Job, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings of a video as (name, value), for the page."""
    settings, control = job.settings, record["control"]
    counts = ", ".join(f"{ARMS[arm]}: {len(keys)}" for arm, keys in record["keys"].items())
    return [
        ("frames", f"{len(job.source)} at {job.source.clip.fps:.4g} fps"),
        ("key frames", counts or "none"),
        ("denoising strength", f"{settings.strength:g}"),
        ("stages", ", ".join(settings.stages) or "none"),
        ("ControlNet", "none" if control is None else f"{control['name']}, weight {settings.control_scale:g}"),
        ("sound", "kept" if job.source.sound else "none"),
    ]


def rerender_headline(job: Job) -> list[str]:
    """What will be made, for the terminal."""
    plan, source, settings = job.plan, job.source, job.settings
    model = embedded_note(plan, job.loaded.source.world) or f"model {plan.model.name}"
    added = added_text(plan.add_ons())
    control = job.record["control"]
    with_control = f", ControlNet {control['name']}" if control is not None else ", no ControlNet"
    effect = f"FreeU {plan.config} (profile {plan.config.profile})" if plan.config else "without FreeU"
    every = f"a key frame every {counted(job.keys.interval, 'frame')}"
    return [
        model,
        *([f"with {added}"] if added else []),
        effect,
        f"{source.path.name}: {counted(len(source), 'frame')} at {source.clip.fps:.4g} fps, {every}"
        + (" or sooner" if job.keys.content else "")
        + (", sound" if source.sound else ""),
        f"{source.size[0]}x{source.size[1]}, {settings.made} of {counted(plan.steps, 'step')}, CFG scale "
        f"{plan.guidance:g}{with_control}, {plan.dtype} on {plan.device}, {counted(plan.threads, 'thread')}",
    ]

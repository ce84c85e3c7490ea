"""``freeu rerender``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli.bundles import Only, Without
from freeu.cli.errors import stopped
from freeu.cli.shell import loading, say, tell, written
from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions, FreeUSwitch
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions, ShellOptions
from freeu.pipelines.options.sampling import PromptOptions, SamplingOptions
from freeu.rerender.options import PRESET, RerenderOptions


def rerender(
    video: Annotated[
        Path,
        typer.Argument(metavar="VIDEO", help="An .mp4, .m4v, .mov, .webm, .gif, .webp or .png.", show_default=False),
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the video shows.", show_default=False)],
    sampling: Annotated[SamplingOptions, Without("weighting", "num_images")],
    model: ModelOptions,
    options: RerenderOptions,
    control: Annotated[ControlOptions, Only("control_weight", "skip_filter_order")],
    freeu: FreeUOptions,
    switch: FreeUSwitch,
    run: RunOptions,
    shell: ShellOptions,
    compare: Annotated[
        bool, typer.Option("--compare", help="Make the video without and with FreeU.", rich_help_panel="FreeU")
    ] = False,
) -> None:
    """Re-render a video from a prompt: key frames by the model, the frames between along the motion of the video.

    An interrupted run goes on if the same command is given again with the same --output.
    """
    from freeu.pipelines.runs.request import Request
    from freeu.rerender.request import Rerender, check_rerender, prepare_rerender

    with run.folder("freeu-rerender", shell.dry_run) as folder:
        switch.check(freeu, asked=compare)
        if freeu.base() is None:
            freeu = replace(freeu, preset=PRESET)
        request = Request(
            "compare" if compare else "generate",
            PromptOptions([prompt]).collect(),
            sampling,
            model,
            run,
            None if switch.no_freeu else freeu,
            model.add_ons(),
            control=control,
        )
        wanted = Rerender(video, request, options)
        checked = check_rerender(wanted, folder)
        if shell.dry_run:
            _show(wanted, checked, folder)
            return
        loading(model.model or "the embedded model")
        job = prepare_rerender(wanted, checked)
        tell(*job.notes)
        _make(job, folder)


def _show(wanted: Any, checked: Any, folder: Path) -> None:
    """What a dry run says."""
    from freeu.cli.dry_run import show_request
    from freeu.wording import counted

    request, frames = wanted.plain_request, len(checked.source)
    control = checked.control
    more = {
        "video": str(checked.source.path),
        "frames": frames,
        "denoising_strength": wanted.options.denoising_strength,
        "key_frames": f"one after {counted(wanted.options.key_every, 'frame')}",
        "controlnet": "none" if control is None else control.label,
    }
    headline = f"{counted(len(request.arms), 'video')} of {counted(frames, 'frame')}"
    show_request(request, checked.model.model, folder, task="video-to-video", headline=headline, more=more)


def _make(job: Any, folder: Path) -> None:
    """Make the video and what shows it; say what was made and where."""
    from freeu.cli.progress import KEY_FRAME, Bar
    from freeu.pipelines.io.output import OutputFolder
    from freeu.rerender.finish import finish_rerender, rerender_headline
    from freeu.rerender.run import run_rerender
    from freeu.wording import counted

    say(*rerender_headline(job))
    output = OutputFolder(folder)
    bar = Bar("generating", len(job.source) * len(job.plan.arms), KEY_FRAME)
    try:
        with bar:
            record = run_rerender(job, output, bar)
            pages = finish_rerender(job, output, record, bar.say)
    except KeyboardInterrupt:
        raise stopped(folder, f"after {counted(bar.done, KEY_FRAME)}", str(job.settings.seed)) from None
    say(f"wrote {counted(len(job.source), 'frame')} to {folder}")
    for name, purpose in pages:
        say(f"  {folder / name}  {purpose}")
    written(folder, *(name for name, _ in pages))

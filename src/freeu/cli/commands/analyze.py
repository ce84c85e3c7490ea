"""``freeu analyze``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli import options as o
from freeu.cli.errors import stopped
from freeu.errors import FreeUValueError

LIGHT_PROMPTS, FULL_PROMPTS = 6, 24
LIGHT_STEPS = 12
"""At most so many where nobody asks for more or for --full: the embedded model takes two minutes on two cores."""

PromptFile = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="FILE|paper",
        help="One prompt a line (default: prompts of the embedded model, or of the paper).",
    ),
]
Figures = Annotated[
    list[int] | None,
    typer.Option(
        "--figure",
        metavar="N",
        help="Of the paper, or 101 and 102 of clips; may be given again (default: all of them).",
    ),
]
Full = Annotated[
    bool, typer.Option("--full", help="Wider sweeps, more prompts, every step: five to ten times the work.")
]
Control = Annotated[
    bool, typer.Option("--control", help="Do the same with random weights: what says the same there is no evidence.")
]
Frames = Annotated[int | None, typer.Option("--frames", metavar="N", help="Of each clip, where the model draws video.")]
Form = Annotated[
    str, typer.Option("--form", metavar="radial|diagonal", help="Spectra over all directions, or along the diagonal.")
]


def analyze(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="As for freeu compare --model (default: the embedded one)."),
    ] = None,
    prompts: PromptFile = None,
    seeds: o.Seeds = "0",
    figures: Figures = None,
    full: Full = False,
    control: Control = False,
    form: Form = "radial",
    preset: o.Preset = None,
    config: o.Config = None,
    b: o.B = None,
    s: o.S = None,
    version: o.Version = None,
    profile: o.Profile = None,
    start: o.Start = None,
    end: o.End = None,
    ramp: o.Ramp = None,
    strength: o.Strength = None,
    steps: o.Steps = None,
    guidance: o.Guidance = None,
    negative_prompt: o.Negative = "",
    scheduler: o.Scheduler = None,
    frames: Frames = None,
    width: o.Width = None,
    height: o.Height = None,
    lora: o.Loras = None,
    fuse_lora: o.FuseLora = False,
    embedding: o.Embeddings = None,
    model_config: o.ModelConfig = None,
    variant: o.Variant = None,
    dtype: o.DType = "auto",
    device: o.Device = "auto",
    threads: o.Threads = None,
    output: o.Output = None,
) -> None:
    """Make the spectral figures and ablations of the paper for a model, and a report of what they say about it.

    Writes report.html, table.md, results.json, figures/ (PNG, SVG and CSV) and pictures/. An interrupted analysis goes
    on if the same command is given again with the same --output.
    """
    values = locals()
    from freeu.analysis.figures.figures import OF_CLIPS, check_numbers, figures_for
    from freeu.analysis.measurement.measure import FORMS
    from freeu.analysis.measurement.variants import FULL, LIGHT
    from freeu.extras import need
    from freeu.pipelines.io.output import dated_folder
    from freeu.pipelines.models.sources.families import draws_clips
    from freeu.pipelines.runs.request import FreeUChoice, Request, check_request, notes, prepare

    asked = check_numbers(figures or ())
    if form not in FORMS:
        raise FreeUValueError(f"--form must be one of {', '.join(FORMS)}, got {form!r}")
    need("analysis", "matplotlib", "plotly", "scipy")
    folder: Path = output or dated_folder("freeu-analyze")
    request = Request(
        command="generate",
        prompts=() if prompts else _default_prompts(model, FULL_PROMPTS if full else LIGHT_PROMPTS),
        prompts_from=prompts,
        freeu=FreeUChoice(**{name: values[name] for name in o.FREEU_FIELDS}),
        frames=frames,
        clips=True,
        **o.add_ons(values),
        **{name: values[name] for name in o.REQUEST_FIELDS},
    )
    source = check_request(request, folder)
    if source.class_name and not draws_clips(source):
        figures_for(None, asked)
    prepared = prepare(request, source)

    from freeu.analysis.analyze import REPORT, Analysis, run_analysis
    from freeu.cli.progress import Counter
    from freeu.pipelines.pages.finish import headline

    plan = prepared.plan
    if steps is None and not full:
        plan = replace(plan, steps=min(plan.steps, LIGHT_STEPS))
    assert plan.config is not None
    numbers = figures_for(plan.frames, asked)
    if set(numbers) & set(OF_CLIPS):
        need("video", "cv2")
    analysis = Analysis(plan, plan.config, numbers, FULL if full else LIGHT, form=form, control=control)
    for line in notes(plan, source.world):
        print(f"freeu: {line}", file=sys.stderr)
    lines = list(headline(plan, source.world))
    for line in lines:
        print(line)
    sys.stdout.flush()
    bar = Counter("drawing", analysis.pictures)
    try:
        with bar:
            results = run_analysis(
                prepared.loaded,
                analysis,
                folder,
                note=lines[0] if source.world else "",
                say=bar.say,
                report=bar.one,
            )
    except KeyboardInterrupt:
        raise stopped(folder) from None
    for line in _summary(results):
        print(line)
    print(f"wrote {folder / REPORT}, figures/, table.md and results.json")


def _default_prompts(model: str | None, count: int) -> tuple[str, ...]:
    """Prompts that the embedded model is shown in its card, or those of the paper."""
    from freeu.pipelines.io.prompts import PAPER_PROMPTS
    from freeu.pipelines.models.sources.sources import find_model

    world: dict[str, Any] = find_model(model).world
    own = world.get("sheets", {}).get("guidance", ())
    return tuple(own[:count]) or PAPER_PROMPTS[:count]


def _summary(results: dict[str, Any]) -> list[str]:
    """A line for each verdict."""
    from freeu.analysis.table import number

    lines = []
    for one in results["verdicts"]:
        other = one["control"]
        lines.append(
            f"Fig. {one['figure']:>2}  {one['answer']:<9}  {one['claim']}  {number(one)}"
            + (f"  (random weights: {other['answer']}, {other['value']:+.3g}; {other['beyond']})" if other else "")
        )
    return lines

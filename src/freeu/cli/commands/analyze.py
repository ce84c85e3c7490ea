"""``freeu analyze``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from freeu.cli.bundles import Only, Without
from freeu.cli.errors import stopped
from freeu.cli.shell import loading, say, tell, written
from freeu.errors import FreeUValueError
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.model import ChosenModel, ModelOptions
from freeu.pipelines.options.run import RunOptions, ShellOptions
from freeu.pipelines.options.sampling import FrameOptions, PromptOptions, SamplingOptions

LIGHT_PROMPTS, FULL_PROMPTS = 6, 24
LIGHT_STEPS = 12
"""At most so many where nobody asks for more or for --full: the embedded model takes two minutes on two cores."""
OLD = {"random_baseline": ("--control",)}


def analyze(
    prompts: Annotated[PromptOptions, Only("prompts_from", "limit", "sample", "sample_seed")],
    sampling: Annotated[SamplingOptions, Without("weighting")],
    options: Annotated[ModelOptions, Without("model")],
    freeu: FreeUOptions,
    run: RunOptions,
    shell: ShellOptions,
    chosen: ChosenModel,
    video: FrameOptions,
    figures: Annotated[
        list[int] | None,
        typer.Option(
            "--figure",
            metavar="N",
            help="Number of a figure in the paper, or 101 and 102 for videos; may be given again (default: all).",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Wider sweeps, more prompts, every step: five to ten times the work.")
    ] = False,
    random_baseline: Annotated[
        bool,
        typer.Option(
            "--random-baseline",
            help="Measure the same model with random weights too: what it shows alike is no evidence.",
        ),
    ] = False,
    form: Annotated[
        str,
        typer.Option("--form", metavar="radial|diagonal", help="Spectra over all directions, or along the diagonal."),
    ] = "radial",
) -> None:
    """Spectral analysis of a model: the figures and ablations of the paper, and a report of what they show.

    Without --prompts it takes those of the embedded model, or of the paper. Writes report.html, table.md, results.json,
    figures/ (PNG, SVG and CSV) and pictures/. An interrupted analysis goes on if the same command is given again with
    the same --output.
    """
    from freeu.analysis.figures.figures import VIDEO_FIGURES, check_numbers, figures_for
    from freeu.analysis.measurement.measure import FORMS
    from freeu.analysis.measurement.variants import FULL, LIGHT
    from freeu.extras import need
    from freeu.pipelines.models.sources.families import generates_videos
    from freeu.pipelines.runs.prepare import prepare
    from freeu.pipelines.runs.request import Request, check_request
    from freeu.wording import counted

    asked = check_numbers(figures or ())
    if form not in FORMS:
        raise FreeUValueError(f"--form must be one of {', '.join(FORMS)}, got {form!r}")
    need("analysis", "matplotlib", "plotly", "scipy")
    with run.folder("freeu-analyze", shell.dry_run) as folder:
        texts = (
            prompts.collect() if prompts else _default_prompts(chosen.model, FULL_PROMPTS if full else LIGHT_PROMPTS)
        )
        request = Request(
            "generate",
            texts,
            sampling,
            replace(options, model=chosen.model),
            run,
            freeu,
            options.add_ons(),
            frames=video.frames,
            allow_videos=True,
        )
        found = check_request(request, folder)
        if found.model.class_name and not generates_videos(found.model):
            asked = figures_for(None, asked)
        if shell.dry_run:
            from freeu.cli.dry_run import show_request

            own = found.model.world.get("default_steps")
            light = sampling.steps is None and not full
            more = {
                "steps": (min(own, LIGHT_STEPS) if own else f"{LIGHT_STEPS} at most")
                if light
                else sampling.steps or own,
                "figures": list(asked) or "all that the model allows",
                "random_baseline": "yes" if random_baseline else "no",
            }
            what = counted(len(asked), "figure") if asked else "figures"
            arms = ("without FreeU", "with FreeU", "what the figures vary of it")
            show_request(request, found.model, folder, arms=arms, headline=what, more=more)
            return
        loading(found.model.label)
        prepared = prepare(request, found)

        from freeu.analysis.analyze import REPORT, Analysis, run_analysis
        from freeu.cli.progress import Bar
        from freeu.pipelines.pages.finish import headline

        plan, world = prepared.plan, found.model.world
        if sampling.steps is None and not full:
            plan = replace(plan, steps=min(plan.steps, LIGHT_STEPS))
        assert plan.config is not None
        numbers = figures_for(plan.frames, asked)
        if set(numbers) & set(VIDEO_FIGURES):
            need("video", "cv2")
        analysis = Analysis(
            plan, plan.config, numbers, FULL if full else LIGHT, form=form, random_baseline=random_baseline
        )
        tell(*prepared.notes)
        lines = headline(plan, world)
        say(*lines)
        bar = Bar("generating", analysis.images)
        try:
            with bar:
                results = run_analysis(
                    prepared.loaded,
                    analysis,
                    folder,
                    note=lines[0] if world else "",
                    say=bar.say,
                    report=bar.one,
                )
        except KeyboardInterrupt:
            raise stopped(folder, seeds=sampling.seeds) from None
        say(*_summary(results), f"wrote {folder / REPORT}, figures/, table.md and results.json")
        written(folder, REPORT, "table.md", "results.json", verdicts=results["verdicts"])


def _default_prompts(model: str | None, count: int) -> tuple[str, ...]:
    """Prompts that the embedded model is shown in its card, or those of the paper."""
    from freeu.pipelines.io.prompts import PAPER_PROMPTS
    from freeu.pipelines.models.sources.sources import find_model

    world: dict[str, Any] = find_model(model).world
    own = world.get("sheets", {}).get("guidance", ())
    return tuple(own[:count]) or PAPER_PROMPTS[:count]


def _summary(results: dict[str, Any]) -> list[str]:
    """A line for each verdict, and why all are undecided if there are too few prompts."""
    from freeu.analysis.measurement.content import LEAST_PROMPTS
    from freeu.analysis.table import number

    lines = []
    for one in results["verdicts"]:
        other = one["control"]
        lines.append(
            f"Fig. {one['figure']:>2}  {one['answer']:<9}  {one['claim']}  {number(one)}"
            + (f"  (random weights: {other['answer']}, {other['value']:+.3g}; {other['beyond']})" if other else "")
        )
    if len(results["plan"]["prompts"]) < LEAST_PROMPTS:
        lines.append(f"fewer than {LEAST_PROMPTS} prompts decide no claim: give more")
    return lines

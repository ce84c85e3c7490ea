"""``freeu evaluate``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from freeu.cli.bundles import Defaults, Only, Without
from freeu.cli.errors import StoppedError, stopped
from freeu.cli.scoring import ScoringOptions, check_features, check_kinds, judges_of, measured_request
from freeu.cli.shell import loading, say, summarises, tell, written
from freeu.cli.terminal import who_generates
from freeu.errors import FreeUValueError
from freeu.pipelines.options.model import ChosenModel, ModelOptions
from freeu.pipelines.options.option import Option, check_bounds, check_range, flag, given, given_flags
from freeu.pipelines.options.run import RayOptions, RunOptions, ShellOptions, SpeedOptions
from freeu.pipelines.options.sampling import FrameOptions, PromptOptions, SamplingOptions
from freeu.wording import counted

OLD = {"images": ("--pictures",)}
SAMPLING = SamplingOptions(seeds="0-1")
"""Sampling where nothing is given: two seeds, so that diversity can be measured."""


@dataclass(frozen=True)
class ArmOptions:
    """What is generated under which arms."""

    PANEL: ClassVar[str] = "Arms"

    arms: Annotated[
        str,
        Option(
            "With commas: none, freeu, presets, guidance=W, interval=A-B, rescale=R, fresca=LOW:HIGH, scalecrafter, "
            '"b1=1.3 ...", "NAME: b1=1.3 ...", several of these with + between; '
            "calibrated:ARM, effective:ARM, neutral:ARM.",
            "ARMS",
        ),
    ] = "none,freeu,calibrated:freeu"
    calibration_prompts: Annotated[
        int, Option("Prompts on which the CFG scale is calibrated.", "N", bounds=(1, 10_000))
    ] = 16
    explain: Annotated[
        str | None,
        Option(
            "Instead of --arms: each part of this configuration alone, and what it does; freeu (recommended), "
            "a preset or settings.",
            "ARM",
        ),
    ] = None


@dataclass(frozen=True)
class WhenOptions:
    """The grid of ``--when``."""

    PANEL: ClassVar[str] = "When it helps"

    when: Annotated[
        bool,
        Option(
            "Instead of --arms: mild settings over steps, CFG scales and windows in time, measured in memory; writes "
            "tables and heat maps, and no images.",
            names=("--when",),
        ),
    ] = False
    when_steps: Annotated[str, Option("Steps of the grid.", "N,N,...")] = "4,6,10,20"
    when_guidance: Annotated[str, Option("CFG scales of the grid; 1 is without guidance.", "SCALE,...")] = "1,3,5"
    when_settings: Annotated[str, Option("Settings that are tried in each window, as for --arms.", "ARMS")] = (
        "b: b1=1.2 b2=1.3, s: s1=0.6 s2=0.6, rho: skip_gain=1.1"
    )


@dataclass(frozen=True)
class TrackOptions:
    """Trackers of experiments that get the results besides."""

    PANEL: ClassVar[str] = "Tracking"

    track: Annotated[
        list[str] | None,
        Option("Send the results to wandb, mlflow or tensorboard too; may be given several times.", "NAME"),
    ] = None
    track_project: Annotated[str, Option("Project of wandb, experiment of mlflow.", "NAME")] = "freeu"


def evaluate(
    prompts: Annotated[
        str,
        typer.Option(
            "--prompts",
            metavar="FILE|hf:ID|paper",
            help="One prompt a line (or --prompt ... --negative_prompt ... as for A1111), .jsonl lines "
            '{"prompt": "...", "negative_prompt": "...", "asked": {...}, "layout": "..."}, captions of COCO (.json), '
            "or a data set, hf:ID[:SPLIT[:COLUMN]].",
        ),
    ],
    part: Annotated[PromptOptions, Only("limit", "sample", "sample_seed")],
    arms: ArmOptions,
    when: WhenOptions,
    scoring: ScoringOptions,
    tracking: TrackOptions,
    sampling: Annotated[SamplingOptions, Defaults(seeds=SAMPLING.seeds)],
    options: Annotated[ModelOptions, Without("model")],
    run: RunOptions,
    chosen: ChosenModel,
    video: FrameOptions,
    speed: SpeedOptions,
    ray: RayOptions,
    shell: ShellOptions,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            metavar="DIR|URL",
            help="Score the images in this folder instead of generating any; several --images are several arms. A URL "
            "(s3://, gs://, hf:// ...) is copied first.",
        ),
    ] = None,
) -> None:
    """Generate the same prompts and seeds under several arms and measure them, with intervals; videos too.

    Writes results.json and table.md, with --explain explain.html too; --when writes when.md and its files instead.
    An interrupted run goes on if the same command is given again with the same --output. With --images nothing is
    generated and no model is loaded.
    """
    from freeu.evaluate.experiment.bounds import real_scenes
    from freeu.evaluate.experiment.prompts import read_prompts
    from freeu.evaluate.experiment.scoring import SUFFIXES, reference_images
    from freeu.evaluate.tracking.trackers import check_trackers
    from freeu.extras import need
    from freeu.pipelines.io.remote import local_folders

    if images:
        asked = [*(["MODEL"] if given(chosen) else []), *given_flags(arms, when, video, options, speed, ray)]
        asked += [flag(SamplingOptions, name) for name in given(sampling, SAMPLING)]
        asked += [flag(RunOptions, name) for name in given(run) if name not in ("device", "threads", "output")]
        if asked:
            raise FreeUValueError(f"--images are there already: leave {asked[0]} out")
    if arms.explain is not None:
        _check_explain(arms)
    grid = _grid(when, [*given_flags(arms, scoring, tracking, video, ray)], sampling)
    check_bounds(part)
    found = read_prompts(prompts, part.limit, part.sample, part.sample_seed)
    check_features(scoring)
    if scoring.reference_matches and scoring.reference is None:
        raise FreeUValueError("--reference-matches says what the images of --reference show: give --reference too")
    need("eval", "scipy")
    check_trackers(tracking.track or ())
    place = [] if scoring.reference is None else [scoring.reference]
    if shell.dry_run:
        from freeu.cli.dry_run import refuse_copies

        refuse_copies(*(("--reference", one) for one in place), *(("--images", one) for one in images or ()))
    model = replace(options, model=chosen.model)
    with local_folders(place, "--reference", SUFFIXES) as references, contextlib.ExitStack() as copies:
        real = [path for one in references for path in reference_images(one)]
        if scoring.reference_matches:
            real_scenes(real, found)
        folders = copies.enter_context(local_folders(images or [], "--images", SUFFIXES))
        with run.folder("freeu-evaluate", shell.dry_run) as folder:
            dry = shell.dry_run
            if grid is not None:
                _when(found, grid, scoring, sampling, model, run, speed, folder, dry)
                return
            if folders:
                made = _score(folders, found, real, scoring, run, folder, dry)
            else:
                made = _generate_and_score(
                    found, real, arms, video, scoring, sampling, model, run, speed, ray, folder, dry
                )
            if made is None:
                return
            results, files = made
            _told(folder, results, files, ["explain.html"] if arms.explain is not None else [])
            _track(tracking, results, files, folder)


def _generate_and_score(
    prompts: Any,
    real: list[Path],
    arms: ArmOptions,
    video: FrameOptions,
    scoring: ScoringOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    run: RunOptions,
    speed: SpeedOptions,
    ray: RayOptions,
    folder: Path,
    dry: bool,
) -> tuple[dict[str, Any], dict[str, list[Path]]] | None:
    """What ``results.json`` holds, and the files of each arm; None of a dry run, which shows what would be done."""
    from freeu.evaluate.attribution.explain import divided, explained, write_explanation
    from freeu.evaluate.attribution.parts import parse_whole
    from freeu.evaluate.experiment.arms import parse_arms
    from freeu.evaluate.experiment.plugged import plugged_metrics
    from freeu.pipelines.io.inputs import parse_seeds
    from freeu.pipelines.models.fitness import check_scale
    from freeu.pipelines.models.sources.families import generates_videos
    from freeu.pipelines.runs.prepare import prepare
    from freeu.pipelines.runs.request import check_request

    chosen = parse_arms(arms.arms) if arms.explain is None else (parse_whole(arms.explain),)
    check_bounds(arms)
    check_range("--frames", video.frames, 2, 1_000)
    request = measured_request(prompts, sampling, model, run, speed, frames=video.frames, allow_videos=True)
    sources = check_request(request, folder)
    if any(arm.scalecrafter for arm in chosen):
        check_scale(sources.model, sampling.width, sampling.height)
    if sources.model.class_name:
        check_kinds(generates_videos(sources.model), real)
        if arms.explain is not None and generates_videos(sources.model):
            raise FreeUValueError("--explain measures images, and this model generates videos: leave --explain out")
    if dry:
        from freeu.cli.dry_run import show_request

        arm_names, headline = [arm.name for arm in chosen], None
        if arms.explain is not None:  # the parts are those of the model's sites
            arm_names = ["none", *arm_names, "each part of it"]
            headline = f"{counted(len(request.prompts) * len(parse_seeds(sampling.seeds)), 'image')} for each arm"
        show_request(request, sources.model, folder, arms=arm_names, headline=headline)
        return None
    loading(sources.model.label)
    judges, names = judges_of(prompts, scoring, run.device, bool(real), generates_videos(sources.model))
    prepared = prepare(request, sources)
    check_kinds(prepared.plan.frames is not None, real)  # a model of the hub is known only now
    plugged_metrics(judges.metrics, videos=prepared.plan.frames is not None)
    tell(*_shortened(prepared.notes))
    if ray.ray is not None:
        from freeu.pipelines.runs.ray_executor import check_ray

        check_ray(prepared.plan)
    if prepared.plan.autocast:
        tell(f"--dtype auto took {prepared.plan.arithmetic}")

    division = None if arms.explain is None else divided(prepared, chosen[0])
    chosen = _calibrated(chosen, arms, prepared) if division is None else division.arms
    if division is not None:
        tell(*(f"left out {line}" for line in division.left_out))

    from freeu.cli.progress import Bar
    from freeu.evaluate.experiment.experiment import Experiment, run_experiment

    experiment = Experiment(
        prompts,
        chosen,
        prepared.plan,
        judges,
        names,
        real,
        scoring.reference_matches,
        arms.calibration_prompts,
    )
    bar = Bar("generating", prepared.plan.count * len(chosen), prepared.plan.noun)
    try:
        with who_generates(ray) as executor, bar:
            results = run_experiment(prepared.loaded, experiment, folder, bar, bar.say, bar.scored, executor)
    except KeyboardInterrupt:
        raise stopped(folder, seeds=sampling.seeds) from None
    if division is not None and arms.explain is not None:
        from freeu.evaluate.attribution.page import write_page

        explanation = explained(results, division, arms.explain)
        write_explanation(folder, explanation)
        page = write_page(folder, explanation, results)
        say(f"wrote {page}")
    files: dict[str, list[Path]] = {}
    for one in results["pictures"]:
        files.setdefault(one["arm"], []).append(folder / one["file"])
    return results, files


def _check_explain(arms: ArmOptions) -> None:
    """Refuse what --explain cannot be given with, and a bad configuration, before anything is loaded."""
    from freeu.evaluate.attribution.parts import parse_whole
    from freeu.extras import need

    asked = [name for name in given(arms) if name != "explain"]
    if asked:
        raise FreeUValueError(f"--explain makes the arms itself: leave {flag(ArmOptions, asked[0])} out")
    parse_whole(arms.explain or "")
    need("analysis", "matplotlib")


def _grid(when: WhenOptions, others: Sequence[str], sampling: SamplingOptions) -> Any:
    """The grid of --when, or None; refuses what makes no sense with it, or without it."""
    from freeu.evaluate.attribution.grid import Grid
    from freeu.extras import need

    if not when.when:
        alone = given_flags(when)
        if alone:
            raise FreeUValueError(f"{alone[0]} says what --when compares: give --when too")
        return None
    refused = [name for name in others if name not in ("--judge", "--reader")]
    if refused:
        raise FreeUValueError(f"--when makes its own arms and measures single images: leave {refused[0]} out")
    for name, own in (("steps", "--when-steps"), ("guidance_scale", "--when-guidance")):
        if name in given(sampling, SAMPLING):
            raise FreeUValueError(f"{flag(SamplingOptions, name)} is part of the grid of --when: give {own} instead")
    need("analysis", "matplotlib")
    return Grid.parse(when.when_steps, when.when_guidance, when.when_settings)


def _when(
    prompts: Any,
    grid: Any,
    scoring: ScoringOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    run: RunOptions,
    speed: SpeedOptions,
    folder: Path,
    dry: bool,
) -> None:
    """Measure the grid and write its files, or show what a dry run would measure."""
    from freeu.cli.progress import Bar
    from freeu.evaluate.attribution.maps import write_when
    from freeu.evaluate.attribution.when import check_when, run_when
    from freeu.evaluate.experiment.measuring import Measurer
    from freeu.pipelines.io.inputs import parse_seeds
    from freeu.pipelines.models.sources.families import generates_videos
    from freeu.pipelines.runs.prepare import prepare
    from freeu.pipelines.runs.request import check_request

    request = measured_request(prompts, sampling, model, run, speed, allow_videos=True)
    sources = check_request(request, folder)
    if sources.model.class_name and generates_videos(sources.model):
        raise FreeUValueError("--when measures images, and this model generates videos: leave --when out")
    if dry:
        from freeu.cli.dry_run import show_request

        cells = len([*grid.cells()])
        show_request(
            request,
            sources.model,
            folder,
            arms=["none", *(f"{name} {window}" for window, name in grid.rows)],
            count=cells * len(request.prompts) * len(parse_seeds(sampling.seeds)),
            more={"steps": list(grid.steps), "guidance_scale": list(grid.guidance), "cells": cells},
        )
        return
    loading(sources.model.label)
    judges, names = judges_of(prompts, scoring, run.device, False, False)
    prepared = prepare(request, sources)
    check_when(prepared)
    tell(*_shortened(prepared.notes))
    if prepared.plan.autocast:
        tell(f"--dtype auto took {prepared.plan.arithmetic}")
    bar = Bar("measuring", None)
    try:
        with bar:
            results = run_when(Measurer(prepared, prompts, judges), names, grid, folder, bar.say, bar.scored)
    except KeyboardInterrupt:
        raise stopped(folder, seeds=sampling.seeds) from None
    page = write_when(folder, results)
    say(f"wrote {page}")
    written(folder, page.name)


def _calibrated(chosen: Any, arms: ArmOptions, prepared: Any) -> Any:
    """The arms, without those that match guidance where the model has none; refused if they were asked for."""
    from freeu.evaluate.calibration.guidance import why_unguided
    from freeu.evaluate.experiment.experiment import check_arms

    check_arms(prepared.loaded, prepared.plan, chosen)
    reason = why_unguided(prepared.loaded.pipe, prepared.plan.guidance)
    matching = [arm.name for arm in chosen if arm.calibrates is not None]
    if reason is None or not matching:
        return chosen
    if "arms" in given(arms):
        raise FreeUValueError(f"{reason}: leave {matching[0]} out of --arms")
    tell(f"left out {matching[0]}: {reason}")
    return tuple(arm for arm in chosen if arm.calibrates is None)


def _score(
    images: list[Path],
    prompts: Any,
    real: list[Path],
    scoring: ScoringOptions,
    run: RunOptions,
    folder: Path,
    dry: bool,
) -> tuple[dict[str, Any], dict[str, list[Path]]] | None:
    """As ``_generate_and_score``, of images that exist already."""
    from freeu.evaluate.experiment.existing import check_kinds, read_existing
    from freeu.extras import need
    from freeu.pipelines.io.output import refuse_foreign

    check_bounds(run)
    refuse_foreign(folder, resumable=False)
    arms = read_existing(images, prompts)
    videos = check_kinds(arms, real)
    if videos:
        need("video", "cv2")
    if dry:
        from freeu.cli.dry_run import show_existing

        show_existing({arm.name: len(arm.samples) for arm in arms}, len(prompts), len(real), videos, folder)
        return None
    loading("what scores the images")
    judges, names = judges_of(prompts, scoring, run.device, bool(real), videos)

    import torch

    from freeu.cli.progress import Bar
    from freeu.evaluate.experiment.existing import score_existing
    from freeu.pipelines.models.loading import pick_device, quiet
    from freeu.pipelines.runs.run import deterministic

    device = pick_device(run.device)
    bar = Bar("scoring", None)
    try:
        with bar, quiet(), deterministic(device, run.threads or torch.get_num_threads()):
            results = score_existing(
                arms,
                prompts,
                judges,
                names,
                real,
                scoring.reference_matches,
                folder,
                videos=videos,
                device=device,
                say=bar.say,
                report=bar.scored,
            )
    except KeyboardInterrupt:
        raise StoppedError("stopped; nothing was written: give the same command again") from None
    return results, {arm.name: [one.path for one in arm.samples] for arm in arms}


def _shortened(notes: Sequence[str], most: int = 3) -> list[str]:
    """The first notes and how many more there are: sets of prompts are long."""
    more = len(notes) - most
    return [*notes[:most], *([f"and {counted(more, 'more note')}"] if more > 0 else [])]


def _told(folder: Path, results: Any, files: dict[str, list[Path]], pages: list[str]) -> None:
    """Write the page, print the head of the table, and say what was written."""
    from freeu.cli.tables import turned_table, wide_console
    from freeu.evaluate.experiment.page import write_report
    from freeu.evaluate.experiment.results import RESULTS, TABLE, failure_lines, glance

    page = write_report(folder, results, files)
    tell(*failure_lines(results))
    heads, rows = glance(results)
    if rows and summarises():
        console = wide_console()
        for table in turned_table(heads, rows, console.width):
            console.print(table, highlight=False, markup=False)
        say("± is half of the 95 % bootstrap interval over prompts")
    say(f"wrote {page}, {TABLE} and {RESULTS}")
    written(folder, *pages, page.name, TABLE, RESULTS, results=results)


def _track(tracking: TrackOptions, results: Any, files: dict[str, list[Path]], folder: Path) -> None:
    """Send the results, which are written already, to the trackers that were asked for."""
    if not tracking.track:
        return
    from freeu.evaluate.experiment.results import as_markdown
    from freeu.evaluate.tracking.record import record_of
    from freeu.evaluate.tracking.trackers import track

    track(tracking.track, record_of(results, as_markdown(results), folder, tracking.track_project, files))

"""``freeu tune``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from freeu.cli.bundles import Defaults, Only, Without
from freeu.cli.errors import stopped
from freeu.cli.scoring import ScoringOptions, check_features, check_kinds, judges_of, measured_request
from freeu.cli.shell import loading, say, tell, written
from freeu.cli.terminal import who_generates
from freeu.errors import FreeUValueError
from freeu.pipelines.options.model import ChosenModel, ModelOptions
from freeu.pipelines.options.option import Option, check_bounds, flag, given, given_flags
from freeu.pipelines.options.run import RayOptions, RunOptions, ShellOptions, SpeedOptions
from freeu.pipelines.options.sampling import FrameOptions, PromptOptions, SamplingOptions
from freeu.pipelines.options.server import ServerOptions

VOTES = "votes"


@dataclass(frozen=True)
class SearchOptions:
    """What is searched for, and how long."""

    PANEL: ClassVar[str] = "Search"

    objective: Annotated[
        str | None,
        Option(
            "Measures that are to rise (or fall, after a -), with commas (default: those of all_asked, noun, "
            "clip_score that can be measured, for videos clip_right, noun, clip_score); or votes: you choose between "
            "two images in the browser.",
            "MEASURES|votes",
        ),
    ] = None
    guard: Annotated[
        str, Option("Measures and how much each may change at most, with commas; or none.", "MEASURE=CHANGE")
    ] = "saturation=0.03"
    trials: Annotated[
        int, Option("Settings that are tried, of FreeU and of guidance each.", "N", bounds=(1, 100_000))
    ] = 60
    minutes: Annotated[
        float | None, Option("End each of the two searches after so long.", "MINUTES", bounds=(0.01, 100_000.0))
    ] = None
    search_prompts: Annotated[int, Option("Prompts of a trial.", "N", bounds=(8, 100_000))] = 64
    confirm_prompts: Annotated[
        int, Option("Other prompts, on which the best few are measured again.", "N", bounds=(8, 100_000))
    ] = 96
    finalists: Annotated[int, Option("How many those are.", "N", bounds=(1, 100))] = 4
    sites: Annotated[
        int,
        Option(
            "Sites that get factors of their own: those that the gradient of the CLIP score says matter most.",
            "N",
            bounds=(0, 64),
        ),
    ] = 0
    search_seed: Annotated[int, Option("Of the search itself and of how the prompts are divided.", "N")] = 0
    storage: Annotated[
        str | None,
        Option("Storage of Optuna, such as postgresql+psycopg://... (default: a file in the folder).", "URL"),
    ] = None
    search_only: Annotated[
        bool, Option("End after the searches: for workers that help another command with the same --storage.")
    ] = False


@dataclass(frozen=True)
class VoteOptions:
    """How many votes ``--objective votes`` asks for."""

    PANEL: ClassVar[str] = "Votes"

    votes: Annotated[int, Option("Votes of the search.", "N", bounds=(1, 10_000))] = 60
    final_votes: Annotated[
        int, Option("Votes that decide, each on a prompt that the search does not show.", "N", bounds=(10, 10_000))
    ] = 30
    earlier_votes: Annotated[
        Path | None, Option("Go on from the votes on this model in the folder of freeu ui --votes.", "DIR")
    ] = None


SERVER = ServerOptions(port=7861)
"""Beside the studio's port."""


def tune(
    prompts: Annotated[
        str,
        typer.Option(
            "--prompts",
            metavar="FILE|paper",
            help="Prompts, as for freeu evaluate: one part is searched on, one looks again, the rest decides.",
        ),
    ],
    part: Annotated[PromptOptions, Only("limit", "sample", "sample_seed")],
    search: SearchOptions,
    vote: VoteOptions,
    server: Annotated[ServerOptions, Defaults(port=7861)],
    scoring: Annotated[ScoringOptions, Without("reference_matches")],
    sampling: Annotated[SamplingOptions, Defaults(seeds="0")],
    options: Annotated[ModelOptions, Without("model")],
    video: FrameOptions,
    speed: SpeedOptions,
    run: RunOptions,
    ray: RayOptions,
    shell: ShellOptions,
    chosen: ChosenModel,
    held_out: Annotated[
        str | None,
        typer.Option("--held-out", metavar="FILE", help="Other prompts that decide, instead of the rest of --prompts."),
    ] = None,
) -> None:
    """Search the settings of FreeU that suit a model, and tell whether they are better than none.

    Guidance is searched with the same budget, as a rival. What was found is compared with plain sampling on prompts
    that no search saw; "none is best here" is an answer. Writes preset.json for --preset, tuning.json and report.html.
    An interrupted run goes on if the same command is given again with the same --output.
    """
    from freeu.evaluate.experiment.prompts import read_prompts
    from freeu.evaluate.experiment.scoring import SUFFIXES, reference_images
    from freeu.extras import need, need_package
    from freeu.pipelines.io.remote import local_folders

    by_votes = search.objective == VOTES
    need("tune", "optuna", "matplotlib")
    if by_votes:
        need("tune", "fastapi", "uvicorn", "sqlalchemy", "jinja2")
        need_package("sklearn", "scikit-learn")
    _check_together(by_votes, search, scoring, vote, server, video, speed, ray)
    check_bounds(search, vote, server)
    check_features(scoring)
    found = read_prompts(prompts, part.limit, part.sample, part.sample_seed)
    decide = read_prompts(held_out) if held_out is not None else ()
    both = {prompt.text for prompt in found} & {prompt.text for prompt in decide}
    if both:
        raise FreeUValueError(f"--held-out {held_out} holds {min(both)!r}, which --prompts has too: give other prompts")
    model = replace(options, model=chosen.model)
    place = [] if scoring.reference is None else [scoring.reference]
    if shell.dry_run:
        from freeu.cli.dry_run import refuse_copies

        refuse_copies(*(("--reference", one) for one in place))
    with local_folders(place, "--reference", SUFFIXES) as references, run.folder("freeu-tune", shell.dry_run) as folder:
        real = [path for one in references for path in reference_images(one)]
        if by_votes:
            _vote(found, decide, search, vote, server, sampling, model, run, folder, shell.dry_run)
        else:
            _tune(found, decide, real, search, scoring, sampling, model, video, speed, run, ray, folder, shell.dry_run)


def _check_together(
    by_votes: bool,
    search: SearchOptions,
    scoring: ScoringOptions,
    vote: VoteOptions,
    server: ServerOptions,
    video: FrameOptions,
    speed: SpeedOptions,
    ray: RayOptions,
) -> None:
    """Refuse what is for the other kind of search.

    Raises:
        FreeUValueError: it was given; the message names it.
    """
    if by_votes:
        kept = ("--objective", "--search-prompts", "--search-seed")
        asked = [name for name in given_flags(search, scoring, video, speed, ray) if name not in kept]
        if asked:
            raise FreeUValueError(f"--objective {VOTES} measures nothing and asks you instead: leave {asked[0]} out")
        return
    asked = [*given_flags(vote), *(flag(ServerOptions, name) for name in given(server, SERVER))]
    if asked:
        raise FreeUValueError(f"{asked[0]} is for a search by votes: give --objective {VOTES} too")


def _vote(
    prompts: Any,
    held_out: Any,
    search: SearchOptions,
    vote: VoteOptions,
    server: ServerOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    run: RunOptions,
    folder: Path,
    dry: bool,
) -> None:
    from freeu.cli.voting import serve_votes
    from freeu.pipelines.runs.prepare import prepare
    from freeu.pipelines.runs.request import check_request
    from freeu.tuning.votes.earlier import read_earlier
    from freeu.tuning.votes.outcome import VoteTuning, split_prompts

    amounts = vote.final_votes, search.search_prompts, search.search_seed
    split_prompts(len(prompts), len(held_out), *amounts)
    place = vote.earlier_votes
    if place is not None and not place.is_dir():
        raise FreeUValueError(f"--earlier-votes {place} is no folder: name that of freeu ui --votes")
    request = measured_request(prompts, sampling, model, run)
    sources = check_request(request, folder)
    if dry:
        from freeu.cli.dry_run import show_request

        count = vote.votes + vote.final_votes
        show_request(request, sources.model, folder, arms=("FreeU",), count=count, noun="pair")
        return
    prepared = prepare(request, sources)
    tell(*prepared.notes[:3])
    tuning = VoteTuning(prepared, prompts, held_out, vote.votes, *amounts)
    if place is not None:
        earlier = read_earlier(place, prepared.plan.model.fingerprint, tuning.space())
        tuning = replace(tuning, earlier=earlier)
    serve_votes(tuning, server, folder, sampling.seeds)


def _tune(
    prompts: Any,
    held_out: Any,
    real: list[Path],
    search: SearchOptions,
    scoring: ScoringOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    video: FrameOptions,
    speed: SpeedOptions,
    run: RunOptions,
    ray: RayOptions,
    folder: Path,
    dry: bool,
) -> None:
    from freeu.pipelines.models.sources.families import generates_videos
    from freeu.pipelines.runs.prepare import prepare
    from freeu.pipelines.runs.request import check_request
    from freeu.tuning.settings import Objective, TuneSettings, divide_prompts, parse_guards

    guards = parse_guards(search.guard)
    objective = None if search.objective is None else Objective.parse(search.objective)
    divide_prompts(len(prompts), bool(held_out), search.search_prompts, search.confirm_prompts, search.search_seed)
    request = measured_request(prompts, sampling, model, run, speed, frames=video.frames, allow_videos=True)
    sources = check_request(request, folder)
    if sources.model.class_name:
        check_kinds(generates_videos(sources.model), real)
    if dry:
        from freeu.cli.dry_run import show_request

        count = 2 * search.trials
        show_request(request, sources.model, folder, arms=("FreeU", "guidance"), count=count, noun="trial")
        return
    loading(sources.model.label)
    judges, names = judges_of((*prompts, *held_out), scoring, run.device, bool(real), generates_videos(sources.model))
    prepared = prepare(request, sources)
    videos = prepared.plan.frames is not None
    check_kinds(videos, real)  # a model of the hub is known only now
    tell(*prepared.notes[:3])
    if ray.ray is not None:
        from freeu.pipelines.runs.ray_executor import check_ray

        check_ray(prepared.plan)
    if prepared.plan.autocast:
        tell(f"--dtype auto took {prepared.plan.arithmetic}")

    from freeu.cli.progress import Bar
    from freeu.tuning.report import write_report
    from freeu.tuning.tuning import Tuning, default_objective, run_tuning

    settings = TuneSettings(
        objective=default_objective(judges, videos) if objective is None else objective,
        guards=guards,
        trials=search.trials,
        minutes=search.minutes if search.minutes is not None else math.inf,
        search_prompts=search.search_prompts,
        confirm_prompts=search.confirm_prompts,
        finalists=search.finalists,
        sites=search.sites,
        seed=search.search_seed,
    )
    tuning = Tuning(prepared, prompts, judges, names, settings, search.storage, held_out, real)
    bar = Bar("searching", None)
    try:
        with who_generates(ray) as executor, bar:
            tuned = run_tuning(
                tuning,
                folder,
                search_only=search.search_only,
                progress=bar,
                say=bar.say,
                report=bar.report,
                executor=executor,
            )
    except KeyboardInterrupt:
        raise stopped(folder, seeds=sampling.seeds) from None
    if tuned is None:
        say("the search is done; the command without --search-only goes on")
        return
    report = write_report(tuned)
    say(tuned.verdict.text, f"wrote {folder / 'preset.json'}, tuning.json and {report.name}")
    written(folder, report.name, "preset.json", "tuning.json", verdict=tuned.verdict.text)

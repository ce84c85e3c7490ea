"""``freeu evaluate``."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli import options as o
from freeu.cli.errors import StoppedError, stopped
from freeu.errors import FreeUValueError

PromptFile = Annotated[
    str,
    typer.Option(
        "--prompts",
        metavar="FILE|paper",
        help='One prompt a line, or .jsonl lines {"prompt": "...", "asked": {...}, "layout": "..."}.',
    ),
]
Arms = Annotated[
    str,
    typer.Option(
        "--arms",
        metavar="ARMS",
        help='With commas: none, freeu, presets, guidance=W, calibrated:ARM, "b1=1.3 ...", "NAME: b1=1.3 ...".',
    ),
]
Pictures = Annotated[
    list[Path] | None,
    typer.Option(
        "--pictures",
        metavar="DIR",
        help="Score the pictures in this folder instead of drawing any; several --pictures are several arms.",
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option("--reference", metavar="DIR", help="Real pictures, or real clips, for FID and KID."),
]
Frames = Annotated[int | None, typer.Option("--frames", metavar="N", help="Of each clip, where the model draws video.")]
Matches = Annotated[
    bool,
    typer.Option(
        "--reference-matches",
        help="The i-th picture of --reference shows the i-th prompt: score them too, as what can be reached.",
    ),
]
Judge = Annotated[
    str | None,
    typer.Option("--judge", metavar="DIR|none", help="A CLIP for CLIP score and features (default: the embedded one)."),
]
Features = Annotated[
    str, typer.Option("--features", metavar="clip|inception", help="What distances and diversity are measured on.")
]
WithReader = Annotated[
    bool, typer.Option("--reader/--no-reader", help="Score alignment where prompts say what they ask for.")
]
CalibrationPrompts = Annotated[
    int, typer.Option("--calibration-prompts", metavar="N", help="Prompts on which guidance is calibrated.")
]


def evaluate(
    prompts: PromptFile,
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="As for freeu compare --model (default: the embedded one)."),
    ] = None,
    arms: Arms = "none,freeu,calibrated:freeu",
    seeds: o.Seeds = "0-1",
    pictures: Pictures = None,
    reference: Reference = None,
    reference_matches: Matches = False,
    judge: Judge = None,
    features: Features = "clip",
    reader: WithReader = True,
    calibration_prompts: CalibrationPrompts = 16,
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
    """Draw the same prompts and seeds under several arms and measure them, with intervals; clips too.

    Writes results.json and table.md. An interrupted run goes on if the same command is given again with the same
    --output. With --pictures nothing is drawn and no model is loaded.
    """
    values = locals()
    from freeu.evaluate.experiment.bounds import real_scenes
    from freeu.evaluate.experiment.prompts import read_prompts
    from freeu.evaluate.experiment.scoring import reference_pictures
    from freeu.extras import need
    from freeu.pipelines.io.output import dated_folder

    if pictures:
        _refuse_drawing(values)
    found = read_prompts(prompts)
    if features not in ("clip", "inception"):
        raise FreeUValueError(f"--features must be clip or inception, got {features!r}")
    if reference_matches and reference is None:
        raise FreeUValueError("--reference-matches says what the pictures of --reference show: give --reference too")
    real = [] if reference is None else reference_pictures(reference)
    if reference_matches:
        real_scenes(real, found)
    need("eval", "scipy")
    folder: Path = output or dated_folder("freeu-evaluate")
    (_score if pictures else _draw_and_score)(values, found, real, folder)


def _draw_and_score(values: dict[str, Any], prompts: Any, real: list[Path], folder: Path) -> None:
    from freeu.evaluate.experiment.arms import parse_arms
    from freeu.evaluate.experiment.clip_drawing import hold_clips
    from freeu.pipelines.models.sources.families import draws_clips
    from freeu.pipelines.runs.request import Request, check_range, check_request, prepare

    chosen = parse_arms(values["arms"])
    check_range("--calibration-prompts", values["calibration_prompts"], 1, 10_000)
    check_range("--frames", values["frames"], 2, 1_000)
    request = Request(
        command="generate",
        prompts=tuple(prompt.text for prompt in prompts),
        prompts_from=None,
        freeu=None,
        frames=values["frames"],
        clips=True,
        **o.add_ons(values),
        **{name: values[name] for name in o.REQUEST_FIELDS},
    )
    source = check_request(request, folder)
    clips_given = hold_clips(real)
    if source.class_name:
        _check_clips(draws_clips(source), real, clips_given)
    judges, names = _judges(prompts, values, bool(real))
    prepared = prepare(request, source)
    _check_clips(prepared.plan.frames is not None, real, clips_given)  # a model of the hub is known only now

    from freeu.cli.progress import Bar
    from freeu.evaluate.experiment.experiment import Experiment, run_experiment

    experiment = Experiment(
        prompts,
        chosen,
        prepared.plan,
        judges,
        names,
        real,
        values["reference_matches"],
        values["calibration_prompts"],
    )
    bar = Bar(prepared.plan, len(chosen))
    try:
        with bar:
            run_experiment(prepared.loaded, experiment, folder, bar, bar.say, bar.scored)
    except KeyboardInterrupt:
        raise stopped(folder) from None
    _told(folder)


def _score(values: dict[str, Any], prompts: Any, real: list[Path], folder: Path) -> None:
    from freeu.evaluate.experiment.existing import check_kinds, read_existing
    from freeu.extras import need
    from freeu.pipelines.io.output import refuse_foreign
    from freeu.pipelines.runs.request import check_range

    if values["threads"] is not None:
        check_range("--threads", values["threads"], 1, 4_096)
    refuse_foreign(folder, resumable=False)
    arms = read_existing(values["pictures"], prompts)
    clips = check_kinds(arms, real)
    if clips:
        need("video", "cv2")
    judges, names = _judges(prompts, values, bool(real))

    import torch

    from freeu.cli.progress import Bar
    from freeu.evaluate.experiment.existing import score_existing
    from freeu.pipelines.models.loading import pick_device, quiet
    from freeu.pipelines.runs.run import deterministic

    device = pick_device(values["device"])
    bar = Bar(None)
    try:
        with bar, quiet(), deterministic(device, values["threads"] or torch.get_num_threads()):
            score_existing(
                arms,
                prompts,
                judges,
                names,
                real,
                values["reference_matches"],
                folder,
                clips=clips,
                device=device,
                say=bar.say,
                report=bar.scored,
            )
    except KeyboardInterrupt:
        raise StoppedError("stopped; nothing was written: give the same command again") from None
    _told(folder)


def _check_clips(draws: bool, real: list[Path], clips_given: bool) -> None:
    """Refuse a reference of the other kind than what the model draws, and clips without what measures them."""
    from freeu.extras import need

    if draws:
        need("video", "cv2")
    if real and draws != clips_given:
        has, wants = ("clips", "pictures") if clips_given else ("pictures", "clips")
        raise FreeUValueError(f"--reference holds {has}, and this model draws {wants}: give {wants}")


_OF_SCORING = ("device", "threads")


def _refuse_drawing(values: dict[str, Any]) -> None:
    """Refuse what says how to draw where nothing is drawn."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(evaluate).parameters.items()}
    for name in ("arms", "calibration_prompts", "frames", *o.ADD_ONS, *o.REQUEST_FIELDS):
        if name not in _OF_SCORING and values[name] != defaults[name]:
            option = "MODEL" if name == "model" else "--" + name.replace("_", "-")
            raise FreeUValueError(f"--pictures are drawn already: leave {option} out")


def _told(folder: Path) -> None:
    from freeu.evaluate.experiment.results import RESULTS, TABLE

    print(f"wrote {folder / TABLE} and {RESULTS}")


def _judges(prompts: Any, values: dict[str, Any], with_reference: bool) -> tuple[Any, dict[str, str | None]]:
    """What scores, and its names; whatever is left out on its own is said on standard error."""
    from freeu.evaluate.embedded import judge_path, load_reader
    from freeu.evaluate.experiment.scoring import Judges
    from freeu.evaluate.metrics.alignment import check_readable
    from freeu.evaluate.metrics.clip import CLIP
    from freeu.evaluate.metrics.inception import Inception
    from freeu.pipelines.models.loading import pick_device

    judge, features = values["judge"], values["features"]
    # Matching references are worth having for alignment alone.
    distances = with_reference and not values["reference_matches"]
    place = pick_device(values["device"])
    found = Judges()
    if judge != "none":
        try:
            found.clip = CLIP(judge or judge_path(), device=place)
        except FreeUValueError as error:
            if judge is not None or (distances and features == "clip"):
                raise
            print(f"freeu: no CLIP score: {error}", file=sys.stderr)
    if features == "inception":
        found.inception = Inception(device=place)
    if distances and found.features is None:
        raise FreeUValueError("--reference needs features: leave --judge none out, or give --features inception")
    if values["reader"] and any(prompt.asked is not None for prompt in prompts):
        found.reader = load_reader(place)
        for prompt in prompts:
            if prompt.asked is not None:
                check_readable(prompt.asked, found.reader)
    names = {
        "clip": found.clip.name if found.clip else None,
        "features": features if found.features else None,
        "reader": "freeu-zoo" if found.reader else None,
    }
    return found, names

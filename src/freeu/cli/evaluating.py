"""``freeu evaluate``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli import options as o
from freeu.cli.errors import StoppedError
from freeu.errors import FreeUValueError

PromptFile = Annotated[
    str,
    typer.Option(
        "--prompts",
        metavar="FILE|paper",
        help='One prompt a line, or .jsonl lines {"prompt": "...", "asked": {...}}.',
    ),
]
Arms = Annotated[
    str,
    typer.Option(
        "--arms", metavar="ARMS", help='With commas: none, freeu, presets, guidance=W, calibrated:ARM, "b1=1.3 ...".'
    ),
]
Reference = Annotated[Path | None, typer.Option("--reference", metavar="DIR", help="Real pictures, for FID and KID.")]
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
    reference: Reference = None,
    judge: Judge = None,
    features: Features = "clip",
    reader: WithReader = True,
    calibration_prompts: CalibrationPrompts = 16,
    steps: o.Steps = None,
    guidance: o.Guidance = None,
    negative_prompt: o.Negative = "",
    scheduler: o.Scheduler = None,
    width: o.Width = None,
    height: o.Height = None,
    model_config: o.ModelConfig = None,
    variant: o.Variant = None,
    dtype: o.DType = "auto",
    device: o.Device = "auto",
    threads: o.Threads = None,
    output: o.Output = None,
) -> None:
    """Draw the same prompts and seeds under several arms and measure them, with intervals.

    Writes results.json and table.md. An interrupted run goes on if the same command is given again with the same
    --output.
    """
    from freeu.evaluate.arms import parse_arms
    from freeu.evaluate.prompts import read_prompts
    from freeu.evaluate.scoring import reference_pictures
    from freeu.pipelines.extras import need
    from freeu.pipelines.output import dated_folder
    from freeu.pipelines.request import Request, check_range, check_request, prepare

    found = read_prompts(prompts)
    chosen = parse_arms(arms)
    if features not in ("clip", "inception"):
        raise FreeUValueError(f"--features must be clip or inception, got {features!r}")
    check_range("--calibration-prompts", calibration_prompts, 1, 10_000)
    real = [] if reference is None else reference_pictures(reference)
    need("eval", "scipy")
    folder: Path = output or dated_folder("freeu-evaluate")
    request = Request(
        command="generate",
        prompts=tuple(prompt.text for prompt in found),
        prompts_from=None,
        seeds=seeds,
        freeu=None,
        model=model,
        model_config=model_config,
        variant=variant,
        steps=steps,
        guidance=guidance,
        negative_prompt=negative_prompt,
        scheduler=scheduler,
        width=width,
        height=height,
        dtype=dtype,
        device=device,
        threads=threads,
    )
    source = check_request(request, folder)
    judges, names = _judges(found, judge, features, reader, device, bool(real))
    prepared = prepare(request, source)

    from freeu.cli.progress import Bar
    from freeu.evaluate.experiment import RESULTS, TABLE, Experiment, run_experiment

    experiment = Experiment(found, chosen, prepared.plan, judges, names, real, calibration_prompts)
    bar = Bar(prepared.plan, len(chosen))
    try:
        with bar:
            run_experiment(prepared.loaded, experiment, folder, bar, bar.say)
    except KeyboardInterrupt:
        words = ["freeu", *sys.argv[1:]]
        if not any(word.partition("=")[0] == "--output" for word in words):
            words += ["--output", str(folder)]
        raise StoppedError(f"stopped; go on with: {shlex.join(words)}") from None
    print(f"wrote {folder / TABLE} and {RESULTS}")


def _judges(
    prompts: Any, judge: str | None, features: str, read: bool, device: str, distances: bool
) -> tuple[Any, dict[str, str | None]]:
    """What scores, and its names; whatever is left out on its own is said on standard error."""
    from freeu.evaluate.alignment import check_readable
    from freeu.evaluate.clip import CLIP
    from freeu.evaluate.embedded import judge_path, load_reader
    from freeu.evaluate.inception import Inception
    from freeu.evaluate.scoring import Judges
    from freeu.pipelines.loading import pick_device

    place = pick_device(device)
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
    if read and any(prompt.asked is not None for prompt in prompts):
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

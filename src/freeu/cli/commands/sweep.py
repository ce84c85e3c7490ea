"""``freeu sweep``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli import options as o
from freeu.cli.errors import stopped
from freeu.errors import FreeUValueError

_AXIS = "NAME=VALUES"
X = Annotated[
    str,
    typer.Option(
        "--x", metavar=_AXIS, help='The columns: "b1=1.0,1.2,1.4", "s2=0:1:0.25", "seed=0-3", "prompt=a fox|a cat".'
    ),
]
Y = Annotated[str | None, typer.Option("--y", metavar=_AXIS, help="The rows.")]
Z = Annotated[str | None, typer.Option("--z", metavar=_AXIS, help="The pages.")]


def sweep(
    x: X,
    y: Y = None,
    z: Z = None,
    prompts: o.Prompts = None,
    seeds: o.Seeds = "0",
    model: o.Model = None,
    lora: o.Loras = None,
    fuse_lora: o.FuseLora = False,
    embedding: o.Embeddings = None,
    model_config: o.ModelConfig = None,
    variant: o.Variant = None,
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
    image: o.Image = None,
    mask: o.Mask = None,
    image_strength: o.ImageStrength = None,
    steps: o.Steps = None,
    guidance: o.Guidance = None,
    negative_prompt: o.Negative = "",
    scheduler: o.Scheduler = None,
    width: o.Width = None,
    height: o.Height = None,
    dtype: o.DType = "auto",
    device: o.Device = "auto",
    threads: o.Threads = None,
    output: o.Output = None,
) -> None:
    """Draw a grid over any settings: contact sheets, and a page to browse it and to compare any two places.

    Axes: b1 b2 b3 s1 s2 s3, b and s (all stages), any other field of FreeU's settings, preset and config ("off":
    without FreeU), prompt, negative-prompt, seed, steps, guidance, scheduler, model. Equal pictures are made once. An
    interrupted sweep goes on if the same command is given again with the same --output.
    """
    values = locals()
    from freeu.pipelines.io.output import OutputFolder, dated_folder
    from freeu.pipelines.pages.finish import embedded_note
    from freeu.pipelines.runs.request import FreeUChoice, Request, notes
    from freeu.pipelines.sweep.axes import parse_axis
    from freeu.pipelines.sweep.page import finish_sweep
    from freeu.pipelines.sweep.sweep import Sweep, check_sweep, run_sweep

    if z is not None and y is None:
        raise FreeUValueError("--z needs --y: pages have columns and rows")
    axes = tuple(parse_axis(f"--{name}", values[name]) for name in ("x", "y", "z") if values[name] is not None)
    given = tuple(prompts or ())
    swept = next((axis.values for axis in axes if axis.name == "prompt"), None)
    if swept is not None and given:
        raise FreeUValueError("prompts are an axis of this sweep: leave the prompt out")
    if len(given) > 1:
        raise FreeUValueError('several prompts make an axis: --y "prompt=first|second"')
    folder: Path = output or dated_folder("freeu-sweep")
    wanted = Sweep(
        Request(
            command="generate",
            prompts=given if swept is None else (str(swept[0]),),
            prompts_from=None,
            freeu=FreeUChoice(**{name: values[name] for name in o.FREEU_FIELDS}),
            **o.add_ons(values),
            **{name: values[name] for name in (*o.REQUEST_FIELDS, "image", "mask", "image_strength")},
        ),
        axes,
    )
    check_sweep(wanted, folder)

    from freeu.cli.progress import Counter

    bar = Counter("drawing", wanted.count)
    said: list[str] = []

    def tell(prepared: Any) -> None:
        """Which miniature draws, and which words of the prompts it cannot; each once."""
        plan, world = prepared.plan, prepared.loaded.source.world
        asked = replace(plan, arms=("baseline",), config=None, prompts=swept or given)
        for line in filter(None, (embedded_note(plan, world), *notes(asked, world))):
            if line not in said:
                said.append(line)
                print(f"freeu: {line}", file=sys.stderr)

    try:
        with bar:
            record = run_sweep(wanted, folder, bar.say, bar.one, tell)
    except KeyboardInterrupt:
        raise stopped(folder) from None
    names = finish_sweep(OutputFolder(folder), record, " ".join(said))
    distinct = len(record["pictures"])
    print(f"wrote {distinct} pictures for {wanted.count} places to {folder}: {', '.join(names)}")

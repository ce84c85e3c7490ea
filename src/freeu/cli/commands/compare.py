"""``freeu compare`` and ``freeu generate``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli import options as o
from freeu.cli.reproduce import make_again
from freeu.cli.terminal import draw
from freeu.errors import FreeUValueError


def compare(
    prompts: o.Prompts = None,
    prompts_from: o.PromptsFrom = None,
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
    control: o.Control = None,
    control_image: o.ControlImage = None,
    control_preprocess: o.ControlPreprocess = None,
    control_scale: o.ControlScale = None,
    control_start: o.ControlStart = None,
    control_end: o.ControlEnd = None,
    control_order: o.ControlOrder = None,
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
    """Draw the same prompt and seed without and with FreeU: pictures, a grid, a page with sliders, a manifest.

    An interrupted run goes on if the same command is given again with the same --output.
    """
    values = locals()
    make("compare", {**o.add_ons(values), **values})


def generate(
    prompts: o.Prompts = None,
    prompts_from: o.PromptsFrom = None,
    seeds: o.Seeds = "0",
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MANIFEST",
            help="Make the pictures of a manifest.json again and say whether they are equal.",
        ),
    ] = None,
    no_freeu: Annotated[bool, typer.Option("--no-freeu", help="Without FreeU.", rich_help_panel="FreeU")] = False,
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
    control: o.Control = None,
    control_image: o.ControlImage = None,
    control_preprocess: o.ControlPreprocess = None,
    control_scale: o.ControlScale = None,
    control_start: o.ControlStart = None,
    control_end: o.ControlEnd = None,
    control_order: o.ControlOrder = None,
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
    """Draw pictures with FreeU, or make those of a manifest again.

    With --from, everything comes from the manifest; only --output, --model, --lora, --embedding, --control, --device
    and --threads may be given too.
    """
    values = locals()
    if values.pop("manifest") is not None:
        assert manifest is not None
        make_again(manifest, values)
        return
    if values.pop("no_freeu") and any(values[name] is not None for name in (*o.FREEU_FIELDS, "control_order")):
        raise FreeUValueError("--no-freeu leaves nothing for FreeU's own options to say: give one or the other")
    make("generate", {**o.add_ons(values), **values}, with_freeu=not no_freeu)


def make(
    command: str,
    values: dict[str, Any],
    with_freeu: bool = True,
    say: Callable[[Any], Iterable[str]] = lambda plan: (),
    words: Sequence[str] = (),
) -> None:
    """Draw what the options of ``compare`` ask for.

    Args:
        command: "compare" or "generate".
        values: options by name, and fields of ``request.Request``.
        say: what a user should know of a plan besides what is always said.
        words: that the embedded model knows now, besides its own.
    """
    from freeu.pipelines.io.output import dated_folder
    from freeu.pipelines.runs.request import FreeUChoice, Request, check_request, notes, prepare

    folder: Path = values.pop("output") or dated_folder()
    order = values.pop("control_order", None)
    choice = FreeUChoice(**{name: values.pop(name) for name in o.FREEU_FIELDS}, control_order=order)
    prompts = tuple(values.pop("prompts") or ())
    request = Request(command=command, freeu=choice if with_freeu else None, prompts=prompts, **values)
    source = check_request(request, folder)
    prepared = prepare(request, source)
    world = source.world and {**source.world, "words": [*source.world.get("words", ()), *words]}
    for note in (*say(prepared.plan), *notes(prepared.plan, world)):
        print(f"freeu: {note}", file=sys.stderr)
    draw(prepared, folder)

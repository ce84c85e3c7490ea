"""``freeu sweep``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from freeu.cli.bundles import Only, Without
from freeu.cli.errors import stopped
from freeu.cli.shell import loading, say, tell, written
from freeu.errors import FreeUValueError
from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions, RegionOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions, ShellOptions
from freeu.pipelines.options.sampling import ImageInput, PromptOptions, SamplingOptions
from freeu.pipelines.sweep.axes import AXES
from freeu.wording import counted

_AXIS = "NAME=VALUES"


def sweep(
    x: Annotated[
        str,
        typer.Option(
            "--x",
            metavar=_AXIS,
            help='The columns: "b1=1.0,1.2,1.4", "s2=0:1:0.25", "seed=0-3", "prompt=a fox|a cat".',
        ),
    ],
    prompts: Annotated[PromptOptions, Only("prompts")],
    sampling: Annotated[SamplingOptions, Without("num_images")],
    model: ModelOptions,
    freeu: FreeUOptions,
    region: RegionOptions,
    image: ImageInput,
    control: ControlOptions,
    run: RunOptions,
    shell: ShellOptions,
    y: Annotated[str | None, typer.Option("--y", metavar=_AXIS, help="The rows.")] = None,
    z: Annotated[str | None, typer.Option("--z", metavar=_AXIS, help="The Z axis: a sheet per value.")] = None,
) -> None:
    from freeu.cli.progress import Bar
    from freeu.pipelines.io.output import OutputFolder
    from freeu.pipelines.pages.finish import embedded_note
    from freeu.pipelines.runs.prepare import Prepared, notes, notes_on_reading
    from freeu.pipelines.runs.request import Request
    from freeu.pipelines.sweep.axes import canonical, parse_axis
    from freeu.pipelines.sweep.page import finish_sweep
    from freeu.pipelines.sweep.sweep import Sweep, check_sweep, run_sweep

    if z is not None and y is None:
        raise FreeUValueError("--z needs --y: a sheet has columns and rows")
    axes = tuple(parse_axis(name, text) for name, text in (("--x", x), ("--y", y), ("--z", z)) if text is not None)
    swept = next((axis.values for axis in axes if canonical(axis.name) == "prompt"), None)
    if swept is not None and prompts:
        raise FreeUValueError("prompts are an axis of this sweep: leave the prompt out")
    if len(prompts.prompts or ()) > 1:
        raise FreeUValueError('several prompts make an axis: --y "prompt=first|second"')
    texts = prompts.collect() if swept is None else (str(swept[0]),)
    networks = (model.add_ons(), image, control)
    wanted = Sweep(Request("generate", texts, sampling, model, run, freeu, *networks, region=region), axes)
    with run.folder("freeu-sweep", shell.dry_run) as folder:
        found = check_sweep(wanted, folder)
        if shell.dry_run:
            from freeu.cli.dry_run import show_request

            arms = [f"{axis.name} = {', '.join(axis.label(value) for value in axis.values)}" for axis in axes]
            show_request(wanted.request, found.model, folder, arms=arms, count=wanted.count, noun="cell")
            return

        bar = Bar("generating", wanted.count, "cell")
        said: list[str] = []

        def loaded(prepared: Prepared) -> None:
            """Say which miniature is used, and which words of the prompts it does not know; each once."""
            plan, world = prepared.plan, prepared.loaded.source.world
            asked = replace(plan, arms=("baseline",), config=None, prompts=swept or plan.prompts)
            cut = notes_on_reading(prepared.loaded.pipe, asked)
            for line in filter(None, (embedded_note(plan, world), *cut, *notes(asked, world))):
                if line not in said:
                    said.append(line)
                    tell(line)

        def telling(text: str) -> None:
            """Each model that is loaded, in the bar and, for the first, before there is one to see."""
            bar.say(text)
            if text.startswith("loading"):
                loading(text.removeprefix("loading "))

        try:
            with bar:
                record = run_sweep(wanted, folder, telling, bar.one, loaded)
        except KeyboardInterrupt:
            raise stopped(folder, seeds=sampling.seeds) from None
        names = finish_sweep(OutputFolder(folder), record, " ".join(said))
        distinct = len(record["pictures"])
        say(f"wrote {counted(distinct, 'image')} for {counted(wanted.count, 'cell')} to {folder}: {', '.join(names)}")
        written(folder, *names, axes=record["axes"], cells=record["cells"])


sweep.__doc__ = f"""Generate a grid over any settings: contact sheets, and a page to compare any two cells.

Axes: {", ".join(AXES)}.

b and s are all stages; preset and config take "off" (without FreeU); size takes 512 or 512x768; prompt-sr=red|blue
replaces its first value in the prompt by each. Equal images are made once. An interrupted sweep goes on if the same
command is given again with the same --output.
"""

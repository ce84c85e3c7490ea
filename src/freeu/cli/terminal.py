"""From a checked request to its output, with what the terminal shows of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from freeu.cli.errors import stopped

if TYPE_CHECKING:
    from freeu.pipelines.runs.manifest import Manifest
    from freeu.pipelines.runs.plan import Plan
    from freeu.pipelines.runs.prepare import Prepared
    from freeu.pipelines.runs.request import Request


def carry_out(
    request: Request,
    name: str = "freeu",
    say: Callable[[Plan], Iterable[str]] = lambda plan: (),
) -> Manifest:
    """Check a request, load its model, and make its images or videos.

    Args:
        request: of images or videos.
        name: what the name of the output folder begins with, if none was asked for.
        say: what a user should know of the plan besides what is always said.
    """
    from freeu.pipelines.runs.prepare import prepare
    from freeu.pipelines.runs.request import check_request

    with request.run.folder(name) as folder:
        prepared = prepare(request, check_request(request, folder))
        tell(*say(prepared.plan), *prepared.notes)
        return produce(prepared, folder)


def produce(prepared: Prepared, folder: Path) -> Manifest:
    """Make the images or videos of a plan and what shows them; say what was made and where."""
    from freeu.cli.progress import Bar
    from freeu.pipelines.io.inputs import format_seeds
    from freeu.pipelines.io.output import OutputFolder
    from freeu.pipelines.making import make
    from freeu.pipelines.pages.finish import headline
    from freeu.wording import counted

    plan = prepared.plan
    print(*headline(plan, prepared.loaded.source.world), sep="\n", flush=True)
    bar = Bar("generating", plan.count, plan.noun)
    try:
        with bar:
            manifest, written = make(prepared, OutputFolder(folder), bar, bar.say)
    except KeyboardInterrupt:
        done = f"after {bar.done} of {counted(plan.count, plan.noun)}"
        raise stopped(folder, done, format_seeds(plan.seeds)) from None
    print(f"wrote {counted(plan.count, plan.noun)} to {folder}")
    for name, purpose in written:
        print(f"  {folder / name}  {purpose}")
    return manifest


def tell(*lines: str) -> None:
    """What a user should know, on standard error."""
    for line in lines:
        print(f"freeu: {line}", file=sys.stderr)

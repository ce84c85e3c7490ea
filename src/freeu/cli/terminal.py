"""From a checked request to its output, with what the terminal shows of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from freeu.cli.errors import stopped
from freeu.pipelines.options.run import RayOptions

if TYPE_CHECKING:
    from freeu.pipelines.runs.executors import Executor
    from freeu.pipelines.runs.manifest import Manifest
    from freeu.pipelines.runs.plan import Plan
    from freeu.pipelines.runs.prepare import Prepared
    from freeu.pipelines.runs.request import Request


def carry_out(
    request: Request,
    name: str = "freeu",
    say: Callable[[Plan], Iterable[str]] = lambda plan: (),
    ray: RayOptions = RayOptions(),
) -> Manifest:
    """Check a request, load its model, and make its images or videos.

    Args:
        request: of images or videos.
        name: what the name of the output folder begins with, if none was asked for.
        say: what a user should know of the plan besides what is always said.
        ray: who generates.
    """
    from freeu.pipelines.runs.prepare import prepare
    from freeu.pipelines.runs.request import check_request

    with request.run.folder(name) as folder:
        found = check_request(request, folder)
        with who_generates(ray) as executor:
            prepared = prepare(request, found)
            tell(*say(prepared.plan), *prepared.notes)
            return produce(prepared, folder, executor)


@contextlib.contextmanager
def who_generates(ray: RayOptions) -> Iterator[Executor | None]:
    """Workers of a Ray cluster for a ``with`` block, or None for this process.

    Raises:
        FreeUValueError: ray is not installed, or no cluster answers at the address.
    """
    if ray.ray is None:
        yield None
        return
    from freeu.pipelines.runs.ray_executor import ray_cluster

    with ray_cluster(ray.ray) as executor:
        yield executor


def produce(prepared: Prepared, folder: Path, executor: Executor | None = None) -> Manifest:
    """Make the images or videos of a plan and what shows them; say what was made and where."""
    from freeu.cli.measures import measure
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
            manifest, written = make(prepared, OutputFolder(folder), bar, bar.say, executor, measure)
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

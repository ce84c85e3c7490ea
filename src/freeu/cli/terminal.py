"""From a checked request to its output, with what the terminal shows of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.cli.errors import stopped
from freeu.cli.shell import loading, say, tell, written
from freeu.pipelines.options.run import RayOptions, ShellOptions

if TYPE_CHECKING:
    import typer

    from freeu.pipelines.options.freeu import FreeUOptions
    from freeu.pipelines.options.like import LikeOptions
    from freeu.pipelines.options.model import ModelOptions
    from freeu.pipelines.options.sampling import PromptOptions, SamplingOptions
    from freeu.pipelines.runs.executors import Executor
    from freeu.pipelines.runs.manifest import Manifest
    from freeu.pipelines.runs.plan import Plan
    from freeu.pipelines.runs.prepare import Prepared
    from freeu.pipelines.runs.request import Request


def image_request(
    command: str,
    ctx: typer.Context,
    prompts: PromptOptions,
    like: LikeOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    freeu: FreeUOptions | None,
    **others: Any,
) -> Request:
    """The request of ``freeu compare`` and ``freeu generate``, with what ``--like`` and the lines of prompt files say.

    Args:
        command: "compare" or "generate".
        ctx: of the command; it knows what was given.
        prompts, like, sampling, model, freeu: its options; ``freeu`` None is without FreeU.
        others: fields of the request that are taken as they are.

    Raises:
        FreeUValueError: a file of prompts or an image that cannot be read or used.
    """
    from freeu.cli.bundles import given_names
    from freeu.pipelines.options.sampling import with_lines
    from freeu.pipelines.runs.request import Request

    if like.like is not None:
        prompts, sampling, freeu, left = like.fill(prompts, sampling, freeu, given_names(ctx), model.model)
        tell(*left)
    lines = prompts.lines()
    sampling, negatives = with_lines(sampling, lines)
    return Request(
        command,
        tuple(line.text for line in lines),
        sampling,
        model,
        freeu=freeu,
        add_ons=model.add_ons(),
        negatives=negatives,
        **others,
    )


def carry_out(
    request: Request,
    name: str = "freeu",
    note: Callable[[Plan], Iterable[str]] = lambda plan: (),
    ray: RayOptions = RayOptions(),
    shell: ShellOptions = ShellOptions(),
) -> None:
    """Check a request, load its model, and make its images or videos.

    Args:
        request: of images or videos.
        name: what the name of the output folder begins with, if none was asked for.
        note: what a user should know of the plan besides what is always said.
        ray: who generates.
        shell: whether the request is only checked and shown.
    """
    from freeu.pipelines.runs.prepare import prepare
    from freeu.pipelines.runs.request import check_request

    with request.run.folder(name, shell.dry_run) as folder:
        found = check_request(request, folder)
        if shell.dry_run:
            from freeu.cli.dry_run import show_request

            show_request(request, found.model, folder)
            return
        with who_generates(ray) as executor:
            loading(found.model.label)
            prepared = prepare(request, found)
            tell(*note(prepared.plan), *prepared.notes)
            manifest, names = produce(prepared, folder, executor)
            written(folder, *names, images=images_of(manifest, folder))


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


def produce(prepared: Prepared, folder: Path, executor: Executor | None = None) -> tuple[Manifest, list[str]]:
    """Make the images or videos of a plan and what shows them; say what was made and where.

    Returns:
        the manifest, and the names of the files worth opening, the first to look at first.
    """
    from freeu.cli.measures import measure
    from freeu.cli.progress import Bar
    from freeu.pipelines.io.inputs import format_seeds
    from freeu.pipelines.io.output import OutputFolder
    from freeu.pipelines.making import make
    from freeu.pipelines.pages.finish import headline
    from freeu.wording import counted

    plan = prepared.plan
    say(*headline(plan, prepared.loaded.source.world))
    if prepared.evidence is not None:
        say(f"these settings: {prepared.evidence}")
    bar = Bar("generating", plan.count, plan.noun)
    try:
        with bar:
            manifest, pages = make(prepared, OutputFolder(folder), bar, bar.say, executor, measure)
    except KeyboardInterrupt:
        done = f"after {bar.done} of {counted(plan.count, plan.noun)}"
        raise stopped(folder, done, format_seeds(plan.seeds)) from None
    say(f"wrote {counted(plan.count, plan.noun)} to {folder}")
    for name, purpose in pages:
        say(f"  {folder / name}  {purpose}")
    return manifest, [name for name, _ in pages]


def images_of(manifest: Manifest, folder: Path) -> list[dict[str, Any]]:
    """What ``--json`` prints of each image or video."""
    return [
        {**record.to_dict(), "file": str(folder / record.file)}
        for planned in manifest.plan.images()
        for record in [manifest.images[planned.file]]
    ]

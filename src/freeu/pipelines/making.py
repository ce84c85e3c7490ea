"""A prepared run made whole: the images or videos, then what shows them."""

from __future__ import annotations

from collections.abc import Callable

from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.pages.finish import Measure, finish
from freeu.pipelines.pages.video_finish import finish_video
from freeu.pipelines.runs.executors import Executor, Progress
from freeu.pipelines.runs.manifest import Manifest
from freeu.pipelines.runs.prepare import Prepared
from freeu.pipelines.runs.run import ImageMaker, make_run
from freeu.pipelines.video.run import VideoMaker


def make(
    prepared: Prepared,
    output: OutputFolder,
    progress: Progress,
    say: Callable[[str], None],
    executor: Executor | None = None,
    measure: Measure | None = None,
) -> tuple[Manifest, list[tuple[str, str]]]:
    """Make a run and its pages; one that was interrupted goes on in the same folder.

    Args:
        prepared: what ``prepare`` or ``reload`` gave.
        output: the folder.
        progress: told of every step.
        say: told what is done after the last step.
        executor: where the calls of the pipeline are made; None is this process.
        measure: what measures the images of a comparison for its page, after the last one.

    Returns:
        the manifest, and the files worth opening with what each is for.

    Raises:
        FreeUValueError: the folder belongs to another run.
        FreeURuntimeError: FreeU did not act, or the disk is full.
    """
    video = prepared.plan.command == "video"
    manifest = make_run(prepared, output, VideoMaker() if video else ImageMaker(), progress, executor)
    world = prepared.loaded.source.world
    if video:
        return manifest, finish_video(output, manifest, world, say)
    return manifest, finish(output, manifest, world, say, measure)

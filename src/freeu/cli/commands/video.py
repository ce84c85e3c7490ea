"""``freeu video``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freeu.pipelines.options.freeu import VideoFreeUOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import PromptOptions, SamplingOptions
from freeu.pipelines.options.video import VideoOptions


def video(
    prompts: PromptOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    freeu: VideoFreeUOptions,
    inputs: VideoOptions,
    run: RunOptions,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MANIFEST",
            help="Reproduce the videos of a manifest.json and say whether their frames are bit-identical.",
        ),
    ] = None,
) -> None:
    """Generate the same video without and with FreeU: files, both side by side, a page, a manifest.

    An interrupted run goes on if the same command is given again with the same --output. With --from, everything comes
    from the manifest; only --output, --model, --motion-adapter, --lora, --embedding, --device and --threads may be
    given too.
    """
    from freeu.cli.reproduce import reproduce
    from freeu.cli.terminal import carry_out
    from freeu.pipelines.video.request import VideoRequest

    if manifest is not None:
        reproduce(manifest, prompts, sampling, model, freeu, inputs, run, name="freeu-video")
        return
    request = VideoRequest("video", prompts, sampling, model, run, freeu, model.add_ons(), video=inputs)
    carry_out(request, run.folder("freeu-video"))

"""``freeu generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freeu.errors import FreeUValueError
from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import ImageInput, PromptOptions, SamplingOptions


def generate(
    prompts: PromptOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    freeu: FreeUOptions,
    image: ImageInput,
    control: ControlOptions,
    run: RunOptions,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MANIFEST",
            help="Reproduce the images of a manifest.json and say whether they are bit-identical.",
        ),
    ] = None,
    no_freeu: Annotated[bool, typer.Option("--no-freeu", help="Without FreeU.", rich_help_panel="FreeU")] = False,
) -> None:
    """Generate images with FreeU, or reproduce those of a manifest.

    With --from, everything comes from the manifest; only --output, --model, --lora, --embedding, --controlnet,
    --device and --threads may be given too.
    """
    from freeu.cli.reproduce import reproduce
    from freeu.cli.terminal import carry_out
    from freeu.pipelines.options.option import given
    from freeu.pipelines.runs.request import Request

    if manifest is not None:
        if no_freeu:
            raise FreeUValueError("--from takes everything from the manifest: leave --no-freeu out")
        reproduce(manifest, prompts, sampling, model, freeu, image, control, run, name="freeu")
        return
    if no_freeu and (given(freeu) or control.skip_filter_order is not None):
        raise FreeUValueError("--no-freeu leaves nothing for FreeU's own options to say: give one or the other")
    wanted = None if no_freeu else freeu
    request = Request("generate", prompts, sampling, model, run, wanted, model.add_ons(), image, control)
    carry_out(request, run.folder())

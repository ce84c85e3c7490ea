"""``freeu compare``."""

from __future__ import annotations

import typer

from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.guiding import GuidingOptions
from freeu.pipelines.options.like import LikeOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import BatchOptions, RunOptions, ShellOptions
from freeu.pipelines.options.sampling import ImageInput, PromptOptions, SamplingOptions, with_lines
from freeu.pipelines.options.scalecrafter import ScaleCrafterOptions


def compare(
    ctx: typer.Context,
    prompts: PromptOptions,
    like: LikeOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    freeu: FreeUOptions,
    image: ImageInput,
    control: ControlOptions,
    scalecrafter: ScaleCrafterOptions,
    guiding: GuidingOptions,
    run: RunOptions,
    batch: BatchOptions,
    shell: ShellOptions,
) -> None:
    """Generate the same prompt and seed without and with FreeU: images, a grid, a page with sliders, a manifest.

    An interrupted run goes on if the same command is given again with the same --output.
    """
    from freeu.cli.bundles import given_names
    from freeu.cli.shell import tell
    from freeu.cli.terminal import carry_out
    from freeu.pipelines.runs.request import Request

    if like.like is not None:
        prompts, sampling, left = like.fill(prompts, sampling, given_names(ctx), model.model)
        tell(*left)
    lines = prompts.lines()
    sampling, negatives = with_lines(sampling, lines)
    parts = (tuple(line.text for line in lines), sampling, model, run, freeu, model.add_ons(), image, control)
    carry_out(
        Request("compare", *parts, scalecrafter=scalecrafter, guiding=guiding, batch=batch, negatives=negatives),
        shell=shell,
    )

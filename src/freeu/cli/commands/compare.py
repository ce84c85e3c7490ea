"""``freeu compare``."""

from __future__ import annotations

import typer

from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions, RegionOptions
from freeu.pipelines.options.guiding import GuidingOptions
from freeu.pipelines.options.like import LikeOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import BatchOptions, RunOptions, ShellOptions
from freeu.pipelines.options.sampling import ImageInput, PromptOptions, SamplingOptions
from freeu.pipelines.options.scalecrafter import ScaleCrafterOptions


def compare(
    ctx: typer.Context,
    prompts: PromptOptions,
    like: LikeOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    freeu: FreeUOptions,
    region: RegionOptions,
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
    from freeu.cli.terminal import carry_out, image_request

    others = {"image": image, "control": control, "scalecrafter": scalecrafter, "guiding": guiding, "batch": batch}
    others["region"] = region
    carry_out(image_request("compare", ctx, prompts, like, sampling, model, freeu, run=run, **others), shell=shell)

"""``freeu generate``."""

from __future__ import annotations

import typer

from freeu.errors import FreeUValueError
from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions, FreeUSwitch, RegionOptions
from freeu.pipelines.options.guiding import GuidingOptions
from freeu.pipelines.options.like import LikeOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import BatchOptions, RayOptions, ReproduceOptions, RunOptions, ShellOptions
from freeu.pipelines.options.sampling import ImageInput, PromptOptions, SamplingOptions
from freeu.pipelines.options.scalecrafter import ScaleCrafterOptions


def generate(
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
    ray: RayOptions,
    again: ReproduceOptions,
    switch: FreeUSwitch,
    shell: ShellOptions,
) -> None:
    """Generate images with FreeU, or reproduce those of a manifest.

    With --from, everything comes from the manifest; only --output, --model, --lora, --embedding, --controlnet,
    --device, --offload, --threads and --ray may be given too.
    """
    from freeu.cli.reproduce import reproduce
    from freeu.cli.terminal import carry_out, image_request

    if again.manifest is not None:
        if like.like is not None:
            raise FreeUValueError(
                "--from reproduces exactly, and --like takes settings for a new image: give one of them"
            )
        groups = (prompts, sampling, model, freeu, region, switch, image, control, scalecrafter, guiding, run, batch)
        reproduce(again.manifest, *groups, name="freeu", ray=ray, shell=shell)
        return
    switch.check(freeu, asked=control.skip_filter_order is not None)
    wanted = None if switch.no_freeu else freeu
    others = {"image": image, "control": control, "scalecrafter": scalecrafter, "guiding": guiding, "batch": batch}
    others["region"] = region
    request = image_request("generate", ctx, prompts, like, sampling, model, wanted, run=run, **others)
    carry_out(request, ray=ray, shell=shell)

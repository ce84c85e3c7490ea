"""``freeu generate``."""

from __future__ import annotations

from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions, FreeUSwitch
from freeu.pipelines.options.guiding import GuidingOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import BatchOptions, RayOptions, ReproduceOptions, RunOptions, ShellOptions
from freeu.pipelines.options.sampling import ImageInput, PromptOptions, SamplingOptions, with_lines
from freeu.pipelines.options.scalecrafter import ScaleCrafterOptions


def generate(
    prompts: PromptOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    freeu: FreeUOptions,
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
    from freeu.cli.terminal import carry_out
    from freeu.pipelines.runs.request import Request

    if again.manifest is not None:
        groups = (prompts, sampling, model, freeu, switch, image, control, scalecrafter, guiding, run, batch)
        reproduce(again.manifest, *groups, name="freeu", ray=ray, shell=shell)
        return
    switch.check(freeu, asked=control.skip_filter_order is not None)
    wanted = None if switch.no_freeu else freeu
    lines = prompts.lines()
    sampling, negatives = with_lines(sampling, lines)
    parts = (tuple(line.text for line in lines), sampling, model, run, wanted, model.add_ons(), image, control)
    carry_out(
        Request("generate", *parts, scalecrafter=scalecrafter, guiding=guiding, batch=batch, negatives=negatives),
        ray=ray,
        shell=shell,
    )

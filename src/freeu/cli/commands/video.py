"""``freeu video``."""

from __future__ import annotations

from freeu.pipelines.options.freeu import RegionOptions, VideoFreeUOptions
from freeu.pipelines.options.guiding import GuidingOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import ReproduceOptions, RunOptions, ShellOptions
from freeu.pipelines.options.sampling import PromptOptions, SamplingOptions
from freeu.pipelines.options.video import VideoOptions


def video(
    prompts: PromptOptions,
    sampling: SamplingOptions,
    model: ModelOptions,
    freeu: VideoFreeUOptions,
    region: RegionOptions,
    inputs: VideoOptions,
    guiding: GuidingOptions,
    run: RunOptions,
    again: ReproduceOptions,
    shell: ShellOptions,
) -> None:
    """Generate the same video without and with FreeU: files, both side by side, a page, a manifest.

    An interrupted run goes on if the same command is given again with the same --output. With --from, everything comes
    from the manifest; only --output, --model, --motion-adapter, --lora, --embedding, --device, --offload and --threads
    may be given too.
    """
    from freeu.cli.reproduce import reproduce
    from freeu.cli.terminal import carry_out
    from freeu.pipelines.video.request import VideoRequest

    if again.manifest is not None:
        groups = (prompts, sampling, model, freeu, region, inputs, guiding, run)
        reproduce(again.manifest, *groups, name="freeu-video", shell=shell)
        return
    texts = prompts.collect() if prompts else ("",)
    options = (sampling, model, run, freeu, model.add_ons())
    request = VideoRequest("video", texts, *options, guiding=guiding, video=inputs, region=region)
    carry_out(request, "freeu-video", shell=shell)

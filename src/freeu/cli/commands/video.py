"""``freeu video``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from freeu.cli import options as o
from freeu.cli.reproduce import make_again
from freeu.cli.terminal import film

TIME_FIELDS = ("over_time", "frame_strength", "time_threshold")
"""Fields of ``request.FreeUChoice`` that only clips have use for."""
_CLIPS, _FREEU = "Clips", "FreeU"

Image = Annotated[
    Path | None,
    typer.Option("--image", metavar="FILE", help="Begin with this picture (image-to-video).", rich_help_panel=_CLIPS),
]
Video = Annotated[
    Path | None,
    typer.Option("--video", metavar="FILE", help="Begin with this clip (video-to-video).", rich_help_panel=_CLIPS),
]
VideoStrength = Annotated[
    float | None,
    typer.Option(
        "--video-strength",
        metavar="0..1",
        help="How much of --video is noised away (default 0.6).",
        rich_help_panel=_CLIPS,
    ),
]
Frames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        help="Of each clip (default: the model's, or as many as --video has).",
        rich_help_panel=_CLIPS,
    ),
]
Fps = Annotated[
    int | None,
    typer.Option("--fps", metavar="N", help="Frames a second (default: the model's).", rich_help_panel=_CLIPS),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMATS",
        help="mp4, webp, gif, with commas; an mp4 is always written.",
        rich_help_panel=_CLIPS,
    ),
]
DecodeChunk = Annotated[
    int | None,
    typer.Option(
        "--decode-chunk",
        metavar="N",
        help="Frames that are decoded at once: fewer take less memory (default: 4, Stable Video Diffusion 8).",
        rich_help_panel=_CLIPS,
    ),
]
MotionAdapter = Annotated[
    str | None,
    typer.Option(
        "--motion-adapter",
        metavar="DIR|HUB_ID",
        help="Makes a video model of a Stable Diffusion 1.x (AnimateDiff).",
        rich_help_panel="Model",
    ),
]
OverTime = Annotated[
    str | None,
    typer.Option(
        "--over-time",
        metavar="NAME",
        help="What of the structure map the frames share: frame (nothing), clip, smooth or shared (all of it).",
        rich_help_panel=_FREEU,
    ),
]
FrameStrength = Annotated[
    str | None,
    typer.Option(
        "--frame-strength",
        metavar="W,W,...",
        help="Strengths of 0 to 1 from the first frame to the last, such as 1,1,0.5.",
        rich_help_panel=_FREEU,
    ),
]
TimeThreshold = Annotated[
    int | None,
    typer.Option(
        "--time-threshold",
        metavar="N",
        help="0 filters each frame; from 1 on what is slow over time is low, too.",
        rich_help_panel=_FREEU,
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="MANIFEST",
        help="Make the clips of a manifest.json again and say whether their frames are equal.",
    ),
]


def video(
    prompts: o.Prompts = None,
    prompts_from: o.PromptsFrom = None,
    seeds: o.Seeds = "0",
    manifest: From = None,
    model: o.Model = None,
    motion_adapter: MotionAdapter = None,
    lora: o.Loras = None,
    fuse_lora: o.FuseLora = False,
    embedding: o.Embeddings = None,
    model_config: o.ModelConfig = None,
    variant: o.Variant = None,
    preset: o.Preset = None,
    config: o.Config = None,
    b: o.B = None,
    s: o.S = None,
    version: o.Version = None,
    profile: o.Profile = None,
    start: o.Start = None,
    end: o.End = None,
    ramp: o.Ramp = None,
    strength: o.Strength = None,
    over_time: OverTime = None,
    frame_strength: FrameStrength = None,
    time_threshold: TimeThreshold = None,
    image: Image = None,
    video: Video = None,
    video_strength: VideoStrength = None,
    frames: Frames = None,
    fps: Fps = None,
    formats: Format = "mp4,webp",
    decode_chunk: DecodeChunk = None,
    steps: o.Steps = None,
    guidance: o.Guidance = None,
    negative_prompt: o.Negative = "",
    scheduler: o.Scheduler = None,
    width: o.Width = None,
    height: o.Height = None,
    dtype: o.DType = "auto",
    device: o.Device = "auto",
    threads: o.Threads = None,
    output: o.Output = None,
) -> None:
    """Film the same prompt and seed without and with FreeU: clips, films side by side, a page, a manifest.

    An interrupted run goes on if the same command is given again with the same --output. With --from, everything comes
    from the manifest; only --output, --model, --motion-adapter, --lora, --embedding, --device and --threads may be
    given too.
    """
    values = locals()
    if values.pop("manifest") is not None:
        assert manifest is not None
        make_again(manifest, values)
        return
    from freeu.pipelines.io.output import dated_folder
    from freeu.pipelines.runs.request import FreeUChoice, notes
    from freeu.pipelines.video.request import VideoRequest, check_video_request, prepare_video

    folder: Path = values.pop("output") or dated_folder("freeu-video")
    choice = FreeUChoice(**{name: values.pop(name) for name in (*o.FREEU_FIELDS, *TIME_FIELDS)})
    prompts_given = tuple(values.pop("prompts") or ())
    request = VideoRequest(command="video", freeu=choice, prompts=prompts_given, **o.add_ons(values), **values)
    found = check_video_request(request, folder)
    prepared = prepare_video(request, found)
    for note in notes(prepared.plan, prepared.loaded.source.world):
        print(f"freeu: {note}", file=sys.stderr)
    film(prepared, folder)

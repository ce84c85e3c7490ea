"""``freeu rerender``."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer

from freeu.cli import options as o
from freeu.cli.errors import stopped

_FILM, _FREEU = "Film", "FreeU"

Video = Annotated[
    Path, typer.Argument(metavar="VIDEO", help="An .mp4, .m4v, .mov, .webm, .gif, .webp or .png.", show_default=False)
]
Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What the film shows.", show_default=False)]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of the noise, one for all key frames.")]
Compare = Annotated[
    bool, typer.Option("--compare", help="Make the film without and with FreeU.", rich_help_panel=_FREEU)
]
NoFreeU = Annotated[bool, typer.Option("--no-freeu", help="Without FreeU.", rich_help_panel=_FREEU)]
VideoStrength = Annotated[
    float,
    typer.Option(
        "--video-strength",
        metavar="0..1",
        help="How much of a key frame is noised away; 0 gives the video back.",
        rich_help_panel=_FILM,
    ),
]
KeyEvery = Annotated[
    int,
    typer.Option("--key-every", metavar="N", help="A key frame after so many frames.", rich_help_panel=_FILM),
]
KeyContent = Annotated[
    bool,
    typer.Option("--key-content", help="A key frame sooner where much moves or comes into sight.", rich_help_panel=_FILM),
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="STAGE",
        help="Leave a stage out: cross-frame, shape, pixel, fidelity or colour; may be given again.",
        rich_help_panel=_FILM,
    ),
]
Frames = Annotated[
    int | None,
    typer.Option("--frames", metavar="N", help="Use only the first N frames.", rich_help_panel=_FILM),
]


def rerender(
    video: Video,
    prompt: Prompt,
    seed: Seed = 0,
    compare: Compare = False,
    no_freeu: NoFreeU = False,
    model: o.Model = None,
    lora: o.Loras = None,
    fuse_lora: o.FuseLora = False,
    embedding: o.Embeddings = None,
    model_config: o.ModelConfig = None,
    variant: o.Variant = None,
    control: o.Control = None,
    control_scale: o.ControlScale = 1.0,
    control_order: o.ControlOrder = None,
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
    video_strength: VideoStrength = 0.75,
    key_every: KeyEvery = 8,
    key_content: KeyContent = False,
    without: Without = None,
    frames: Frames = None,
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
    """Draw a video anew from a text: key frames by the model, the frames between along the motion of the video.

    An interrupted run goes on if the same command is given again with the same --output.
    """

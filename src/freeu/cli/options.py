"""The options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

FREEU_FIELDS = ("preset", "config", "b", "s", "version", "profile", "start", "end", "ramp", "strength")
"""Fields of ``request.FreeUChoice`` by the names of their options."""
REQUEST_FIELDS = (
    "seeds",
    "model",
    "model_config",
    "variant",
    "steps",
    "guidance",
    "negative_prompt",
    "scheduler",
    "width",
    "height",
    "dtype",
    "device",
    "threads",
)
"""Fields of ``request.Request`` by the names of the options that every command that draws has."""
ADD_ONS = ("lora", "fuse_lora", "embedding")
"""Options for what is added to the model; see ``add_ons``."""

_MODEL, _FREEU, _PICTURE, _CONTROL, _RUN = "Model", "FreeU", "Pictures", "ControlNet", "Running"

Prompts = Annotated[
    list[str] | None,
    typer.Argument(metavar="PROMPT", help="What the pictures show; several make several rows.", show_default=False),
]
PromptsFrom = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="FILE|paper",
        help="A text file, one prompt a line (# begins a comment), or 'paper': the prompts of the paper and its demo.",
        rich_help_panel=_PICTURE,
    ),
]
Seeds = Annotated[
    str, typer.Option("--seeds", metavar="SEEDS", help="Such as 1 or 0,3,5 or 0-7.", rich_help_panel=_PICTURE)
]
Image = Annotated[
    Path | None,
    typer.Option("--image", metavar="FILE", help="Start from this picture (image-to-image).", rich_help_panel=_PICTURE),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        help="Paint anew only where this picture is white (inpainting).",
        rich_help_panel=_PICTURE,
    ),
]
ImageStrength = Annotated[
    float | None,
    typer.Option(
        "--image-strength",
        metavar="0..1",
        help="How much of --image is noised away (default 0.6).",
        rich_help_panel=_PICTURE,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", help="Denoising steps (default: the model's).", rich_help_panel=_PICTURE),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance", metavar="SCALE", help="Guidance scale (default: the model's).", rich_help_panel=_PICTURE
    ),
]
Negative = Annotated[
    str,
    typer.Option(
        "--negative-prompt", metavar="TEXT", help="What the pictures should not show.", rich_help_panel=_PICTURE
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="NAME",
        help="ddim, ddpm, pndm, euler, euler-a, heun, dpm++2s, dpm++2m, dpm++2m-karras, dpm++2m-sde, "
        "dpm++2m-sde-karras, deis, unipc, lcm or tcd (default: the model's).",
        rich_help_panel=_PICTURE,
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        "--width", metavar="PIXELS", help="Width (default: the model's, or that of --image).", rich_help_panel=_PICTURE
    ),
]
Height = Annotated[
    int | None,
    typer.Option(
        "--height",
        metavar="PIXELS",
        help="Height (default: the model's, or that of --image).",
        rich_help_panel=_PICTURE,
    ),
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A directory of diffusers, a .safetensors or .ckpt file, a hub id (owner/name), or an embedded model "
        "(default: the embedded one).",
        rich_help_panel=_MODEL,
    ),
]
ModelConfig = Annotated[
    Path | None,
    typer.Option(
        "--model-config",
        metavar="DIR",
        help="For a single file or an original checkpoint without network: a directory of diffusers with the "
        "configuration of its kind.",
        rich_help_panel=_MODEL,
    ),
]
Variant = Annotated[
    str | None,
    typer.Option("--variant", metavar="NAME", help="Which weight files to use, such as fp16.", rich_help_panel=_MODEL),
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="FILE[:WEIGHT]",
        help="Add a LoRA (.safetensors of diffusers or kohya, or its folder) with a weight (default 1); may be given "
        "again.",
        rich_help_panel=_MODEL,
    ),
]
FuseLora = Annotated[
    bool,
    typer.Option("--fuse-lora", help="Add the LoRAs to the model's weights before drawing.", rich_help_panel=_MODEL),
]
Embeddings = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        metavar="FILE[:TOKEN]",
        help="Add a textual-inversion embedding, and the word for it in prompts (default: as its file says); may be "
        "given again.",
        rich_help_panel=_MODEL,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A directory of diffusers, a .safetensors or .ckpt file, a hub id (owner/name), or an embedded model.",
        show_default=False,
    ),
]

Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="A name of `freeu presets` (default: recommended for the model).",
        rich_help_panel=_FREEU,
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="TEXT|FILE",
        help='All settings: "b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2", JSON, or a file with one of them.',
        rich_help_panel=_FREEU,
    ),
]
B = Annotated[
    str | None,
    typer.Option(
        "--b", metavar="B1,B2", help="Backbone gains, one per stage (2 or 3), such as 1.3,1.4.", rich_help_panel=_FREEU
    ),
]
S = Annotated[
    str | None,
    typer.Option("--s", metavar="S1,S2", help="Skip gains, one per stage, such as 0.9,0.2.", rich_help_panel=_FREEU),
]
Version = Annotated[
    int | None,
    typer.Option(
        "--version", metavar="1|2", help="1: constant gain; 2: structure-aware (as published).", rich_help_panel=_FREEU
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Where it acts: official, diffusers, comfyui or a1111.",
        rich_help_panel=_FREEU,
    ),
]
Start = Annotated[
    float | None,
    typer.Option("--start", metavar="0..1", help="Fraction of the steps at which it begins.", rich_help_panel=_FREEU),
]
End = Annotated[
    float | None,
    typer.Option("--end", metavar="0..1", help="Fraction of the steps at which it ends.", rich_help_panel=_FREEU),
]
Ramp = Annotated[
    float | None,
    typer.Option(
        "--ramp", metavar="0..1", help="Fraction of the steps it takes to fade in and out.", rich_help_panel=_FREEU
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        "--strength", metavar="0..1", help="Between no effect (0) and the factors as given (1).", rich_help_panel=_FREEU
    ),
]

Control = Annotated[
    str | None,
    typer.Option(
        "--control",
        metavar="NAME|PATH",
        help="Let a ControlNet steer: an embedded one (canny), a directory of diffusers, a .safetensors file or a hub "
        "id.",
        rich_help_panel=_CONTROL,
    ),
]
ControlImage = Annotated[
    Path | None,
    typer.Option(
        "--control-image", metavar="FILE", help="The picture that the ControlNet follows.", rich_help_panel=_CONTROL
    ),
]
ControlPreprocess = Annotated[
    str | None,
    typer.Option(
        "--control-preprocess",
        metavar="canny|none",
        help="canny: find the edges of --control-image; none: it is what the ControlNet reads (default canny).",
        rich_help_panel=_CONTROL,
    ),
]
ControlScale = Annotated[
    float | None,
    typer.Option(
        "--control-scale", metavar="0..2", help="How much the ControlNet adds (default 1).", rich_help_panel=_CONTROL
    ),
]
ControlStart = Annotated[
    float | None,
    typer.Option(
        "--control-start", metavar="0..1", help="Fraction of the steps at which it begins.", rich_help_panel=_CONTROL
    ),
]
ControlEnd = Annotated[
    float | None,
    typer.Option(
        "--control-end", metavar="0..1", help="Fraction of the steps at which it ends.", rich_help_panel=_CONTROL
    ),
]
ControlOrder = Annotated[
    str | None,
    typer.Option(
        "--control-order",
        metavar="after|before",
        help="Whether FreeU filters the skips after or before the ControlNet adds to them (default after).",
        rich_help_panel=_CONTROL,
    ),
]

DType = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="auto, float32, float16 or bfloat16 (auto: float16 on CUDA, else float32).",
        rich_help_panel=_RUN,
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps ...", rich_help_panel=_RUN)
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Processor threads (default: torch's choice).", rich_help_panel=_RUN),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="DIR", help="Where to write (default: a new folder freeu-DATE-TIME).", rich_help_panel=_RUN
    ),
]
StudyFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the study.")]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="postgresql://user@host/name, or the path of an SQLite file (default: study.sqlite in the folder).",
    ),
]


def add_ons(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``request.Request`` for what is added to the model, from its options; they leave ``values``.

    Raises:
        FreeUValueError: a file that is not there or is something else.
    """
    from freeu.pipelines.models.addons.add_ons import parse_embeddings, parse_loras

    return {
        "loras": parse_loras(values.pop("lora")),
        "embeddings": parse_embeddings(values.pop("embedding")),
        "fuse_loras": values.pop("fuse_lora"),
    }

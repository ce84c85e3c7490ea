"""``freeu rerender``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

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
    typer.Option(
        "--key-content", help="A key frame sooner where much moves or comes into sight.", rich_help_panel=_FILM
    ),
]
Control = Annotated[
    str | None,
    typer.Option(
        "--control",
        metavar="NAME|PATH|none",
        help="A ControlNet for canny edges: an embedded one (canny), a directory of diffusers, a .safetensors file or "
        "a hub id; none: no ControlNet (default: canny for the embedded model, else none).",
        rich_help_panel=_FILM,
    ),
]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="STAGE",
        help="Put a stage on that is off unless told otherwise: shape or colour; may be given again.",
        rich_help_panel=_FILM,
    ),
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
Raft = Annotated[
    Path | None,
    typer.Option(
        "--raft",
        metavar="FILE.onnx",
        help="Find the motion by this RAFT instead of OpenCV's DIS flow.",
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
    control: Control = None,
    control_scale: o.ControlScale = None,
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
    more: With = None,
    without: Without = None,
    raft: Raft = None,
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
    values = locals()
    from freeu.errors import FreeUValueError
    from freeu.pipelines.io.output import dated_folder
    from freeu.pipelines.runs.request import FreeUChoice, Request, notes
    from freeu.rerender.film.keyframes import KeyFrameChoice
    from freeu.rerender.request import PRESET, Rerender, check_rerender, prepare_rerender

    folder: Path = output or dated_folder("freeu-rerender")
    given = [name for name in o.FREEU_FIELDS if values[name] is not None]
    if no_freeu and (given or compare):
        raise FreeUValueError("--no-freeu leaves nothing for FreeU's own options to say: give one or the other")
    if not any(values[name] is not None for name in ("preset", "config", "b", "s")):
        values["preset"] = PRESET
    choice = None if no_freeu else FreeUChoice(**{name: values[name] for name in o.FREEU_FIELDS})
    shared = {name: values[name] for name in o.REQUEST_FIELDS if name != "seeds"}
    request = Request(
        command="compare" if compare else "generate",
        prompts=(prompt,),
        prompts_from=None,
        seeds=str(seed),
        freeu=choice,
        **o.add_ons(values),
        **shared,
    )
    run = Rerender(
        video,
        request,
        strength=video_strength,
        control=control,
        control_scale=1.0 if control_scale is None else control_scale,
        control_order=control_order,
        keys=KeyFrameChoice(interval=key_every, content=key_content),
        more=tuple(more or ()),
        without=tuple(without or ()),
        frames=frames,
        raft=raft,
    )
    job = prepare_rerender(run, check_rerender(run, folder))
    for note in notes(job.plan, job.loaded.source.world):
        print(f"freeu: {note}", file=sys.stderr)
    _make(job, folder)


def _make(job: Any, folder: Path) -> None:
    """Make the film and what shows it; say what was made and where."""
    from freeu.cli.progress import FilmBar
    from freeu.pipelines.io.output import OutputFolder
    from freeu.rerender.finish import film_headline, finish_film
    from freeu.rerender.run import make_film
    from freeu.wording import counted

    for line in film_headline(job):
        print(line)
    sys.stdout.flush()
    output = OutputFolder(folder)
    bar = FilmBar(len(job.source) * len(job.plan.arms))
    try:
        with bar:
            record = make_film(job, output, bar)
            written = finish_film(job, output, record, bar.say)
    except KeyboardInterrupt:
        raise stopped(folder, f"after {counted(bar.keys, 'key frame')}") from None
    print(f"wrote {counted(len(job.source), 'frame')} to {folder}")
    for name, purpose in written:
        print(f"  {folder / name}  {purpose}")

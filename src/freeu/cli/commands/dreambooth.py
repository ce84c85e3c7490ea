"""``freeu dreambooth train`` and ``freeu dreambooth generate``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli import options as o
from freeu.cli.errors import stopped

dreambooth = typer.Typer(
    help="Teach a model one subject from a few pictures, and draw it without and with FreeU.",
    no_args_is_help=True,
)

_SUBJECT, _LEARNING, _CLASS, _WATCHING, _RUN = "Subject", "Learning", "Class", "Watching", "Running"

Pictures = Annotated[
    Path, typer.Argument(metavar="PICTURES", help="A folder with 3 to 100 pictures of one subject.", show_default=False)
]
Token = Annotated[
    str, typer.Option("--token", metavar="WORD", help="A rare word that will mean it.", rich_help_panel=_SUBJECT)
]
ClassNoun = Annotated[
    str,
    typer.Option(
        "--class-noun",
        metavar="NOUN",
        help="What kind of thing it is, in a word that the model knows.",
        show_default=False,
        rich_help_panel=_SUBJECT,
    ),
]
Caption = Annotated[
    str,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="The caption of the pictures, with {token} and {class} in their places; a text file beside a picture, "
        "3.txt beside 3.png, holds its own.",
        rich_help_panel=_SUBJECT,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        "--size",
        metavar="PIXELS",
        help="Side of the squares that are cut from the pictures (default: the model's).",
        rich_help_panel=_SUBJECT,
    ),
]
LearningSteps = Annotated[int, typer.Option("--steps", metavar="N", help="Steps.", rich_help_panel=_LEARNING)]
Batch = Annotated[
    int,
    typer.Option(
        "--batch",
        metavar="N",
        help="Pictures of the subject in a step, and as many of the class.",
        rich_help_panel=_LEARNING,
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        metavar="RATE",
        help="Default: 1e-4 for a LoRA and 5e-6 for all weights in Stable Diffusion, more in narrower models.",
        rich_help_panel=_LEARNING,
    ),
]
Rank = Annotated[int, typer.Option("--rank", metavar="N", help="Rank of the LoRA.", rich_help_panel=_LEARNING)]
Alpha = Annotated[
    float | None,
    typer.Option(
        "--alpha", metavar="A", help="The LoRA times A / rank (default: the rank).", rich_help_panel=_LEARNING
    ),
]
Layers = Annotated[
    str,
    typer.Option(
        "--layers",
        metavar="NAME",
        help="What the LoRA changes: attention, or all (feed-forward and convolutions too).",
        rich_help_panel=_LEARNING,
    ),
]
Full = Annotated[
    bool,
    typer.Option("--full", help="Learn all weights of the U-Net instead of a LoRA.", rich_help_panel=_LEARNING),
]
TrainText = Annotated[
    bool,
    typer.Option(
        "--train-text-encoder/--no-train-text-encoder",
        help="Let the text encoder learn too.",
        rich_help_panel=_LEARNING,
    ),
]
TextShare = Annotated[
    float,
    typer.Option(
        "--text-share",
        metavar="SHARE",
        help="The text encoder's part of the learning rate.",
        rich_help_panel=_LEARNING,
    ),
]
Gamma = Annotated[
    float | None,
    typer.Option(
        "--snr-gamma",
        metavar="GAMMA",
        help="Min-SNR weighting of the timesteps, usually 5 (default: all weigh the same).",
        rich_help_panel=_LEARNING,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="SEED", help="Of everything that is random.", rich_help_panel=_LEARNING)
]
Prior = Annotated[
    bool,
    typer.Option("--prior/--no-prior", help="Keep the class as the model draws it now.", rich_help_panel=_CLASS),
]
ClassPictures = Annotated[
    int,
    typer.Option(
        "--class-pictures",
        metavar="N",
        help="Pictures of the class, which the model draws before it learns.",
        rich_help_panel=_CLASS,
    ),
]
PriorWeight = Annotated[
    float, typer.Option("--prior-weight", metavar="W", help="Weight of their loss.", rich_help_panel=_CLASS)
]
SamplePrompts = Annotated[
    list[str] | None,
    typer.Option(
        "--sample-prompt",
        metavar="TEXT",
        help="A picture to draw while it learns, with {token} and {class}; may be given again.",
        rich_help_panel=_WATCHING,
    ),
]
SampleEvery = Annotated[
    int,
    typer.Option("--sample-every", metavar="N", help="Steps between samples; 0 draws none.", rich_help_panel=_WATCHING),
]
CheckpointEvery = Annotated[
    int,
    typer.Option("--checkpoint-every", metavar="N", help="Steps between checkpoints.", rich_help_panel=_WATCHING),
]
Checkpointing = Annotated[
    bool,
    typer.Option("--gradient-checkpointing", help="Less memory, more time.", rich_help_panel=_RUN),
]
DType = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="auto, float32 or bfloat16 (auto: bfloat16 on CUDA that has it, else float32).",
        rich_help_panel=_RUN,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="DIR",
        help="Where to write (default: a new folder dreambooth-DATE-TIME).",
        rich_help_panel=_RUN,
    ),
]
Trained = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a training.", show_default=False)]
TrainedPrompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT", help="What the pictures show, with the token in it; several rows.", show_default=False
    ),
]
LoraWeight = Annotated[
    float,
    typer.Option("--lora-weight", metavar="W", help="How much of the LoRA.", rich_help_panel="Model"),
]


@dreambooth.command("train")
def train(
    pictures: Pictures,
    class_noun: ClassNoun,
    token: Token = "sks",
    prompt: Caption = "a {token} {class}",
    size: Size = None,
    model: o.Model = None,
    model_config: o.ModelConfig = None,
    variant: o.Variant = None,
    steps: LearningSteps = 400,
    batch: Batch = 1,
    learning_rate: Rate = None,
    rank: Rank = 8,
    alpha: Alpha = None,
    layers: Layers = "attention",
    full: Full = False,
    train_text_encoder: TrainText = False,
    text_share: TextShare = 1.0,
    snr_gamma: Gamma = None,
    seed: Seed = 0,
    prior: Prior = True,
    class_pictures: ClassPictures = 100,
    prior_weight: PriorWeight = 1.0,
    sample_prompt: SamplePrompts = None,
    sample_every: SampleEvery = 100,
    checkpoint_every: CheckpointEvery = 100,
    gradient_checkpointing: Checkpointing = False,
    dtype: DType = "auto",
    device: o.Device = "auto",
    threads: o.Threads = None,
    output: Output = None,
) -> None:
    """Teach a model one subject (DreamBooth): "a sks cat" becomes the cat in the pictures.

    An interrupted training goes on if the same command is given again with the same --output, to the same weights.
    """
    values = locals()
    from freeu.personalize.dreambooth import dreambooth as lesson
    from freeu.personalize.dreambooth.settings import SAMPLES, DreamBooth
    from freeu.pipelines.io.output import dated_folder
    from freeu.wording import counted

    folder: Path = values.pop("output") or dated_folder("dreambooth")
    settings = DreamBooth(
        sample_prompts=tuple(values.pop("sample_prompt") or SAMPLES),
        sample_steps=values.pop("sample_every"),
        checkpoint_steps=values.pop("checkpoint_every"),
        most_snr=values.pop("snr_gamma"),
        **values,
    )
    try:
        taught = lesson.train(settings, folder, _watch())
    except KeyboardInterrupt:
        raise stopped(folder) from None
    subject = f"{token} {class_noun}"
    print(f'taught "{subject}" in {counted(taught.steps, "step")}: {folder}')
    for name, purpose in taught.files:
        print(f"  {folder / name}  {purpose}")
    print(f'draw it: freeu dreambooth generate {folder} "a {subject}"')


def _watch() -> Any:
    """What shows on the terminal how a training goes on."""
    from freeu.cli.progress import Bar, LearningBar
    from freeu.personalize.dreambooth.dreambooth import Watch

    class Terminal(Watch):
        def say(self, text: str) -> None:
            print(text, flush=True)

        def drawing(self, plan: Any) -> AbstractContextManager[Any]:
            return _drawing(plan, Bar(plan))

        def learning(self, steps: int) -> AbstractContextManager[Any]:
            return LearningBar(steps)

    return Terminal()


@contextmanager
def _drawing(plan: Any, bar: Any) -> Iterator[Any]:
    more = f" and {len(plan.prompts) - 1} more" if len(plan.prompts) > 1 else ""
    print(f'{plan.count} pictures of "{plan.prompts[0]}"{more}, drawn by {plan.model.name} as it is', flush=True)
    with bar:
        yield bar


@dreambooth.command("generate")
def generate(
    folder: Trained,
    prompts: TrainedPrompts = None,
    prompts_from: o.PromptsFrom = None,
    seeds: o.Seeds = "0",
    lora_weight: LoraWeight = 1.0,
    model: o.Model = None,
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
    """Draw what a training taught, without and with FreeU: as ``freeu compare``, with the subject in the model.

    An interrupted run goes on if the same command is given again with the same --output.
    """
    values = locals()
    from freeu.cli.commands.compare import make
    from freeu.personalize.dreambooth.subjects import find_subject

    subject = find_subject(values.pop("folder"), values.pop("lora_weight"), model)
    values |= {"model": subject.model, "variant": variant or subject.variant, "loras": subject.loras}
    values["model_config"] = model_config or subject.model_config
    make("compare", values, say=subject.notes, words=[subject.token])

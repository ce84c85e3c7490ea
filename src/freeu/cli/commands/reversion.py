"""``freeu reversion``: learn a word for a relation from pictures, and draw it without and with FreeU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli import options as o
from freeu.cli.errors import stopped
from freeu.errors import FreeUValueError

reversion = typer.Typer(
    help='Learn a word for a relation, such as <R> in "cat <R> box", from pictures that show it.',
    no_args_is_help=True,
)

_LEARNING = "Learning"
Exemplars = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="Pictures that show the relation, with captions (captions.jsonl, text.json or a .txt beside each).",
        show_default=False,
    ),
]
Token = Annotated[str, typer.Option("--token", metavar="WORD", help="The new word for the relation.")]
StartWord = Annotated[
    str,
    typer.Option("--start-word", metavar="WORDS", help="What the new word means at first.", rich_help_panel=_LEARNING),
]
TrainSteps = Annotated[
    int, typer.Option("--steps", metavar="N", help="Steps of the training.", rich_help_panel=_LEARNING)
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="Pictures in a step.", rich_help_panel=_LEARNING)]
Rate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        metavar="RATE",
        help="Of AdamW, constant (default: 0.05 of the root mean square of the start word's embedding).",
        rich_help_panel=_LEARNING,
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of the training.", rich_help_panel=_LEARNING)]
SteeringWeight = Annotated[
    float | None,
    typer.Option(
        "--steering-weight",
        metavar="WEIGHT",
        help="Of the loss that draws the word towards prepositions; 0 leaves it out (default: 0.01).",
        rich_help_panel=_LEARNING,
    ),
]
Positives = Annotated[
    int,
    typer.Option(
        "--positives", metavar="N", help="Prepositions drawn for each picture of a step.", rich_help_panel=_LEARNING
    ),
]
LeaveOut = Annotated[
    str,
    typer.Option(
        "--leave-out",
        metavar="WORDS",
        help="Prepositions, with commas, that are never drawn, such as those that name the relation.",
        rich_help_panel=_LEARNING,
    ),
]
Importance = Annotated[
    float | None,
    typer.Option(
        "--importance",
        metavar="0..1",
        help="How much more often noisy timesteps come up; 0 takes all alike (default: 0.5).",
        rich_help_panel=_LEARNING,
    ),
]
Plain = Annotated[
    bool,
    typer.Option(
        "--plain", help="Textual inversion alone: no steering, all timesteps alike.", rich_help_panel=_LEARNING
    ),
]
SampleEvery = Annotated[
    int,
    typer.Option(
        "--sample-every",
        metavar="N",
        help="Steps between samples; 0 draws none.",
        rich_help_panel="Samples",
    ),
]
SamplePrompts = Annotated[
    list[str] | None,
    typer.Option(
        "--sample-prompt",
        metavar="TEXT",
        help="What to draw; may be given again (default: the captions of four pictures).",
        rich_help_panel="Samples",
    ),
]
TrainOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="DIR",
        help="Where to write (default: a new folder freeu-reversion-DATE-TIME).",
        rich_help_panel="Running",
    ),
]
TrainDType = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="Of the arithmetic: float32 or bfloat16; what is learnt is float32.",
        rich_help_panel="Running",
    ),
]
Learnt = Annotated[
    Path, typer.Argument(metavar="DIR", help="The folder that freeu reversion train wrote.", show_default=False)
]


@reversion.command("train")
def train(
    exemplars: Exemplars,
    token: Token = "<R>",
    start_word: StartWord = "and",
    steps: TrainSteps = 200,
    batch: Batch = 4,
    learning_rate: Rate = None,
    seed: Seed = 0,
    steering_weight: SteeringWeight = None,
    positives: Positives = 4,
    leave_out: LeaveOut = "",
    importance: Importance = None,
    plain: Plain = False,
    sample_every: SampleEvery = 100,
    sample_prompt: SamplePrompts = None,
    model: o.Model = None,
    model_config: o.ModelConfig = None,
    variant: o.Variant = None,
    dtype: TrainDType = "float32",
    device: o.Device = "auto",
    threads: o.Threads = None,
    output: TrainOutput = None,
) -> None:
    """Learn one word for what pictures have in common: how their objects stand to each other (ReVersion).

    Writes learned_embeds.safetensors, training.json and samples. A training that was interrupted goes on, to the same
    bits, if the same command is given again with the same --output; with more --steps it is made longer.
    """
    from freeu.extras import need_diffusers
    from freeu.personalize.reversion.exemplars import read_exemplars
    from freeu.personalize.reversion.reversion import DTYPES, EMBEDDING, KIND, SAMPLES, Settings
    from freeu.personalize.training.record import RECORD, refuse_other_files
    from freeu.pipelines.io.output import dated_folder
    from freeu.pipelines.models.addons.embedding_files import check_token
    from freeu.wording import counted

    if plain and (steering_weight is not None or importance is not None or leave_out):
        raise FreeUValueError("--plain leaves steering and importance out: give it alone, or not at all")
    settings = Settings(
        token=token,
        start_word=start_word,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        steering_weight=Settings.steering_weight if steering_weight is None else steering_weight,
        positives=positives,
        left_out=tuple(dict.fromkeys(word.strip() for word in leave_out.split(",") if word.strip())),
        importance=Settings.importance if importance is None else importance,
        dtype=dtype,
    )
    settings = settings.plain() if plain else settings
    check_token(token)
    _check_numbers(settings, sample_every, threads)
    if dtype not in DTYPES:
        raise FreeUValueError(f"--dtype must be float32 or bfloat16 (float16 loses small gradients), got {dtype!r}")
    folder = output or dated_folder("freeu-reversion")
    refuse_other_files(folder, KIND)
    need_diffusers()
    found = read_exemplars(exemplars, token)
    prompts = tuple(sample_prompt or [one.captions[0] for one in found[:4]])
    inversion = _prepared(
        found,
        settings,
        sample_every,
        folder,
        prompts=prompts,
        model=model,
        model_config=model_config,
        variant=variant,
        dtype="float32",
        device=device,
        threads=threads,
    )
    learning = f"learning {token} from {counted(len(found), 'picture')} with {inversion.plan.model.name}"
    print(f"{learning}: {counted(settings.steps, 'step')}")
    sys.stdout.flush()
    _run(inversion, settings.steps, folder)
    print(f"wrote {token} to {folder}")
    print(f"  {folder / EMBEDDING}  for freeu (--embedding), diffusers, ComfyUI and A1111")
    print(f"  {folder / RECORD}  settings and losses")
    if sample_every:
        print(f"  {folder / SAMPLES}  {'; '.join(prompts)}")
    print(f'draw it: freeu reversion generate {folder} "{prompts[0]}"')


def _prepared(found: Any, settings: Any, sample_every: int, folder: Path, **values: Any) -> Any:
    """The training, with its model loaded."""
    from freeu.personalize.reversion.reversion import Inversion
    from freeu.pipelines.models.sources.sources import find_model
    from freeu.pipelines.runs.request import Request, prepare

    request = Request(command="generate", prompts_from=None, seeds="0", freeu=None, **values)
    prepared = prepare(request, find_model(request.model))
    return Inversion(prepared.loaded, prepared.plan, found, settings, folder, sample_every)


def _run(inversion: Any, steps: int, folder: Path) -> None:
    """Train with a bar."""
    from freeu.cli.progress import LearningBar

    if inversion.resume():
        print(f"going on after {inversion.step} steps of an earlier run", file=sys.stderr)
    try:
        with LearningBar(steps) as bar:
            inversion.go(bar)
    except KeyboardInterrupt:
        raise stopped(folder, f"after {inversion.step} of {steps} steps") from None


def _check_numbers(settings: Any, sample_every: int, threads: int | None) -> None:
    from freeu.pipelines.runs.request import check_range

    for option, value, low, high in (
        ("--steps", settings.steps, 1, 1_000_000),
        ("--batch", settings.batch, 1, 1_024),
        ("--learning-rate", settings.learning_rate, 1e-9, 10.0),
        ("--seed", settings.seed, 0, 2**32 - 1),
        ("--steering-weight", settings.steering_weight, 0.0, 1_000.0),
        ("--positives", settings.positives, 1, 1_000),
        ("--importance", settings.importance, 0.0, 1.0),
        ("--sample-every", sample_every, 0, 1_000_000),
        ("--threads", threads, 1, 4_096),
    ):
        check_range(option, value, low, high)


@reversion.command("generate")
def generate(
    folder: Learnt,
    prompts: o.Prompts = None,
    prompts_from: o.PromptsFrom = None,
    seeds: o.Seeds = "0",
    model: o.Model = None,
    model_config: o.ModelConfig = None,
    variant: o.Variant = None,
    lora: o.Loras = None,
    fuse_lora: o.FuseLora = False,
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
    image: o.Image = None,
    mask: o.Mask = None,
    image_strength: o.ImageStrength = None,
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
    """Draw the learnt word with other nouns, without and with FreeU, as freeu compare does.

    The model is the one that the word was learnt with, unless --model names another.
    """
    values = locals()
    from freeu.cli.commands.compare import make
    from freeu.personalize.reversion.reversion import find_learnt
    from freeu.pipelines.io.prompts import collect_prompts
    from freeu.pipelines.models.addons.add_ons import find_embedding, parse_loras

    learnt = find_learnt(values.pop("folder"))
    for prompt in collect_prompts(prompts or (), prompts_from):
        if learnt.token not in prompt:
            raise FreeUValueError(
                f'the prompt {prompt!r} lacks the learnt word: write it, as in "cat {learnt.token} box"'
            )
    if model is None:
        values |= {"model": learnt.model, "variant": variant or learnt.variant}
        values["model_config"] = model_config or learnt.model_config
    values |= {
        "loras": parse_loras(values.pop("lora")),
        "fuse_loras": values.pop("fuse_lora"),
        "embeddings": (find_embedding(learnt.path, learnt.token),),
    }
    make("compare", values, say=learnt.notes)

"""``freeu reversion``: learn a word for a relation from images, and generate it without and with FreeU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli.bundles import Group, Only, Without, command
from freeu.cli.errors import stopped
from freeu.cli.shell import loading, say, tell, written
from freeu.errors import FreeUValueError
from freeu.personalize.reversion.settings import Settings
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.option import check_bounds, check_range, given_flags
from freeu.pipelines.options.run import RunOptions, ShellOptions
from freeu.pipelines.options.sampling import ImageInput, PromptOptions, SamplingOptions

reversion = typer.Typer(
    name="reversion",
    cls=Group,
    help='ReVersion: learn a word for a relation, such as <R> in "cat <R> box", from images that show it.',
    no_args_is_help=True,
)


@command(reversion, "train")
def train(
    exemplars: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Images that show the relation, with captions (captions.jsonl, text.json or a .txt beside each).",
            show_default=False,
        ),
    ],
    settings: Settings,
    model: Annotated[ModelOptions, Only("model", "model_config", "variant")],
    run: Annotated[RunOptions, Without("dtype", "offload", "vae_tiling", "attention_slicing")],
    shell: Annotated[ShellOptions, Without("open_page")],
    leave_out: Annotated[
        str,
        typer.Option(
            "--leave-out",
            metavar="WORDS",
            help="Prepositions, with commas, that are never sampled, such as those that name the relation.",
            rich_help_panel="Training",
        ),
    ] = "",
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Textual inversion alone: no steering, all timesteps alike.",
            rich_help_panel="Training",
        ),
    ] = False,
    sample_every: Annotated[
        int,
        typer.Option(
            "--sample-every",
            metavar="N",
            help="Steps between samples; 0 makes none.",
            rich_help_panel="Samples",
        ),
    ] = 100,
    sample_prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--sample-prompt",
            metavar="TEXT",
            help="A prompt to sample; may be given again (default: the captions of four images).",
            rich_help_panel="Samples",
        ),
    ] = None,
) -> None:
    """Learn one word for what images have in common: how their objects stand to each other (ReVersion).

    Writes learned_embeds.safetensors, training.json and samples. An interrupted training goes on, bit for bit, if the
    same command is given again with the same --output; with more --steps it is made longer.
    """
    from freeu.extras import need_diffusers
    from freeu.personalize.reversion.exemplars import read_exemplars
    from freeu.personalize.reversion.reversion import EMBEDDING, KIND, SAMPLES, Inversion
    from freeu.personalize.training.record import RECORD, refuse_other_files
    from freeu.pipelines.models.sources.sources import find_model
    from freeu.pipelines.runs.prepare import prepare
    from freeu.pipelines.runs.request import Request, Sources
    from freeu.wording import counted

    if plain and (leave_out or {"--steering-weight", "--importance"} & set(given_flags(settings))):
        raise FreeUValueError("--plain leaves steering and importance out: give it alone, or not at all")
    words = dict.fromkeys(word.strip() for word in leave_out.split(",") if word.strip())
    settings = replace(settings.plain() if plain else settings, left_out=tuple(words))
    settings.check()
    check_range("--sample-every", sample_every, 0, 1_000_000)
    check_bounds(run)
    with run.folder("freeu-reversion", shell.dry_run) as folder:
        refuse_other_files(folder, KIND)
        need_diffusers()
        found = read_exemplars(exemplars, settings.token)
        samples = sample_prompt or [one.captions[0] for one in found[:4]]
        request = Request("generate", tuple(samples), model=model, run=replace(run, dtype="float32"))
        source = find_model(model.model)
        if shell.dry_run:
            from freeu.cli.dry_run import show

            show(
                {
                    "model": source.label,
                    "token": settings.token,
                    "images": [one.name for one in found],
                    "steps": settings.steps,
                    "folder": str(folder),
                },
                f"model: {source.label}",
                f"a training of {settings.token} on {counted(len(found), 'image')}: {counted(settings.steps, 'step')}",
                f"folder: {folder}",
            )
            return
        loading(source.label)
        prepared = prepare(request, Sources(source))
        inversion = Inversion(prepared.loaded, prepared.plan, found, settings, folder, sample_every)
        summary = f"training {settings.token} on {counted(len(found), 'image')} with {inversion.plan.model.name}"
        say(f"{summary}: {counted(settings.steps, 'step')}")
        _run(inversion, settings.steps, folder)
        say(f"wrote {settings.token} to {folder}")
        say(f"  {folder / EMBEDDING}  for freeu (--embedding), diffusers, ComfyUI and A1111")
        say(f"  {folder / RECORD}  settings and losses")
        if sample_every:
            say(f"  {folder / SAMPLES}  {'; '.join(samples)}")
        say(f'generate it: freeu reversion generate {folder} "{samples[0]}"')
        written(folder, EMBEDDING, RECORD, *([SAMPLES] if sample_every else []))


def _run(inversion: Any, steps: int, folder: Path) -> None:
    """Train with a bar."""
    from freeu.cli.progress import Bar
    from freeu.wording import counted

    if inversion.resume():
        tell(f"resuming after {counted(inversion.step, 'step')} of an earlier run")
    try:
        with Bar("training", steps, "step") as bar:
            inversion.train(bar)
    except KeyboardInterrupt:
        raise stopped(folder, f"after {inversion.step} of {counted(steps, 'step')}") from None


@command(reversion, "generate")
def generate(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The folder that freeu reversion train wrote.", show_default=False),
    ],
    prompts: PromptOptions,
    sampling: SamplingOptions,
    model: Annotated[ModelOptions, Without("embedding")],
    freeu: FreeUOptions,
    image: ImageInput,
    run: RunOptions,
    shell: ShellOptions,
) -> None:
    """Generate images with a learned word and other nouns, without and with FreeU, as freeu compare does.

    The model is the one that the word was learned with, unless --model names another.
    """
    from freeu.cli.terminal import carry_out
    from freeu.personalize.reversion.reversion import find_learned
    from freeu.pipelines.models.addons.add_ons import find_embedding
    from freeu.pipelines.runs.request import Request

    learned = find_learned(folder)
    texts = prompts.collect()
    for prompt in texts:
        if learned.token not in prompt:
            raise FreeUValueError(
                f'the prompt {prompt!r} lacks the token {learned.token}: write it, as in "cat {learned.token} box"'
            )
    if model.model is None:
        model = replace(
            model,
            model=learned.model,
            variant=model.variant or learned.variant,
            model_config=model.model_config or learned.model_config,
        )
    add_ons = replace(model.add_ons(), embeddings=(find_embedding(learned.path, learned.token),))
    request = Request("compare", texts, sampling, model, run, freeu, add_ons, image)
    carry_out(request, note=learned.notes, shell=shell)

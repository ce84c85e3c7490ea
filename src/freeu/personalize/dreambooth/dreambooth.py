"""DreamBooth: teach a model one subject from a few images (Ruiz et al., CVPR 2023, arXiv:2208.12242).

The model learns that "a sks cat" is the subject (Eq. 1 of the paper), and with prior preservation (section 3.2, Eq. 2)
that "a cat" is still what it drew for these words before. FreeU takes no part in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.personalize.dreambooth.identifier import check_rare
from freeu.personalize.dreambooth.settings import LEAST, MOST, WHY, DreamBooth
from freeu.personalize.training import drawing
from freeu.personalize.training.denoising import Conditions, Denoiser
from freeu.personalize.training.examples import Example, encode, pictures_sha, read_examples, squared
from freeu.personalize.training.lora import DIFFUSERS_FILE, add_lora, kohya_file, save_lora, trained_parts
from freeu.personalize.training.record import RECORD, SCHEMA, claim, refuse_other_files
from freeu.personalize.training.training import AtStep, Pace, Training, generator_of, mean_losses, turn
from freeu.pipelines.io.inputs import check_side
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import Loaded, load, pick_device
from freeu.pipelines.models.sources.sources import ModelSource, find_model
from freeu.pipelines.runs.manifest import as_json, environment
from freeu.pipelines.runs.plan import ModelReference, Plan
from freeu.pipelines.runs.run import Progress, Silent, deterministic

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

KIND = "freeu-dreambooth"
SAMPLES_FOLDER, CLASS_FOLDER, MODEL_FOLDER = "samples", "class-pictures", "model"
LORA_RATE, FULL_RATE = 1e-4, 5e-6
"""Learning rates for Stable Diffusion, as in the examples of diffusers."""
LossesOf = Callable[[int], "dict[str, Tensor]"]
WIDTH = 320
"""Of Stable Diffusion's first level."""


class Watch:
    """Is told how a training goes on; this one shows nothing."""

    def say(self, text: str) -> None:
        """Something is being done, or was done."""

    def drawing(self, plan: Plan) -> AbstractContextManager[Progress]:
        """The images of the class are about to be generated."""
        return contextlib.nullcontext(Silent())

    def learning(self, steps: int) -> AbstractContextManager[AtStep]:
        """The training is about to begin."""
        return contextlib.nullcontext(lambda step, losses: None)


@dataclass(frozen=True)
class Taught:
    """What a training left.

    Args:
        folder: of the training.
        steps: that were made, over all sittings.
        files: worth knowing, each with what it is for.
    """

    folder: Path
    steps: int
    files: tuple[tuple[str, str], ...]


def learning_rate(settings: DreamBooth, width: int) -> float:
    """The learning rate that is asked for, or the usual one of Stable Diffusion carried over to a narrower U-Net.

    With Adam the best rate is inversely proportional to the width (Yang et al., arXiv:2203.03466, table 3).

    Args:
        width: channels of the U-Net's first level; 320 in Stable Diffusion.
    """
    if settings.learning_rate is not None:
        return settings.learning_rate
    return (FULL_RATE if settings.full else LORA_RATE) * WIDTH / width


def check_training(settings: DreamBooth, folder: Path) -> tuple[tuple[Example, ...], ModelSource]:
    """Everything that can be wrong without loading a model; nothing is written.

    Returns:
        the images, and where the model is.

    Raises:
        FreeUValueError: the first thing that is wrong, with its value and the fix.
    """
    from freeu.extras import need, need_diffusers

    settings.check()
    need_diffusers()
    if not settings.full:
        need("personalize", "peft")
    refuse_other_files(folder, KIND)
    examples = read_examples(settings.pictures, LEAST, MOST, WHY)
    source = find_model(settings.model)
    if not source.whole:
        raise FreeUValueError(f"{source.label} is a U-Net alone: give the directory of its whole pipeline")
    return examples, source


def train(settings: DreamBooth, folder: Path, watch: Watch | None = None) -> Taught:
    """Teach a model a subject; an interrupted training goes on with the same call, to the same weights.

    Args:
        settings: see ``DreamBooth``.
        folder: new, or that of the same training: it receives ``training.json``, the LoRA in two layouts (or, with
            ``full``, the folder ``model``), ``samples``, ``class-pictures`` and ``checkpoint``.
        watch: told how it goes on.

    Raises:
        FreeUValueError: bad input, or a folder that holds something else.
        FreeURuntimeError: a loss is no longer a number, too little memory, or a full disk.
        KeyboardInterrupt: stopped; what was learned is kept.
    """
    import torch

    watch = watch or Watch()
    examples, source = check_training(settings, folder)
    device = pick_device(settings.device)
    lesson = _Lesson(settings, examples, source, device)
    output = OutputFolder(folder)
    claim(output, lesson.record())
    threads = settings.threads or torch.get_num_threads()
    with deterministic(device, threads):
        return lesson.teach(output, watch, threads)


class _Lesson:
    """The model, loaded, and what it is to learn."""

    def __init__(self, settings: DreamBooth, examples: Sequence[Example], source: ModelSource, device: str) -> None:
        self.settings, self.device = settings, device
        self.dtype = _arithmetic(settings.dtype, device)
        # All weights in float32 if all are learned: updates are too small for bfloat16.
        self.stored = "float32" if settings.full or device == "cpu" else self.dtype
        self.loaded: Loaded = load(
            source, dtype=self.stored, device=device, variant=settings.variant, model_config=settings.model_config
        )
        pipe = self.pipe = self.loaded.pipe
        self.denoiser = Denoiser(pipe, settings.most_snr, self.dtype)
        check_rare(settings.token, [pipe.tokenizer, *filter(None, [getattr(pipe, "tokenizer_2", None)])])
        self.side = settings.size or self.loaded.native
        check_side("--size", self.side, self.loaded.multiple)
        self.pictures = [squared(example.picture, self.side) for example in examples]
        self.names = [example.name for example in examples]
        self.captions = settings.captions(examples)
        self.class_prompts = settings.class_prompts(self.captions)
        self.model: ModelReference = drawing.reference_of(self.loaded, settings.variant, settings.model_config)
        self.rate = learning_rate(settings, int(pipe.unet.config.block_out_channels[0]))

    def identity(self) -> dict[str, Any]:
        """What decides the weights, besides the pace and the seed."""
        settings = self.settings
        lora = {"rank": settings.rank, "alpha": settings.alpha or settings.rank, "layers": settings.layers}
        prior = {"pictures": settings.class_pictures, "weight": settings.prior_weight}
        return {
            "pictures": pictures_sha(self.pictures),
            "size": self.side,
            "captions": self.captions,
            "model": self.model.fingerprint,
            "learns": "all weights" if settings.full else lora,
            "text encoder": settings.text_share if settings.train_text_encoder else False,
            "prior": prior if settings.prior else None,
            "batch": settings.batch,
            "snr gamma": settings.most_snr,
            "dtype": self.dtype,
        }

    def record(self) -> dict[str, Any]:
        """What ``training.json`` says from the beginning."""
        settings = self.settings
        return {
            "kind": KIND,
            "token": settings.token,
            "class_noun": settings.class_noun,
            "full": settings.full,
            "model": asdict(self.model),
            "pictures": self.names,
            "learning_rate": self.rate,
            "seed": settings.seed,
            "identity": self.identity(),
            "environment": environment(self.device),
        }

    def teach(self, output: OutputFolder, watch: Watch, threads: int) -> Taught:
        """Learn it, and write what was learned."""
        import torch

        settings = self.settings
        arithmetic = {"dtype": self.stored, "device": self.device, "threads": threads}
        pictures, texts = list(self.pictures), list(self.captions)
        if settings.prior:
            prompts = self.class_prompts
            each = -(-settings.class_pictures // len(prompts))
            seeds = range(drawing.CLASS_SEED, drawing.CLASS_SEED + each)
            plan = drawing.plain_plan(self.loaded, self.model, prompts, seeds, self.side, **arithmetic)
            with watch.drawing(plan) as progress:
                drawn = drawing.class_pictures(self.loaded, plan, OutputFolder(output.path / CLASS_FOLDER), progress)
            pictures += [picture for _, picture in drawn]
            texts += [prompts[number] for number, _ in drawn]
        with self.denoiser.arithmetic():
            latents = encode(self.pipe.vae, pictures)
        training = Training(
            self._learnt(),
            self._losses(latents, texts),
            Pace(settings.steps, self.rate, checkpoint_steps=settings.checkpoint_steps),
            output.path,
            self.identity(),
            seed=settings.seed,
            share=lambda name: 1.0 if name.startswith("unet.") else settings.text_share,
        )
        if training.resume():
            watch.say(f"going on after step {training.step}")
        prompts = [settings.filled(prompt) for prompt in settings.samples]
        samples = OutputFolder(output.path / SAMPLES_FOLDER)
        plan = drawing.plain_plan(self.loaded, self.model, prompts, [settings.seed], self.side, **arithmetic)
        with watch.learning(settings.steps) as told:

            def at_step(step: int, losses: Mapping[str, float]) -> None:
                told(step, losses)
                due = settings.sample_steps and (step % settings.sample_steps == 0 or step == settings.steps)
                name = f"step-{step:06d}.png"
                if due and prompts and not (samples.path / name).exists():
                    with self._at_rest(), self.denoiser.arithmetic():
                        samples.write(name, drawing.sample_sheet(self.loaded, plan, f"after {step} steps"))

            self._mode(training=True)
            try:
                training.go(at_step)
            except torch.OutOfMemoryError:
                raise FreeURuntimeError(
                    f"out of memory at {self.side}x{self.side} with batch {settings.batch} in {self.dtype}: use "
                    "--gradient-checkpointing, a smaller --size or --batch, or --dtype bfloat16"
                ) from None
            self._mode(training=False)
        return self._finish(output, training)

    def _learnt(self) -> dict[str, Parameter]:
        """The parameters that learn, by name."""
        settings, pipe = self.settings, self.pipe
        if settings.gradient_checkpointing:
            for _, module in trained_parts(pipe, settings.train_text_encoder):
                enable = getattr(module, "enable_gradient_checkpointing", None) or module.gradient_checkpointing_enable
                enable()
        if not settings.full:
            return add_lora(
                pipe, settings.rank, settings.alpha, settings.layers, settings.train_text_encoder, settings.seed
            )
        for part in ("text_encoder", "text_encoder_2", "vae"):
            if getattr(pipe, part, None) is not None:
                getattr(pipe, part).requires_grad_(False)
        found: dict[str, Parameter] = {}
        for part, module in trained_parts(pipe, settings.train_text_encoder):
            module.requires_grad_(True)
            found |= {f"{part}.{name}": value for name, value in module.named_parameters()}
        return found

    def _losses(self, latents: Tensor, texts: Sequence[str]) -> LossesOf:
        """The losses of a step: Eq. 2 of the paper, its two parts by name.

        Args:
            latents: of the subject's images, then of those of the class.
            texts: the caption of each.
        """
        import torch

        settings, denoiser = self.settings, self.denoiser
        own, batch = len(self.pictures), settings.batch
        prompts = list(dict.fromkeys(texts))
        numbers = [prompts.index(text) for text in texts]
        fixed: Conditions | None = None
        if not settings.train_text_encoder:
            with torch.no_grad(), denoiser.arithmetic():
                fixed = denoiser.conditions(prompts)

        def conditions(rows: Sequence[int]) -> Conditions:
            if fixed is not None:
                return fixed.rows([numbers[row] for row in rows])
            here = sorted({numbers[row] for row in rows})
            found = denoiser.conditions([prompts[number] for number in here])
            return found.rows([here.index(numbers[row]) for row in rows])

        def losses(step: int) -> dict[str, Tensor]:
            rows = turn(settings.seed, own, batch, step)
            if settings.prior:
                rows += [own + row for row in turn(settings.seed, len(latents) - own, batch, step)]
            with denoiser.arithmetic():
                chance = generator_of(settings.seed, "noise", step)
                errors = denoiser.error(latents[rows], conditions(rows), chance)
            found = {"subject": errors[:batch].mean()}
            if settings.prior:
                found["prior"] = settings.prior_weight * errors[batch:].mean()
            return found

        return losses

    def _mode(self, training: bool) -> None:
        for _, module in trained_parts(self.pipe, self.settings.train_text_encoder):
            module.train(training)

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Images are generated in evaluation mode."""
        self._mode(training=False)
        try:
            yield
        finally:
            self._mode(training=True)

    def _finish(self, output: OutputFolder, training: Training) -> Taught:
        """Write what was learned."""
        settings = self.settings
        files: list[tuple[str, str]] = []
        if settings.full:
            self._save_model(output.path / MODEL_FOLDER)
            files.append((MODEL_FOLDER, "the whole model, for --model and for from_pretrained of diffusers"))
        else:
            name = f"{_file_name(settings.token)}-{_file_name(settings.class_noun)}"
            save_lora(self.pipe, output, name, settings.train_text_encoder)
            files.append((DIFFUSERS_FILE, "the LoRA for --lora and for load_lora_weights of diffusers"))
            other = kohya_file(output.path, name).name
            files.append((other, "the same for ComfyUI, AUTOMATIC1111 and Forge (kohya's names)"))
        if settings.sample_steps and settings.samples:
            files.append((SAMPLES_FOLDER, "the same prompts and seed while it learned"))
        record = {
            **self.record(),
            "schema": SCHEMA,
            "steps": training.step,
            "seconds": round(training.seconds, 1),
            "losses": mean_losses(training.losses),
        }
        output.write(RECORD, as_json(record))
        files.append((RECORD, "settings, images and losses"))
        return Taught(output.path, training.step, tuple(files))

    def _save_model(self, target: Path) -> None:
        """A diffusers directory, whole or not at all; what the embedded model says of its world goes along."""
        new = target.with_name(f".{target.name}.{os.getpid()}.part")
        shutil.rmtree(new, ignore_errors=True)
        try:
            self.pipe.save_pretrained(new)
            world = self.loaded.source.path
            if world is not None and (world / "freeu-zoo.json").is_file():
                shutil.copy(world / "freeu-zoo.json", new / "freeu-zoo.json")
            shutil.rmtree(target, ignore_errors=True)
            new.replace(target)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _arithmetic(dtype: str, device: str) -> str:
    """The number format that "auto" means: bfloat16 on CUDA where it is fast, float32 elsewhere."""
    import torch

    if dtype != "auto":
        return dtype
    return "bfloat16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "float32"


def _file_name(word: str) -> str:
    """A word as part of a file name."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in word).strip("-")
    return kept or "subject"

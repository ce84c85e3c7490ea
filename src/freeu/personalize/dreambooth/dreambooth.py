"""DreamBooth: train a model on one subject from a few images (Ruiz et al., CVPR 2023, arXiv:2208.12242).

The model learns that "a sks cat" is the subject (Eq. 1 of the paper), and with prior preservation (section 3.2, Eq. 2)
that "a cat" is still what it generated for this prompt before. FreeU is not used during training.
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
from freeu.personalize.training.denoising import Denoiser, PromptEmbeddings
from freeu.personalize.training.examples import Example, encode, images_sha, read_examples, squared
from freeu.personalize.training.lora import DIFFUSERS_FILE, add_lora, kohya_file, save_lora, trained_parts
from freeu.personalize.training.record import RECORD, SCHEMA, claim, refuse_other_files
from freeu.personalize.training.samples import CLASS_SEED, class_images, plain_plan, sample_sheet
from freeu.personalize.training.training import (
    AtStep,
    OptimizerSettings,
    Training,
    batch_rows,
    generator_of,
    mean_losses,
)
from freeu.pipelines.io.inputs import check_side
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import Loaded, load, pick_device
from freeu.pipelines.models.sources.sources import ModelSource, find_model
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.runs.executors import Progress, Silent
from freeu.pipelines.runs.manifest import as_json, environment
from freeu.pipelines.runs.plan import ModelReference, Plan
from freeu.pipelines.runs.prepare import model_reference
from freeu.pipelines.runs.run import deterministic
from freeu.wording import counted

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

KIND = "freeu-dreambooth"
SAMPLES_FOLDER, CLASS_FOLDER, MODEL_FOLDER = "samples", "class-pictures", "model"
LORA_RATE, FULL_RATE = 1e-4, 5e-6
"""Learning rates for Stable Diffusion, as in the examples of diffusers."""
LossesOf = Callable[[int], "dict[str, Tensor]"]
WIDTH = 320
"""Channels of the first level of Stable Diffusion's U-Net."""


class TrainingProgress:
    """Reports the progress of a training; this base class shows nothing."""

    def loading(self, label: str) -> None:
        """Everything is checked, and the model is about to be loaded."""

    def say(self, text: str) -> None:
        """Show a message."""

    def generating(self, plan: Plan) -> AbstractContextManager[Progress]:
        """The class images are about to be generated."""
        return contextlib.nullcontext(Silent())

    def training(self, steps: int) -> AbstractContextManager[AtStep]:
        """The training is about to begin."""
        return contextlib.nullcontext(lambda step, losses: None)


@dataclass(frozen=True)
class TrainingResult:
    """What a training wrote.

    Args:
        folder: of the training.
        steps: made in total, over all runs.
        files: the results, each with what it is for.
    """

    folder: Path
    steps: int
    files: tuple[tuple[str, str], ...]


def learning_rate(settings: DreamBooth, width: int) -> float:
    """The configured learning rate, or the usual one of Stable Diffusion transferred to the width of the U-Net.

    With Adam the best rate is inversely proportional to the width (Yang et al., arXiv:2203.03466, table 3).

    Args:
        width: channels of the U-Net's first level; 320 in Stable Diffusion.
    """
    if settings.learning_rate is not None:
        return settings.learning_rate
    return (FULL_RATE if settings.full else LORA_RATE) * WIDTH / width


def check_training(settings: DreamBooth, folder: Path) -> tuple[tuple[Example, ...], ModelSource]:
    """Check everything that can be checked without loading a model; nothing is written.

    Returns:
        the training images, and the source of the model.

    Raises:
        FreeUValueError: the first thing that is wrong, with its value and the fix.
    """
    from freeu.extras import need, need_diffusers

    settings.check()
    need_diffusers()
    if not settings.full:
        need("personalize", "peft")
    refuse_other_files(folder, KIND)
    examples = read_examples(settings.images, LEAST, MOST, WHY)
    source = find_model(settings.model)
    if not source.whole:
        raise FreeUValueError(f"{source.label} is a U-Net alone: give the directory of its whole pipeline")
    return examples, source


def train(settings: DreamBooth, folder: Path, progress: TrainingProgress | None = None) -> TrainingResult:
    """Train a model on a subject; the same call resumes an interrupted training, to the same weights.

    Args:
        settings: see ``DreamBooth``.
        folder: new, or that of the same training: it receives ``training.json``, the LoRA in two layouts (or, with
            ``full``, the folder ``model``), ``samples``, ``class-pictures`` and ``checkpoint``.
        progress: is shown how it goes on.

    Raises:
        FreeUValueError: bad input, or a folder that holds something else.
        FreeURuntimeError: a loss is no longer a number, too little memory, or a full disk.
        KeyboardInterrupt: stopped; the checkpoint keeps what was trained.
    """
    examples, source = check_training(settings, folder)
    progress = progress or TrainingProgress()
    progress.loading(source.label)

    import torch

    device = pick_device(settings.device)
    trainer = _Trainer(settings, examples, source, device)
    output = OutputFolder(folder)
    claim(output, trainer.record())
    threads = settings.threads or torch.get_num_threads()
    with deterministic(device, threads):
        return trainer.train(output, progress, threads)


class _Trainer:
    """A loaded model and its training data."""

    def __init__(self, settings: DreamBooth, examples: Sequence[Example], source: ModelSource, device: str) -> None:
        self.settings, self.device = settings, device
        self.dtype = _arithmetic(settings.dtype, device)
        # All weights in float32 if all are trained: updates are too small for bfloat16.
        self.stored = "float32" if settings.full or device == "cpu" else self.dtype
        self.loaded: Loaded = load(
            source, dtype=self.stored, device=device, variant=settings.variant, model_config=settings.model_config
        )
        pipe = self.pipe = self.loaded.pipe
        self.denoiser = Denoiser(pipe, settings.snr_gamma, self.dtype)
        check_rare(settings.token, [pipe.tokenizer, *filter(None, [getattr(pipe, "tokenizer_2", None)])])
        self.side = settings.size or self.loaded.native
        check_side("--size", self.side, self.loaded.multiple)
        self.images = [squared(example.image, self.side) for example in examples]
        self.names = [example.name for example in examples]
        self.captions = settings.captions(examples)
        self.class_prompts = settings.class_prompts(self.captions)
        options = ModelOptions(variant=settings.variant, model_config=settings.model_config)
        self.model: ModelReference = model_reference(self.loaded, options)
        self.rate = learning_rate(settings, int(pipe.unet.config.block_out_channels[0]))

    def identity(self) -> dict[str, Any]:
        """What determines the weights, besides the optimizer settings and the seed."""
        settings = self.settings
        lora = {"rank": settings.rank, "alpha": settings.alpha or settings.rank, "layers": settings.layers}
        prior = {"pictures": settings.class_images, "weight": settings.prior_weight}
        return {
            "pictures": images_sha(self.images),
            "size": self.side,
            "captions": self.captions,
            "model": self.model.fingerprint,
            "learns": "all weights" if settings.full else lora,
            "text encoder": settings.text_share if settings.train_text_encoder else False,
            "prior": prior if settings.prior else None,
            "batch": settings.batch,
            "snr gamma": settings.snr_gamma,
            "dtype": self.dtype,
        }

    def record(self) -> dict[str, Any]:
        """What ``training.json`` holds from the start."""
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

    def train(self, output: OutputFolder, progress: TrainingProgress, threads: int) -> TrainingResult:
        """Train, and write the result."""
        import torch

        settings = self.settings
        run_settings = {"dtype": self.stored, "device": self.device, "threads": threads}
        images, texts = list(self.images), list(self.captions)
        if settings.prior:
            prompts = self.class_prompts
            each = -(-settings.class_images // len(prompts))
            seeds = range(CLASS_SEED, CLASS_SEED + each)
            plan = plain_plan(self.loaded, self.model, prompts, seeds, self.side, **run_settings)
            with progress.generating(plan) as bar:
                of_class = class_images(self.loaded, plan, OutputFolder(output.path / CLASS_FOLDER), bar)
            images += [image for _, image in of_class]
            texts += [prompts[number] for number, _ in of_class]
        with self.denoiser.autocast():
            latents = encode(self.pipe.vae, images)
        training = Training(
            self._trainable(),
            self._losses(latents, texts),
            OptimizerSettings(settings.steps, self.rate, checkpoint_steps=settings.checkpoint_steps),
            output.path,
            self.identity(),
            seed=settings.seed,
            share=lambda name: 1.0 if name.startswith("unet.") else settings.text_share,
        )
        if training.resume():
            progress.say(f"resuming after step {training.step}")
        prompts = [settings.filled(prompt) for prompt in settings.samples]
        samples = OutputFolder(output.path / SAMPLES_FOLDER)
        plan = plain_plan(self.loaded, self.model, prompts, [settings.seed], self.side, **run_settings)
        with progress.training(settings.steps) as report:

            def at_step(step: int, losses: Mapping[str, float]) -> None:
                report(step, losses)
                due = settings.sample_steps and (step % settings.sample_steps == 0 or step == settings.steps)
                name = f"step-{step:06d}.png"
                if due and prompts and not (samples.path / name).exists():
                    with self._evaluating(), self.denoiser.autocast():
                        samples.write(name, sample_sheet(self.loaded, plan, f"after {counted(step, 'step')}"))

            self._mode(training=True)
            try:
                training.train(at_step)
            except torch.OutOfMemoryError:
                raise FreeURuntimeError(
                    f"out of memory at {self.side}x{self.side} with batch {settings.batch} in {self.dtype}: use "
                    "--gradient-checkpointing, a smaller --size or --batch, or --dtype bfloat16"
                ) from None
            self._mode(training=False)
        return self._finish(output, training)

    def _trainable(self) -> dict[str, Parameter]:
        """The trained parameters, by name."""
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
        """The losses of a step: the two parts of Eq. 2 of the paper, by name.

        Args:
            latents: of the subject's images, then of the class images.
            texts: the caption of each.
        """
        import torch

        settings, denoiser = self.settings, self.denoiser
        own, batch = len(self.images), settings.batch
        prompts = list(dict.fromkeys(texts))
        numbers = [prompts.index(text) for text in texts]
        fixed: PromptEmbeddings | None = None
        if not settings.train_text_encoder:
            with torch.no_grad(), denoiser.autocast():
                fixed = denoiser.encode_prompts(prompts)

        def embeddings(rows: Sequence[int]) -> PromptEmbeddings:
            if fixed is not None:
                return fixed.rows([numbers[row] for row in rows])
            here = sorted({numbers[row] for row in rows})
            found = denoiser.encode_prompts([prompts[number] for number in here])
            return found.rows([here.index(numbers[row]) for row in rows])

        def losses(step: int) -> dict[str, Tensor]:
            rows = batch_rows(settings.seed, own, batch, step)
            if settings.prior:
                rows += [own + row for row in batch_rows(settings.seed, len(latents) - own, batch, step)]
            with denoiser.autocast():
                chance = generator_of(settings.seed, "noise", step)
                errors = denoiser.loss(latents[rows], embeddings(rows), chance)
            found = {"subject": errors[:batch].mean()}
            if settings.prior:
                found["prior"] = settings.prior_weight * errors[batch:].mean()
            return found

        return losses

    def _mode(self, training: bool) -> None:
        for _, module in trained_parts(self.pipe, self.settings.train_text_encoder):
            module.train(training)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode, in which images are generated, for a ``with`` block."""
        self._mode(training=False)
        try:
            yield
        finally:
            self._mode(training=True)

    def _finish(self, output: OutputFolder, training: Training) -> TrainingResult:
        """Write the result."""
        settings = self.settings
        files: list[tuple[str, str]] = []
        if settings.full:
            self._save_model(output.path / MODEL_FOLDER)
            files.append((MODEL_FOLDER, "the whole model, for --model and for diffusers' from_pretrained"))
        else:
            name = f"{_file_name(settings.token)}-{_file_name(settings.class_noun)}"
            save_lora(self.pipe, output, name, settings.train_text_encoder)
            files.append((DIFFUSERS_FILE, "the LoRA for --lora and for diffusers' load_lora_weights"))
            other = kohya_file(output.path, name).name
            files.append((other, "the same for ComfyUI, AUTOMATIC1111 and Forge (kohya's names)"))
        if settings.sample_steps and settings.samples:
            files.append((SAMPLES_FOLDER, "the same prompts and seed during the training"))
        record = {
            **self.record(),
            "schema": SCHEMA,
            "steps": training.step,
            "seconds": round(training.seconds, 1),
            "losses": mean_losses(training.losses),
        }
        output.write(RECORD, as_json(record))
        files.append((RECORD, "settings, images and losses"))
        return TrainingResult(output.path, training.step, tuple(files))

    def _save_model(self, target: Path) -> None:
        """Write a diffusers directory atomically; the embedded model's ``freeu-zoo.json`` is copied into it."""
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
    """The dtype that "auto" means: bfloat16 on CUDA where it is fast, float32 elsewhere."""
    import torch

    if dtype != "auto":
        return dtype
    return "bfloat16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "float32"


def _file_name(word: str) -> str:
    """A word as part of a file name."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in word).strip("-")
    return kept or "subject"

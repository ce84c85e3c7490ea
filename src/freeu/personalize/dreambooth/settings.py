"""Settings of a DreamBooth training, and the checks that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from freeu.errors import FreeUValueError
from freeu.personalize.dreambooth.identifier import check_identifier
from freeu.personalize.training.examples import Example
from freeu.personalize.training.lora import LAYERS, check_rank
from freeu.pipelines.io.inputs import MAX_SMALL_SEED, check_side
from freeu.pipelines.options.option import Argument, Option, check_bounds, check_range

LEAST, MOST = 3, 100
"""Number of training images; the paper uses 3 to 5 (section 3), trainings of persons and styles some dozens."""
WHY = (
    "from fewer, DreamBooth learns the image rather than its subject (the paper uses 3 to 5); more are a data set "
    "for plain fine-tuning"
)
TOKEN, CLASS = "{token}", "{class}"
PROMPT = f"a {TOKEN} {CLASS}"
"""As in the paper, section 3.1: "a [identifier] [class noun]"."""
SAMPLES = (
    f"a {TOKEN} {CLASS}",
    f"a {TOKEN} {CLASS} on a blue background",
    f"a {TOKEN} {CLASS} on a red background",
    f"a {CLASS} on a blue background",
)
"""Prompts of the samples during the training; the last one shows the class."""
_SUBJECT, _CLASS, _SAMPLES = "Subject", "Class", "Samples and checkpoints"

DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class DreamBooth:
    """A training (Ruiz et al., CVPR 2023, arXiv:2208.12242).

    Args:
        images: folder with images of one subject.
        token: the rare word for the subject.
        class_noun: what kind of thing the subject is.
        prompt: the caption of every image without one of its own, with ``{token}`` and ``{class}`` in it. Without the
            token, captions are the prompts of the class images.
        model, model_config, variant: as in ``request.Request``.
        steps: of the optimizer.
        batch: images of the subject in a step, and as many of the class.
        learning_rate: None takes ``dreambooth.learning_rate``.
        text_share: learning rate of the text encoders, as a fraction of that of the U-Net.
        seed: of all random numbers.
        full: train all weights of the U-Net instead of a LoRA.
        rank, alpha, layers: of the LoRA, see ``lora.add_lora``.
        train_text_encoder: train the text encoders too.
        prior: keep the class as it is (prior preservation, section 3.2).
        class_images: images of the class, which the model generates before the training; at least so many, the same
            number for each caption.
        prior_weight: of their loss; the paper's lambda.
        snr_gamma: see ``denoising.Denoiser``.
        size: side in pixels to which the images are cropped; None is the model's.
        sample_prompts: with ``{token}`` and ``{class}``; None takes ``SAMPLES``.
        sample_steps: steps between samples; 0 generates none.
        checkpoint_steps: steps between checkpoints.
        gradient_checkpointing: less memory, more time.
        dtype: "auto", "float32" or "bfloat16"; float16 would need loss scaling.
        device, threads: as in ``request.Request``.
    """

    PANEL: ClassVar[str] = "Training"

    images: Annotated[Path, Argument(f"A folder with {LEAST} to {MOST} images of one subject.", "IMAGES")]
    class_noun: Annotated[
        str, Option("What kind of thing the subject is, in a word that the model knows.", "NOUN", panel=_SUBJECT)
    ]
    token: Annotated[str, Option("A rare word that will name the subject.", "WORD", panel=_SUBJECT)] = "sks"
    prompt: Annotated[
        str,
        Option(
            "Caption of the images, with {token} and {class} in it; a text file beside an image (3.txt beside 3.png) "
            "is its own caption.",
            "TEXT",
            panel=_SUBJECT,
        ),
    ] = PROMPT
    size: Annotated[
        int | None,
        Option("Side to which images are cropped and resized (default: the model's).", "PIXELS", panel=_SUBJECT),
    ] = None
    model: str | None = None
    model_config: Path | None = None
    variant: str | None = None
    steps: Annotated[int, Option("Training steps.", "N", bounds=(1, 1_000_000))] = 400
    batch: Annotated[int, Option("Images of the subject in a step, and as many of the class.", "N", bounds=(1, 64))] = 1
    learning_rate: Annotated[
        float | None,
        Option(
            "Learning rate (default: 1e-4 for a LoRA and 5e-6 for all weights in Stable Diffusion, more in narrower "
            "models).",
            "RATE",
            bounds=(1e-9, 1.0),
        ),
    ] = None
    rank: Annotated[int, Option("Rank of the LoRA.", "N")] = 8
    alpha: Annotated[float | None, Option("Alpha of the LoRA, scaled by A / rank (default: the rank).", "A")] = None
    layers: Annotated[
        str, Option("Layers with LoRA: attention, or all (feed-forward and convolutions too).", "NAME")
    ] = "attention"
    full: Annotated[bool, Option("Train all weights of the U-Net instead of a LoRA.")] = False
    train_text_encoder: Annotated[
        bool, Option("Train the text encoder too.", names=("--train-text-encoder/--no-train-text-encoder",))
    ] = False
    text_share: Annotated[
        float, Option("Learning rate of the text encoder over that of the U-Net.", "SHARE", bounds=(0.0, 10.0))
    ] = 1.0
    snr_gamma: Annotated[
        float | None,
        Option(
            "Min-SNR weighting of the timesteps, usually 5 (default: none).",
            "GAMMA",
            bounds=(0.1, 1_000.0),
        ),
    ] = None
    seed: Annotated[int, Option("Seed of the training.", "SEED", bounds=(0, MAX_SMALL_SEED))] = 0
    prior: Annotated[
        bool,
        Option(
            "Prior preservation: keep the class as the model generates it before.",
            names=("--prior/--no-prior",),
            panel=_CLASS,
        ),
    ] = True
    class_images: Annotated[
        int,
        Option(
            "Images of the class, which the model generates before the training.",
            "N",
            old=("--class-pictures",),
            panel=_CLASS,
            bounds=(1, 10_000),
        ),
    ] = 100
    prior_weight: Annotated[
        float, Option("Weight of the prior preservation loss.", "W", panel=_CLASS, bounds=(0.0, 100.0))
    ] = 1.0
    sample_prompts: Annotated[
        list[str] | None,
        Option(
            "Prompt of a sample during the training, with {token} and {class}; may be given again.",
            "TEXT",
            ("--sample-prompt",),
            panel=_SAMPLES,
        ),
    ] = None
    sample_steps: Annotated[
        int,
        Option("Steps between samples; 0 makes none.", "N", ("--sample-every",), panel=_SAMPLES, bounds=(0, 1_000_000)),
    ] = 100
    checkpoint_steps: Annotated[
        int, Option("Steps between checkpoints.", "N", ("--checkpoint-every",), panel=_SAMPLES, bounds=(1, 1_000_000))
    ] = 100
    gradient_checkpointing: Annotated[bool, Option("Less memory, more time.", panel="Running")] = False
    dtype: Annotated[
        str,
        Option(
            "auto, float32 or bfloat16 (auto: bfloat16 on CUDA that has it, else float32).", "TYPE", panel="Running"
        ),
    ] = "auto"
    device: str = "auto"
    threads: int | None = None

    @property
    def samples(self) -> tuple[str, ...]:
        """Prompts of the samples."""
        return SAMPLES if self.sample_prompts is None else tuple(self.sample_prompts)

    def captions(self, examples: Sequence[Example]) -> list[str]:
        """The caption of each image.

        Raises:
            FreeUValueError: one of a text file that lacks the token.
        """
        found = []
        for example in examples:
            text = self.filled(example.caption or self.prompt)
            if self.token.lower() not in text.lower().split():
                raise FreeUValueError(
                    f"the caption of {example.name} lacks the token: write {TOKEN} or {self.token!r}, got {text!r}"
                )
            found.append(text)
        return found

    def class_prompts(self, captions: Sequence[str]) -> list[str]:
        """The captions without the token, each once."""
        word = self.token.lower()
        texts = (" ".join(part for part in text.split() if part.lower() != word) for text in captions)
        return list(dict.fromkeys(texts))

    def filled(self, prompt: str) -> str:
        """A prompt with the two words filled in."""
        return " ".join(prompt.replace(TOKEN, self.token).replace(CLASS, self.class_noun).split())

    def check(self) -> None:
        """Check everything that can be checked without reading an image or a model.

        Raises:
            FreeUValueError: the first thing that is wrong, with its value and the fix.
        """
        check_identifier(self.token, self.class_noun)
        if TOKEN not in self.prompt:
            raise FreeUValueError(f"--prompt must contain {TOKEN}, got {self.prompt!r}")
        if not all(prompt.strip() for prompt in self.samples):
            raise FreeUValueError("--sample-prompt is empty: write what the image should show")
        if self.class_prompts([self.filled(self.prompt)]) == [""]:
            raise FreeUValueError(f"--prompt {self.prompt!r} has only the token: add {CLASS}")
        check_bounds(self)
        check_range("--threads", self.threads, 1, 4_096)
        check_rank(self.rank, self.alpha)
        if self.size is not None:
            check_side("--size", self.size)
        if self.layers not in LAYERS:
            raise FreeUValueError(f"--layers must be {' or '.join(LAYERS)}, got {self.layers!r}")
        if self.dtype not in DTYPES:
            raise FreeUValueError(
                f"--dtype must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {self.dtype!r}"
                + (": float16 would need loss scaling" if self.dtype == "float16" else "")
            )

"""What a DreamBooth training is asked to do, and everything that can be wrong with it before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from freeu.errors import FreeUValueError
from freeu.personalize.dreambooth.identifier import check_identifier
from freeu.personalize.training.examples import Example
from freeu.personalize.training.lora import LAYERS, check_rank
from freeu.pipelines.io.inputs import MAX_SEED, check_side
from freeu.pipelines.runs.request import check_range

LEAST, MOST = 3, 100
"""Pictures of a subject; the paper uses 3 to 5 (section 3), trainers of persons and styles some dozens."""
WHY = (
    "from fewer, DreamBooth learns the picture rather than its subject (the paper takes 3 to 5); more are a data set "
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
"""Prompts of the pictures that are drawn while it learns; the last shows what becomes of the class."""
DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class DreamBooth:
    """A training (Ruiz et al., CVPR 2023, arXiv:2208.12242).

    Args:
        pictures: folder with pictures of one subject.
        token: the rare word that will mean it.
        class_noun: what kind of thing it is.
        prompt: the caption of every picture without one of its own, with ``{token}`` and ``{class}`` in it. Without the
            token, captions are the prompts of the class.
        model, model_config, variant: as in ``request.Request``.
        steps: of the optimizer.
        batch: pictures of the subject in a step, and as many of the class.
        learning_rate: None takes ``dreambooth.learning_rate``.
        text_share: the text encoders' part of the learning rate.
        seed: of everything that is drawn at random.
        full: learn all weights of the U-Net instead of a LoRA.
        rank, alpha, layers: of the LoRA, see ``lora.add_lora``.
        train_text_encoder: let the text encoders learn too.
        prior: keep the class as it is (prior preservation, section 3.2).
        class_pictures: pictures of the class, which the model draws itself; at least so many, the same number of each
            caption.
        prior_weight: of their loss; the paper's lambda.
        most_snr: see ``denoising.Denoiser``.
        size: side in pixels at which the pictures are used; None is the model's.
        sample_prompts: with ``{token}`` and ``{class}``.
        sample_steps: steps between samples; 0 draws none.
        checkpoint_steps: steps between checkpoints.
        gradient_checkpointing: spend time to save memory.
        dtype: "auto", "float32" or "bfloat16"; float16 would need its losses scaled.
        device, threads: as in ``request.Request``.
    """

    pictures: Path
    token: str
    class_noun: str
    prompt: str = PROMPT
    model: str | None = None
    model_config: Path | None = None
    variant: str | None = None
    steps: int = 400
    batch: int = 1
    learning_rate: float | None = None
    text_share: float = 1.0
    seed: int = 0
    full: bool = False
    rank: int = 8
    alpha: float | None = None
    layers: str = "attention"
    train_text_encoder: bool = False
    prior: bool = True
    class_pictures: int = 100
    prior_weight: float = 1.0
    most_snr: float | None = None
    size: int | None = None
    sample_prompts: tuple[str, ...] = SAMPLES
    sample_steps: int = 100
    checkpoint_steps: int = 100
    gradient_checkpointing: bool = False
    dtype: str = "auto"
    device: str = "auto"
    threads: int | None = None

    def captions(self, examples: Sequence[Example]) -> list[str]:
        """The caption of each picture.

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
        """A prompt with the two words in their places."""
        return " ".join(prompt.replace(TOKEN, self.token).replace(CLASS, self.class_noun).split())

    def check(self) -> None:
        """Everything that can be wrong without reading a picture or a model.

        Raises:
            FreeUValueError: the first thing that is wrong, with its value and the fix.
        """
        check_identifier(self.token, self.class_noun)
        if TOKEN not in self.prompt:
            raise FreeUValueError(f"--prompt must hold {TOKEN}, where the token goes, got {self.prompt!r}")
        if not all(prompt.strip() for prompt in self.sample_prompts):
            raise FreeUValueError("--sample-prompt is empty: write what the picture should show")
        if self.class_prompts([self.filled(self.prompt)]) == [""]:
            raise FreeUValueError(f"--prompt {self.prompt!r} says nothing but the token: add {CLASS}")
        check_range("--steps", self.steps, 1, 1_000_000)
        check_range("--batch", self.batch, 1, 64)
        check_range("--learning-rate", self.learning_rate, 1e-9, 1.0)
        check_range("--text-share", self.text_share, 0.0, 10.0)
        check_range("--seed", self.seed, 0, MAX_SEED)
        check_range("--class-pictures", self.class_pictures, 1, 10_000)
        check_range("--prior-weight", self.prior_weight, 0.0, 100.0)
        check_range("--snr-gamma", self.most_snr, 0.1, 1_000.0)
        check_range("--sample-every", self.sample_steps, 0, 1_000_000)
        check_range("--checkpoint-every", self.checkpoint_steps, 1, 1_000_000)
        check_range("--threads", self.threads, 1, 4_096)
        check_rank(self.rank, self.alpha)
        if self.size is not None:
            check_side("--size", self.size)
        if self.layers not in LAYERS:
            raise FreeUValueError(f"--layers must be {' or '.join(LAYERS)}, got {self.layers!r}")
        if self.dtype not in DTYPES:
            raise FreeUValueError(
                f"--dtype must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {self.dtype!r}"
                + (": float16 would need its losses scaled" if self.dtype == "float16" else "")
            )

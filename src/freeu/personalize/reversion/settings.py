"""What a ReVersion training is asked to do, and what can be wrong with it before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from freeu.errors import FreeUValueError
from freeu.pipelines.io.inputs import MAX_SEED
from freeu.pipelines.models.addons.embedding_files import check_token
from freeu.pipelines.options.option import Option, check_bounds

DTYPES = ("float32", "bfloat16")
RATE = 0.05
"""For mini-sd 4e-3, with which more nouns survived in small trials than with 1e-2; for Stable Diffusion 1.5, whose
embeddings measure some 0.014, 7e-4. Published for that is 2e-3 (2.5e-4 for each of 8 images)."""


@dataclass(frozen=True)
class Settings:
    """How a relation is learned.

    Args:
        token: the word for it, which the model does not know.
        start_word: what its embedding begins as; of several tokens, the mean.
        steps, batch, seed: of the training; a batch may hold an image twice, with other noise.
        learning_rate: of AdamW, constant; None takes ``RATE`` times the root mean square of what the embedding begins
            as, so that models whose embeddings are larger learn in larger steps.
        steering_weight: of the steering loss beside the denoising loss; 0 leaves it out.
        positives: prepositions that are sampled for each image of a batch.
        left_out: prepositions that are never sampled.
        importance: see ``reversion_losses.focal_weights``.
        dtype: of the arithmetic, one of ``DTYPES``; what is learned is float32.
    """

    PANEL: ClassVar[str] = "Training"

    token: Annotated[str, Option("The new word for the relation.", "WORD")] = "<R>"
    start_word: Annotated[str, Option("What the new word means at first.", "WORDS")] = "and"
    steps: Annotated[int, Option("Training steps.", "N", bounds=(1, 1_000_000))] = 200
    batch: Annotated[int, Option("Images in a step.", "N", bounds=(1, 1_024))] = 4
    learning_rate: Annotated[
        float | None,
        Option(
            "Of AdamW, constant (default: 0.05 of the root mean square of the start word's embedding).",
            "RATE",
            bounds=(1e-9, 10.0),
        ),
    ] = None
    seed: Annotated[int, Option("Seed of the training.", "N", bounds=(0, MAX_SEED))] = 0
    steering_weight: Annotated[
        float,
        Option(
            "Weight of the steering loss, which pulls the word towards prepositions; 0 leaves it out.",
            "WEIGHT",
            bounds=(0.0, 1_000.0),
        ),
    ] = 0.01
    positives: Annotated[int, Option("Prepositions sampled for each image of a step.", "N", bounds=(1, 1_000))] = 4
    left_out: tuple[str, ...] = ()
    importance: Annotated[
        float,
        Option("How much more often noisy timesteps come up; 0 takes all alike.", "0..1", bounds=(0.0, 1.0)),
    ] = 0.5
    dtype: Annotated[
        str,
        Option("Arithmetic of the training: float32 or bfloat16; what is learned is float32.", "TYPE", panel="Running"),
    ] = "float32"

    def check(self) -> None:
        """Everything that can be wrong without reading an image or a model.

        Raises:
            FreeUValueError: the first thing that is wrong, with its value and the fix.
        """
        check_token(self.token)
        check_bounds(self)
        if self.dtype not in DTYPES:
            raise FreeUValueError(
                f"--dtype must be float32 or bfloat16 (float16 loses small gradients), got {self.dtype!r}"
            )

    def plain(self) -> Settings:
        """The same without what ReVersion adds: textual inversion."""
        return replace(self, steering_weight=0.0, importance=0.0)

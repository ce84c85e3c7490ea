"""Settings of a ReVersion training, and the checks that need no model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from freeu.errors import FreeUValueError
from freeu.pipelines.io.inputs import MAX_SMALL_SEED
from freeu.pipelines.models.addons.embedding_files import check_token
from freeu.pipelines.options.option import Option, check_bounds

DTYPES = ("float32", "bfloat16")
RATE = 0.05
"""Learning rate over the root mean square of the start word's embedding: 4e-3 for mini-sd, with which the nouns were
kept better in small trials than with 1e-2, and 7e-4 for Stable Diffusion 1.5, whose embeddings have about 0.014. The
published rate for that model is 2e-3 (2.5e-4 for each of 8 images)."""


@dataclass(frozen=True)
class Settings:
    """Settings of the training of a relation.

    Args:
        token: of the relation, not in the model's vocabulary.
        start_word: initial value of its embedding; the mean over several tokens.
        steps, batch, seed: of the training; a batch may contain an image twice, with different noise.
        learning_rate: of AdamW, constant; None takes ``RATE`` times the root mean square of the initial embedding, so
            that models with larger embeddings are trained in larger steps.
        steering_weight: of the steering loss relative to the denoising loss; 0 disables it.
        positives: prepositions that are sampled for each image of a batch.
        left_out: prepositions that are never sampled.
        importance: see ``losses.focal_weights``.
        dtype: of the arithmetic, one of ``DTYPES``; the embedding is float32.
    """

    PANEL: ClassVar[str] = "Training"

    token: Annotated[str, Option("The new token for the relation.", "WORD")] = "<R>"
    start_word: Annotated[str, Option("Words whose embedding the token starts with.", "WORDS")] = "and"
    steps: Annotated[int, Option("Training steps.", "N", bounds=(1, 1_000_000))] = 200
    batch: Annotated[int, Option("Images in a step.", "N", bounds=(1, 1_024))] = 4
    learning_rate: Annotated[
        float | None,
        Option(
            "Learning rate, constant (default: 0.05 of the root mean square of the start word's embedding).",
            "RATE",
            bounds=(1e-9, 10.0),
        ),
    ] = None
    seed: Annotated[int, Option("Seed of the training.", "N", bounds=(0, MAX_SMALL_SEED))] = 0
    steering_weight: Annotated[
        float,
        Option(
            "Weight of the steering loss, which pulls the token towards prepositions; 0 disables it.",
            "WEIGHT",
            bounds=(0.0, 1_000.0),
        ),
    ] = 0.01
    positives: Annotated[int, Option("Prepositions sampled for each image of a step.", "N", bounds=(1, 1_000))] = 4
    left_out: tuple[str, ...] = ()
    importance: Annotated[
        float,
        Option("How much more often noisy timesteps are sampled; 0: uniformly.", "0..1", bounds=(0.0, 1.0)),
    ] = 0.5
    dtype: Annotated[
        str,
        Option("Precision of the training: float32 or bfloat16; the embedding is float32.", "TYPE", panel="Running"),
    ] = "float32"

    def check(self) -> None:
        """Check everything that can be checked without reading an image or a model.

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
        """The same settings for plain textual inversion: without steering and focal timesteps."""
        return replace(self, steering_weight=0.0, importance=0.0)

"""The two parts of ReVersion (Huang et al., arXiv:2303.13495): relation steering and focal timestep sampling."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.personalize.training.denoising import Denoiser

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TEMPERATURE = 0.07
"""Temperature of the contrastive loss, as published."""

PREPOSITIONS = (
    *("aboard", "about", "above", "across", "against", "along", "among", "around", "at", "atop", "before", "behind"),
    *("below", "beneath", "beside", "between", "beyond", "by", "down", "from", "in", "inside", "into", "near", "of"),
    *("off", "on", "onto", "opposite", "out", "outside", "over", "past", "round", "through", "throughout", "to"),
    *("toward", "towards", "under", "underneath", "up", "upon", "with", "within", "without"),
    # The decisive words of compound ones ("to the left of", "on top of", "in back of").
    *("left", "right", "top", "back", "front", "next"),
)
"""Words for relations, towards which the token is steered; those that are a single token of the model."""

_FUNCTION_WORDS = (
    *("a", "an", "the", "and", "or", "but", "if", "as", "than", "then", "so", "not", "no", "both", "each", "all"),
    *("i", "you", "he", "she", "it", "we", "they", "his", "her", "its", "their", "this", "that", "these", "those"),
    *("is", "are", "was", "were", "be", "been", "being", "has", "have", "had", "do", "does", "did", "which", "who"),
)
_SILENT = frozenset((*PREPOSITIONS, *_FUNCTION_WORDS))


def basis_words(tokenizer: Any, left_out: Collection[str] = ()) -> dict[str, int]:
    """``PREPOSITIONS`` that are a single token of a tokenizer, with its id, without those that are left out.

    Raises:
        FreeUValueError: a word in ``left_out`` that is not among them.
    """
    found = {word: ids[0] for word in PREPOSITIONS if len(ids := _ids(tokenizer, word)) == 1}
    for word in left_out:
        if word not in found:
            known = ", ".join(found) or "none"
            raise FreeUValueError(
                f"{word!r} is no preposition that this model has as one token, so it cannot be left out: {known}"
            )
    return {word: number for word, number in found.items() if word not in left_out}


def content_words(caption: str, token: str) -> list[str]:
    """The content words of a caption, in order: no prepositions, articles or pronouns.

    Args:
        token: of the relation; it is left out.
    """
    words = re.findall(r"[^\W_]+", caption.replace(token, " ").lower())
    return [word for word in words if word not in _SILENT]


def tokens_of(tokenizer: Any, words: Iterable[str]) -> list[int]:
    """The token ids of all words, concatenated."""
    return [number for word in words for number in _ids(tokenizer, word)]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def steering_loss(relation: Tensor, positives: Tensor, negatives: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The contrastive loss that pulls an embedding towards prepositions (arXiv:2303.13495, relation steering).

    The multi-instance InfoNCE of the paper, -log(P / (P + N)): P sums exp(cosine / temperature) over the positives, N
    over the negatives.

    Args:
        relation: the trained embedding, shape (width,); only this one gets a gradient.
        positives: embeddings of prepositions, shape (number, width), at least one.
        negatives: embeddings of other words, shape (number, width); without any the loss is 0.
        temperature: above 0.

    Returns:
        a scalar, 0 or more.
    """
    import torch
    from torch.nn import functional as F

    words = F.normalize(torch.cat([positives, negatives]).detach(), dim=-1)
    closeness = words @ F.normalize(relation, dim=-1) / temperature
    return closeness.logsumexp(0) - closeness[: len(positives)].logsumexp(0)


def focal_weights(steps: int, importance: float) -> Tensor:
    """Probability of each timestep 0 ... steps - 1: (1 - importance * cos(pi t / steps)) / steps, normalized.

    Relations are decided at high noise levels, so noisy timesteps are sampled more often (arXiv:2303.13495,
    relation-focal importance sampling).

    Args:
        steps: of the noise schedule.
        importance: 0 (uniform) to 1; 0.5 as published.

    Returns:
        shape (steps,), float64.
    """
    import torch

    places = torch.arange(steps, dtype=torch.float64) / steps
    weights = 1.0 - importance * torch.cos(math.pi * places)
    return weights / weights.sum()


class FocalDenoiser(Denoiser):
    """A ``Denoiser`` that samples noisy timesteps more often.

    Args:
        pipe: see ``Denoiser``.
        importance: see ``focal_weights``.
        dtype: see ``Denoiser``.
    """

    def __init__(self, pipe: Any, importance: float, dtype: str = "float32") -> None:
        super().__init__(pipe, dtype=dtype)
        self._reached = focal_weights(int(self.schedule.config.num_train_timesteps), importance).cumsum(0)

    def timesteps(self, batch: int, generator: torch.Generator) -> Tensor:
        """Timesteps of a batch, stratified: one from each of ``batch`` equally probable parts of the schedule.

        Returns:
            shape (batch,), int64, on the CPU, in random order.
        """
        import torch

        places = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        order = torch.randperm(batch, generator=generator)
        # The cumulative sum may end a rounding error below 1.
        found = torch.searchsorted(self._reached, places.double(), right=True).clamp(max=len(self._reached) - 1)
        return found[order]

"""A new word for a pipeline's text encoders whose embedding is learned while everything else stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.pipelines.models.addons.embedding_files import check_token

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


@dataclass
class Place:
    """Where a word stands in one text encoder: its number there, and its embedding, float32, shape (width,)."""

    tokenizer: Any
    encoder: Any
    number: int
    vector: Parameter
    hook: Any


class LearnedWord:
    """A word in every text encoder of a pipeline.

    The word becomes a token, as diffusers' ``load_textual_inversion`` would make it, and a hook on the layer that
    looks embeddings up puts the learned one in its place. So the gradient reaches that vector alone, and no other row
    has to be put back after each step.

    Args:
        pipe: a pipeline of Stable Diffusion's kind; its parts are frozen, and one row is added to the embedding of each
            text encoder.
        word: one that no tokenizer of the pipeline has as one token.
        start: words that the embedding begins as, the mean of their tokens.

    Raises:
        FreeUValueError: a word with blanks or one that is known already, or nothing to begin with.
    """

    def __init__(self, pipe: Any, word: str, start: str) -> None:
        import torch

        check_token(word)
        self.word = word
        self.places: list[Place] = []
        parts = [(f"tokenizer{end}", f"text_encoder{end}") for end in ("", "_2")]
        pairs = [(getattr(pipe, t), getattr(pipe, e)) for t, e in parts if getattr(pipe, e, None) is not None]
        for tokenizer, _ in pairs:
            # As one token it would lose what it means; "<R>" is three in every vocabulary of CLIP's kind.
            if word in tokenizer.get_vocab() or len(tokenizer(word, add_special_tokens=False).input_ids) < 2:
                raise FreeUValueError(
                    f"the word {word!r} is in the model's vocabulary already, and learning it would change what it "
                    "means: choose another, such as <R> or <inside>"
                )
        for part in (pipe.unet, pipe.vae, *(encoder for _, encoder in pairs)):
            part.requires_grad_(False).eval()
        for tokenizer, encoder in pairs:
            first = tokenizer(start, add_special_tokens=False).input_ids
            if not first:
                raise FreeUValueError(f"the word to start from must not be empty, got {start!r}")
            vector = torch.nn.Parameter(encoder.get_input_embeddings().weight[first].detach().float().mean(0))
            tokenizer.add_tokens(word)
            number = tokenizer(word, add_special_tokens=False).input_ids[0]
            if number >= encoder.get_input_embeddings().num_embeddings:
                encoder.resize_token_embeddings(number + 1, mean_resizing=False)
                encoder.requires_grad_(False)  # the resized embedding is a new layer
            hook = encoder.get_input_embeddings().register_forward_hook(_putting(number, vector))
            self.places.append(Place(tokenizer, encoder, number, vector, hook))

    def parameters(self) -> dict[str, Parameter]:
        """What is learned, by the names that files of SDXL's embeddings use."""
        return dict(zip(("clip_l", "clip_g"), (place.vector for place in self.places), strict=False))

    @property
    def size(self) -> float:
        """Root mean square of the vectors as they are now."""
        import torch

        return float(torch.cat([place.vector.detach() for place in self.places]).square().mean().sqrt())

    def check_caption(self, caption: str) -> None:
        """Make sure that the word is read as such.

        Raises:
            FreeUValueError: it is not, or only after the end of what the text encoder takes.
        """
        for place in self.places:
            length = place.tokenizer.model_max_length
            ids = place.tokenizer(caption, truncation=True, max_length=length).input_ids
            if place.number not in ids:
                raise FreeUValueError(
                    f"the word {self.word!r} is not among the {length} tokens that the model reads of {caption!r}: "
                    "make the caption shorter"
                )

    def remove(self) -> None:
        """Take the hooks away and write the learned vectors to the text encoders' own rows; safe to call again."""
        import torch

        with torch.no_grad():
            for place in self.places:
                place.hook.remove()
                place.encoder.get_input_embeddings().weight[place.number] = place.vector.to(place.encoder.dtype)

    def save(self, path: Path) -> None:
        """Write the vectors as diffusers' textual inversion does: {word: (1, width)}, or clip_l and clip_g for SDXL."""
        from safetensors.torch import save_file

        vectors = [place.vector.detach().float().cpu()[None].contiguous() for place in self.places]
        names = (self.word,) if len(vectors) == 1 else ("clip_l", "clip_g")
        save_file(dict(zip(names, vectors, strict=True)), path)


def _putting(number: int, vector: Tensor) -> Any:
    """A forward hook that replaces what was looked up for one token."""
    import torch

    def hook(_layer: Any, inputs: tuple[Tensor, ...], found: Tensor) -> Tensor:
        return torch.where((inputs[0] == number)[..., None], vector.to(found.dtype), found)

    return hook

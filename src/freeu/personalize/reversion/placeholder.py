"""A placeholder token whose embedding is trained while all other weights stay fixed (textual inversion)."""

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
class TokenSlot:
    """The token in one text encoder: its id, and its embedding, float32, shape (width,)."""

    tokenizer: Any
    encoder: Any
    token_id: int
    vector: Parameter
    hook: Any


class PlaceholderToken:
    """A placeholder token in every text encoder of a pipeline.

    It is added as by diffusers' ``load_textual_inversion``, and a hook on the embedding layer inserts the trained
    vector. So only that vector gets a gradient, and no other row has to be restored after each step.

    Args:
        pipe: a Stable Diffusion or SDXL pipeline; its weights are frozen, and one row is added to the embedding layer
            of each text encoder.
        token: a word that is no single token of the pipeline's tokenizers.
        start: words whose mean embedding is the initial value.

    Raises:
        FreeUValueError: a token with spaces or in the vocabulary already, or an empty ``start``.
    """

    def __init__(self, pipe: Any, token: str, start: str) -> None:
        import torch

        check_token(token)
        self.token = token
        self.slots: list[TokenSlot] = []
        parts = [(f"tokenizer{end}", f"text_encoder{end}") for end in ("", "_2")]
        pairs = [(getattr(pipe, t), getattr(pipe, e)) for t, e in parts if getattr(pipe, e, None) is not None]
        for tokenizer, _ in pairs:
            # A single token would lose its meaning; "<R>" is three tokens in every CLIP vocabulary.
            if token in tokenizer.get_vocab() or len(tokenizer(token, add_special_tokens=False).input_ids) < 2:
                raise FreeUValueError(
                    f"the token {token!r} is in the model's vocabulary already, and learning it would change what it "
                    "means: use another, such as <R> or <inside>"
                )
        for part in (pipe.unet, pipe.vae, *(encoder for _, encoder in pairs)):
            part.requires_grad_(False).eval()
        for tokenizer, encoder in pairs:
            first = tokenizer(start, add_special_tokens=False).input_ids
            if not first:
                raise FreeUValueError(f"--start-word must not be empty, got {start!r}")
            vector = torch.nn.Parameter(encoder.get_input_embeddings().weight[first].detach().float().mean(0))
            tokenizer.add_tokens(token)
            token_id = tokenizer(token, add_special_tokens=False).input_ids[0]
            if token_id >= encoder.get_input_embeddings().num_embeddings:
                encoder.resize_token_embeddings(token_id + 1, mean_resizing=False)
                encoder.requires_grad_(False)  # the resized embedding is a new layer
            hook = encoder.get_input_embeddings().register_forward_hook(_putting(token_id, vector))
            self.slots.append(TokenSlot(tokenizer, encoder, token_id, vector, hook))

    def parameters(self) -> dict[str, Parameter]:
        """The trained vectors, by the names in files of SDXL embeddings."""
        return dict(zip(("clip_l", "clip_g"), (slot.vector for slot in self.slots), strict=False))

    @property
    def size(self) -> float:
        """Root mean square of the current vectors."""
        import torch

        return float(torch.cat([slot.vector.detach() for slot in self.slots]).square().mean().sqrt())

    def check_caption(self, caption: str) -> None:
        """Check that the tokenizer finds the token in a caption.

        Raises:
            FreeUValueError: it does not, or only beyond the maximum length of the text encoder.
        """
        for slot in self.slots:
            length = slot.tokenizer.model_max_length
            ids = slot.tokenizer(caption, truncation=True, max_length=length).input_ids
            if slot.token_id not in ids:
                raise FreeUValueError(
                    f"the token {self.token!r} is not among the {length} tokens that the model reads of {caption!r}: "
                    "make the caption shorter"
                )

    def remove(self) -> None:
        """Remove the hooks and write the vectors to the text encoders' embedding layers; may be called repeatedly."""
        import torch

        with torch.no_grad():
            for slot in self.slots:
                slot.hook.remove()
                slot.encoder.get_input_embeddings().weight[slot.token_id] = slot.vector.to(slot.encoder.dtype)

    def save(self, path: Path) -> None:
        """Save the vectors as diffusers' textual inversion does: {token: (1, width)}, or clip_l and clip_g for SDXL."""
        from safetensors.torch import save_file

        vectors = [slot.vector.detach().float().cpu()[None].contiguous() for slot in self.slots]
        names = (self.token,) if len(vectors) == 1 else ("clip_l", "clip_g")
        save_file(dict(zip(names, vectors, strict=True)), path)


def _putting(token_id: int, vector: Tensor) -> Any:
    """A forward hook that replaces the embedding of one token."""
    import torch

    def hook(_layer: Any, inputs: tuple[Tensor, ...], found: Tensor) -> Tensor:
        return torch.where((inputs[0] == token_id)[..., None], vector.to(found.dtype), found)

    return hook

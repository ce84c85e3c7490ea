"""Files of textual-inversion embeddings: diffusers', AUTOMATIC1111's, and those of SDXL's two text encoders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.pipelines.io.reading import read_header, read_pickled, readable

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDING_NAMES = ("learned_embeds.safetensors", "learned_embeds.bin")
"""What textual inversion in diffusers calls its files."""
MAX_TOKEN, MAX_VECTORS, MAX_WIDTH = 100, 75, 8192
_XL = ("clip_l", "clip_g")
_PIVOTAL = ("text_encoders_0", "text_encoders_1")
"""What pivotal tuning calls the vectors for the first and the second text encoder."""
_PAIRS = (_XL, _PIVOTAL)
_NAMELESS = ("emb_params", "*", *_XL, *_PIVOTAL)
"""Names in a file that are not the word; it is then called by the name of the file."""
PICKLED = (".pt", ".bin")
OF_HEADERS = (".safetensors", ".pti")
"""Pivotal tuning calls its safetensors files ``.pti``."""


@dataclass(frozen=True)
class EmbeddingHeader:
    """What a file of an embedding says of itself.

    Args:
        token: the word that it has in the file or, where a file has none, the name of the file.
        widths: of the vectors for the first and, for SDXL, the second text encoder.
        vectors: how many of them stand for one word.
    """

    token: str
    widths: tuple[int, ...]
    vectors: int


def check_token(token: str) -> None:
    """Raise ``FreeUValueError`` for a word that no prompt could hold as one."""
    if not token or len(token) > MAX_TOKEN or re.search(r"\s", token):
        raise FreeUValueError(
            f"the word of an embedding must have 1 to {MAX_TOKEN} letters and no blanks, got {token!r}: "
            "--embedding FILE:WORD names another"
        )


def read_embedding_header(path: Path) -> EmbeddingHeader:
    """Make sure that a file is an embedding; of safetensors the header alone is read.

    Raises:
        FreeUValueError: damaged, more than weights, another kind of file, or several words in one file.
    """
    if path.suffix in OF_HEADERS:
        shapes = read_header(path).shapes
    elif path.suffix in PICKLED:
        shapes = {name: tuple(tensor.shape) for name, tensor in _unpickled(path).items()}
    else:
        raise FreeUValueError(f"{path.name} is no embedding: give a .safetensors, .pti, .pt or .bin file")
    return _described(path, shapes)


def read_embedding(path: Path) -> tuple[Tensor, ...]:
    """The vectors of a file, for each text encoder one tensor [vectors, width] on the CPU; errors as the header's."""
    header = read_embedding_header(path)
    if path.suffix in PICKLED:
        found = _unpickled(path)
    else:
        from safetensors.torch import load_file

        with readable(path.name):
            found = load_file(path)
    names = _names(found)
    return tuple(found[name].reshape(header.vectors, -1).float() for name in names)


def _names(found: Iterable[str]) -> tuple[str, ...]:
    """The names in a file, that of the first text encoder first."""
    names = tuple(found)
    return next((pair for pair in _PAIRS if set(names) == set(pair)), names)


def _described(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> EmbeddingHeader:
    names = _names(shapes)
    if any("lora" in name.lower() for name in names):
        raise FreeUValueError(f"{path.name} is a LoRA, no embedding: give it with --lora")
    two = names in _PAIRS
    if not names or (not two and any("." in name for name in names) and len(names) > 1):
        raise FreeUValueError(f"{path.name} is no embedding: it must hold one tensor by the name of its word")
    if not two and len(names) > 1:
        raise FreeUValueError(
            f"{path.name} holds {len(names)} embeddings ({', '.join(sorted(names)[:3])} ...): one word a file"
        )
    for name in names:
        shape = shapes[name]
        if len(shape) not in (1, 2) or 0 in shape or shape[-1] > MAX_WIDTH:
            raise FreeUValueError(f"{path.name} is no embedding: {name!r} has the shape {list(shape)}")
    counts = {shapes[name][0] if len(shapes[name]) == 2 else 1 for name in names}
    if len(counts) > 1 or max(counts) > MAX_VECTORS:
        raise FreeUValueError(
            f"{path.name} holds {' and '.join(map(str, sorted(counts)))} vectors: the same number for each text "
            f"encoder, 1 to {MAX_VECTORS}"
        )
    widths = tuple(shapes[name][-1] for name in names)
    # AUTOMATIC1111 calls an embedding by the name of its file, whatever is written inside.
    token = path.stem if names[0] in _NAMELESS else names[0]
    return EmbeddingHeader(token, widths, counts.pop())


def _unpickled(path: Path) -> dict[str, Tensor]:
    """The tensors in a ``.pt`` or ``.bin``; torch reads it with ``weights_only``, so no code in it can run."""
    import torch

    with readable(path.name):
        data: dict[str, Any] = read_pickled(path)
    inner = data.get("string_to_param")  # AUTOMATIC1111
    if inner is not None:
        data = dict(inner)
    tensors = {str(name): value for name, value in data.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise FreeUValueError(f"{path.name} is no embedding: no tensor is in it")
    return {name: tensor.detach() for name, tensor in tensors.items()}

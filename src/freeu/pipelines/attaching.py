"""Load LoRAs and embeddings into a pipeline with diffusers' own loaders, and make sure that all of them arrived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from freeu.errors import FreeUValueError
from freeu.pipelines.add_ons import Embedding, Lora
from freeu.pipelines.embedding_files import read_embedding
from freeu.pipelines.extras import need
from freeu.pipelines.lora_files import read_lora_header
from freeu.pipelines.reading import readable


def attach(pipe: Any, loras: Sequence[Lora] = (), embeddings: Sequence[Embedding] = (), fuse: bool = False) -> None:
    """Put embeddings and LoRAs into a pipeline; the LoRAs are called "lora_0", "lora_1" ... there.

    Args:
        pipe: a pipeline of diffusers, changed.
        loras: each with its weight; their changes add up.
        embeddings: each becomes one word of the tokenizer, or as many as it has vectors.
        fuse: add the LoRAs to the weights for good, so that no layer of theirs is left.

    Raises:
        FreeUValueError: the pipeline takes none, or one does not fit it; the pipeline is then not fit for use.
    """
    for embedding in embeddings:
        _add_embedding(pipe, embedding)
    if loras:
        need("personalize", "peft")
        _add_loras(pipe, loras, fuse)


def _add_loras(pipe: Any, loras: Sequence[Lora], fuse: bool) -> None:
    kind = type(pipe).__name__
    if not hasattr(pipe, "load_lora_weights"):
        raise FreeUValueError(f"{kind} takes no LoRA in diffusers: leave --lora out")
    names = [f"lora_{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        with readable(f"the LoRA {lora.name}"):
            pipe.load_lora_weights(
                str(lora.path.parent), weight_name=lora.path.name, adapter_name=name, local_files_only=True
            )
        wanted = read_lora_header(lora.path).tensors
        loaded = sum(1 for _ in _parameters(pipe, name))
        if loaded != wanted:
            what = "nothing" if not loaded else f"only {loaded} of its {wanted} matrices"
            raise FreeUValueError(
                f"the LoRA {lora.name} was made for another kind of model: {what} of it has a place in this {kind}"
            )
    pipe.set_adapters(names, [lora.weight for lora in loras])
    if fuse:
        parts = [part for part in ("unet", "text_encoder", "text_encoder_2") if part in pipe._lora_loadable_modules]
        pipe.fuse_lora(components=parts, adapter_names=names)
        pipe.unload_lora_weights()


def _parameters(pipe: Any, adapter: str) -> Iterator[Any]:
    """The matrices that one LoRA has in a pipeline."""
    for part in ("unet", "text_encoder", "text_encoder_2"):
        module = getattr(pipe, part, None)
        if module is not None:
            for name, parameter in module.named_parameters():
                if f".{adapter}." in name or name.endswith(f".{adapter}"):
                    yield parameter


def _add_embedding(pipe: Any, embedding: Embedding) -> None:
    kind = type(pipe).__name__
    if not hasattr(pipe, "load_textual_inversion"):
        raise FreeUValueError(f"{kind} takes no embedding in diffusers: leave --embedding out")
    vectors = read_embedding(embedding.path)
    for tensor, suffix in zip(vectors, ("", "_2"), strict=False):
        tokenizer, encoder = getattr(pipe, f"tokenizer{suffix}", None), getattr(pipe, f"text_encoder{suffix}", None)
        if tokenizer is None or encoder is None:
            raise FreeUValueError(f"the embedding {embedding.name} is for two text encoders; {kind} has one")
        if embedding.token in tokenizer.get_vocab():
            raise FreeUValueError(
                f"the word {embedding.token!r} is in the vocabulary of {kind} already: give the embedding another, "
                f"--embedding {embedding.name}:WORD"
            )
        width = encoder.get_input_embeddings().weight.shape[-1]
        if tensor.shape[-1] != width:
            raise FreeUValueError(
                f"the embedding {embedding.name} is {tensor.shape[-1]} wide, and the text encoder takes {width}: "
                "it was made for another kind of model"
            )
        with readable(f"the embedding {embedding.name}"):
            pipe.load_textual_inversion(tensor, token=embedding.token, tokenizer=tokenizer, text_encoder=encoder)

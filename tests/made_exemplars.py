"""Exemplars of a relation and pipelines that know a few prepositions, written for tests."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny_pipelines import save_pipeline, tiny_text_encoder, tiny_unet

PREPOSITIONS = ("in", "on", "at", "by", "of", "up", "to")
CAPTIONS = {"1.png": ["cat <R> box", "a cat <R> a box"], "2.png": ["dog <R> car"], "3.png": ["cow <R> van"]}


def wordy_tokenizer() -> Any:
    """A CLIP tokenizer that spells all words but ``PREPOSITIONS``, which it has as one token."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in itertools.chain(range(33, 127), range(161, 173), range(174, 256))]
    letters += [chr(256 + code) for code in range(68)]
    merges = [(word[0], f"{word[1]}</w>") for word in PREPOSITIONS]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokens += [first + second for first, second in merges]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=16)


def save_sd(folder: Path, **parts: Any) -> Path:
    """A StableDiffusionPipeline directory with that tokenizer."""
    return save_pipeline(folder, tokenizer=wordy_tokenizer(), **parts)


def save_sdxl(folder: Path) -> Path:
    """A StableDiffusionXLPipeline directory with that tokenizer, twice."""
    unet = tiny_unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 16,
    )
    second = tiny_text_encoder("CLIPTextModelWithProjection", projection_dim=16)
    return save_pipeline(
        folder,
        "StableDiffusionXLPipeline",
        unet=unet,
        tokenizer=wordy_tokenizer(),
        text_encoder_2=second,
        tokenizer_2=wordy_tokenizer(),
    )


def save_pictures(folder: Path, names: Any = tuple(CAPTIONS)) -> Path:
    """Pictures of noise, each another."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    return folder


def save_exemplars(folder: Path, way: str = "captions.jsonl") -> Path:
    """``CAPTIONS`` in one of the ways that are read, with pictures."""
    save_pictures(folder)
    if way == "captions.jsonl":
        lines = [json.dumps({"file": name, "caption": text}) for name, texts in CAPTIONS.items() for text in texts]
        (folder / way).write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif way == "text.json":
        data = {name: [text.replace("<R>", "{}") for text in texts] for name, texts in CAPTIONS.items()}
        (folder / way).write_text(json.dumps(data), encoding="utf-8")
    else:
        for name, texts in CAPTIONS.items():
            path = folder / (f"{name}.txt" if way == "full names" else f"{Path(name).stem}.txt")
            path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return folder

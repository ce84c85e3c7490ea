"""Tiny random pipelines made of the real classes of diffusers and transformers, written once a session."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

WORDS = ("a", "red", "blue", "fox", "apple", "on", "background", "the", "large")


def tiny_tokenizer() -> Any:
    """A CLIP tokenizer that spells: every byte, with and without the end-of-word mark, and no merges."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in itertools.chain(range(33, 127), range(161, 173), range(174, 256))]
    letters += [chr(256 + code) for code in range(68)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16)


def tiny_unet(**changes: Any) -> Any:
    """A U-Net whose decoder widths stand 2:1, so that the official profile finds stages 2 and 3 ... or 4:2:1."""
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(**settings | changes)


def tiny_vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
    )


def tiny_text_encoder(cls: str = "CLIPTextModel", **changes: Any) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=600,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=524,
        eos_token_id=525,
        pad_token_id=525,
        **changes,
    )
    return getattr(transformers, cls)(config)


@pytest.fixture(scope="session")
def sd_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusionPipeline directory: 16x16 pictures, random weights, 3 up-blocks of 2 concatenations."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    torch.manual_seed(0)
    pipe = StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=tiny_text_encoder(),
        tokenizer=tiny_tokenizer(),
        unet=tiny_unet(),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-sd"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from more threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

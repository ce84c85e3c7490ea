"""Tiny random pipelines made of the real classes of diffusers and transformers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any


def tiny_tokenizer() -> Any:
    """A CLIP tokenizer that spells: every byte, with and without the end-of-word mark, and no merges."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in itertools.chain(range(33, 127), range(161, 173), range(174, 256))]
    letters += [chr(256 + code) for code in range(68)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16)


def tiny_unet(**changes: Any) -> Any:
    """A U-Net of widths 1:2:4 as in SDXL, so that every stage of the official profile is there."""
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


def tiny_video_unet(**changes: Any) -> Any:
    """ModelScope's kind of U-Net, of the same widths."""
    import torch
    from diffusers import UNet3DConditionModel

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "down_block_types": ("DownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        "up_block_types": ("CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"),
    }
    return UNet3DConditionModel(**settings | changes)


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


def save_pipeline(folder: Path, cls: str = "StableDiffusionPipeline", **parts: Any) -> Path:
    """Write a pipeline directory with random weights; ``parts`` replace its components."""
    import diffusers
    import torch

    torch.manual_seed(0)
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    whole: dict[str, Any] = {
        "vae": tiny_vae(),
        "text_encoder": tiny_text_encoder(),
        "tokenizer": tiny_tokenizer(),
        "unet": tiny_unet(),
        "scheduler": scheduler,
    }
    if cls not in ("StableDiffusionXLPipeline", "TextToVideoSDPipeline"):
        whole |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    getattr(diffusers, cls)(**whole | parts).save_pretrained(folder)
    return folder

"""Tiny random pipelines made of the real classes of diffusers and transformers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any


def tiny_tokenizer(length: int = 77) -> Any:
    """A CLIP tokenizer that spells: every byte, with and without the end-of-word mark, and no merges."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in itertools.chain(range(33, 127), range(161, 173), range(174, 256))]
    letters += [chr(256 + code) for code in range(68)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=length)


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


def tiny_motion_unet(**changes: Any) -> Any:
    """AnimateDiff's kind of U-Net, of the same widths."""
    import torch
    from diffusers import UNetMotionModel

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
        "num_attention_heads": 2,
        "motion_num_attention_heads": 2,
        "down_block_types": ("DownBlockMotion", "CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
        "up_block_types": ("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion"),
    }
    return UNetMotionModel(**settings | changes)


def tiny_motion_adapter() -> Any:
    """What AnimateDiff adds to a U-Net for pictures, fit for ``tiny_unet``."""
    from diffusers import MotionAdapter

    return MotionAdapter(
        block_out_channels=(8, 16, 32),
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
    )


def tiny_svd_unet(**changes: Any) -> Any:
    """Stable Video Diffusion's kind of U-Net, as narrow as its norms of 32 groups allow."""
    import torch
    from diffusers import UNetSpatioTemporalConditionModel

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (32, 64, 128),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "num_attention_heads": 2,
        "num_frames": 3,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
        "down_block_types": (
            "DownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
        ),
        "up_block_types": (
            "CrossAttnUpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
            "UpBlockSpatioTemporal",
        ),
    }
    return UNetSpatioTemporalConditionModel(**settings | changes)


def tiny_i2vgenxl_unet(**changes: Any) -> Any:
    """I2VGen-XL's U-Net: ModelScope's blocks, conditioned on a picture too."""
    import torch
    from diffusers import I2VGenXLUNet

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
    return I2VGenXLUNet(**settings | changes)


def tiny_modelscope_unet(**changes: Any) -> Any:
    """ModelScope's own U-Net from the ``modelscope`` package, as narrow as its norms of 32 groups allow."""
    import torch
    from modelscope.models.multi_modal.video_synthesis.unet_sd import UNetSD

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "in_dim": 4,
        "out_dim": 4,
        "dim": 32,
        "dim_mult": [1, 2, 4],
        "num_res_blocks": 1,
        "attn_scales": [1 / 2, 1 / 4],
        "head_dim": 16,
        "num_heads": 2,
        "y_dim": 1024,
        "context_dim": 1024,  # its decoder insists
    }
    model = UNetSD(**settings | changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_meta:
                continue
            # Every branch ends in zeros before training: the output would be zero whatever happens inside.
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(0.0, 0.05)
    return model


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
        max_position_embeddings=77,
        bos_token_id=524,
        eos_token_id=525,
        pad_token_id=525,
        **changes,
    )
    return getattr(transformers, cls)(config)


def tiny_image_encoder(side: int = 32) -> Any:
    """A CLIP vision tower of pictures of ``side`` pixels, with an embedding as wide as the tiny U-Nets' conditions."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=side,
        patch_size=side // 4,
    )
    return CLIPVisionModelWithProjection(config)


def tiny_image_processor(side: int = 32) -> Any:
    """CLIP's preprocessing without torchvision."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size=side, crop_size=side)


def tiny_animatediff_pipeline(**parts: Any) -> Any:
    """AnimateDiffPipeline of random weights; ``parts`` replace its components.

    ``pipe("a cat", num_frames=3, height=16, width=16, num_inference_steps=2)`` runs on a CPU in well under a second.
    """
    import torch
    from diffusers import AnimateDiffPipeline, DDIMScheduler

    torch.manual_seed(0)
    whole: dict[str, Any] = {
        "vae": tiny_vae(),
        "text_encoder": tiny_text_encoder(),
        "tokenizer": tiny_tokenizer(),
        "unet": tiny_motion_unet(),
        "motion_adapter": tiny_motion_adapter(),
        "scheduler": DDIMScheduler(beta_schedule="linear", clip_sample=False),
    }
    return _quiet(AnimateDiffPipeline(**whole | parts))


def tiny_svd_pipeline(**parts: Any) -> Any:
    """StableVideoDiffusionPipeline of random weights; ``parts`` replace its components.

    ``pipe(image, num_frames=3, height=16, width=16, num_inference_steps=2)`` with a PIL image of any size.
    """
    import torch
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, StableVideoDiffusionPipeline

    torch.manual_seed(0)
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, sample_size=16
    )
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
        steps_offset=1,
    )
    whole: dict[str, Any] = {
        "vae": vae,
        "image_encoder": tiny_image_encoder(224),
        "unet": tiny_svd_unet(),
        "scheduler": scheduler,
        "feature_extractor": tiny_image_processor(224),
    }
    return _quiet(StableVideoDiffusionPipeline(**whole | parts))


def tiny_i2vgenxl_pipeline(**parts: Any) -> Any:
    """I2VGenXLPipeline of random weights; ``parts`` replace its components.

    ``pipe("a cat", image, num_frames=3, height=16, width=16, num_inference_steps=2, clip_skip=None)`` with a PIL image
    (transformers 5 has no attribute that the default ``clip_skip`` of this pipeline asks for).
    """
    import torch
    from diffusers import DDIMScheduler, I2VGenXLPipeline

    torch.manual_seed(0)
    whole: dict[str, Any] = {
        "vae": tiny_vae(),
        "text_encoder": tiny_text_encoder(),
        "tokenizer": tiny_tokenizer(),
        "image_encoder": tiny_image_encoder(),
        "feature_extractor": tiny_image_processor(),
        "unet": tiny_i2vgenxl_unet(),
        "scheduler": DDIMScheduler(beta_schedule="linear", clip_sample=False, set_alpha_to_one=False),
    }
    return _quiet(I2VGenXLPipeline(**whole | parts))


def tiny_xl_pipeline(**parts: Any) -> Any:
    """StableDiffusionXLPipeline of random weights, made for images of 16x16; ``parts`` replace its components."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline

    torch.manual_seed(0)
    extra = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    whole: dict[str, Any] = {
        "vae": tiny_vae(),
        "text_encoder": tiny_text_encoder(),
        "text_encoder_2": tiny_text_encoder("CLIPTextModelWithProjection", projection_dim=16),
        "tokenizer": tiny_tokenizer(),
        "tokenizer_2": tiny_tokenizer(),
        "unet": tiny_unet(**extra, projection_class_embeddings_input_dim=64, cross_attention_dim=32),
        "scheduler": DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False),
    }
    return _quiet(StableDiffusionXLPipeline(**whole | parts))


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


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


def tiny_controlnet(unet: Any, embedding: tuple[int, ...] = (4, 6)) -> Any:
    """A ControlNet for a U-Net that does something: what training begins with adds nothing."""
    import torch
    from diffusers import ControlNetModel

    torch.manual_seed(5)
    made = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=embedding)
    with torch.no_grad():
        for module in (
            made.controlnet_mid_block,
            *made.controlnet_down_blocks,
            made.controlnet_cond_embedding.conv_out,
        ):
            module.weight.normal_(0.0, 0.3)
    return made

"""diffusers' ``TextToVideoSDPipeline`` from an original ModelScope checkpoint, converted in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.pipelines.io.reading import read_pickled, readable
from freeu.pipelines.models.modelscope.weights import (
    autoencoder_config,
    autoencoder_weights,
    convert_unet,
    text_weights,
)
from freeu.pipelines.models.sources.modelscope_files import CONFIGURATION, CONTEXT, ModelScopeFiles
from freeu.pipelines.models.sources.sources import ModelSource, check_hub

TEXT_MODELS = (
    "damo-vilab/text-to-video-ms-1.7b",
    "ali-vilab/text-to-video-ms-1.7b",
    "cerspense/zeroscope_v2_576w",
    "stabilityai/stable-diffusion-2-1",
)
"""Models of the hub with the same tokenizer and text encoder; the first that is in the cache serves."""


def modelscope_pipeline(
    source: ModelSource, class_name: str, dtype: str = "float32", model_config: Path | None = None
) -> Any:
    """The pipeline of an original checkpoint. No weight is copied beyond what names, shapes and ``dtype`` need.

    Args:
        source: whose ``modelscope`` is set.
        class_name: of the pipeline: TextToVideoSDPipeline, or VideoToVideoSDPipeline of the same parts.
        dtype: a name of torch, such as "float16".
        model_config: a diffusers directory with the tokenizer and the text encoder's configuration; without it they
            come from the local cache of the hub, or from the hub.

    Raises:
        FreeUValueError: no tokenizer, files that are damaged, hold more than weights or do not fit together.
    """
    import diffusers
    import torch

    files = source.modelscope
    assert files is not None
    texts = _text_folder(source.label, model_config)
    number = getattr(torch, dtype)
    tokenizer, text_encoder = _text(source, files.text, texts, number)
    parts = {
        "vae": _autoencoder(source, files.vae, number),
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "unet": _unet(source, files, number),
        "scheduler": noise_schedule(files.timesteps),
    }
    latent = parts["vae"].config.latent_channels
    if latent != files.channels:
        raise FreeUValueError(
            f"{files.vae} has latents of {latent} channels and {files.unet} takes {files.channels}: they do not belong "
            "together"
        )
    return getattr(diffusers, class_name)(**parts)


def noise_schedule(timesteps: int) -> Any:
    """ModelScope's DDIM: ``beta_schedule("linear_sd", timesteps, 0.00085, 0.0120)``, steps from 1 on, no clipping.

    The same steps for any number of them that divides ``timesteps``; for others the original takes one or more extra.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=timesteps,
        beta_start=0.00085,
        beta_end=0.0120,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _unet(source: ModelSource, files: ModelScopeFiles, dtype: Any) -> Any:
    from diffusers import UNet3DConditionModel

    with readable(f"{source.label}/{files.unet}"):
        weights = convert_unet(_read(source, files.unet), files)
        with _empty():
            model = UNet3DConditionModel.from_config(files.unet_config)
        return _filled(model, weights, f"{files.unet} does not fit {CONFIGURATION}", dtype)


def _autoencoder(source: ModelSource, name: str, dtype: Any) -> Any:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    with readable(f"{source.label}/{name}"):
        weights = autoencoder_weights(_read(source, name))
        config = autoencoder_config(weights, name)
        with _empty():
            model = AutoencoderKL.from_config(config)
        converted = convert_ldm_vae_checkpoint(weights, config)
        return _filled(model, converted, f"{name} is no autoencoder that diffusers can be", dtype)


def _text(source: ModelSource, name: str, texts: Path, dtype: Any) -> tuple[Any, Any]:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    with readable(f"{source.label}/{name}"):
        weights, layers = text_weights(_read(source, name), name)
        length, width = weights["positional_embedding"].shape
    if width != CONTEXT:
        raise FreeUValueError(f"{name} makes embeddings of {width} numbers, and the U-Net takes {CONTEXT}")
    with readable(f"the tokenizer and the configuration of the text encoder in {texts}"):
        config = CLIPTextConfig.from_pretrained(texts / "text_encoder", local_files_only=True)
        config.num_hidden_layers, config.hidden_act = layers, "gelu"  # what open_clip's ViT-H has
        with _empty():
            model = CLIPTextModel(config)
        tokenizer = CLIPTokenizer.from_pretrained(texts / "tokenizer", local_files_only=True)
    # open_clip cuts texts at its number of positions and fills up with token 0.
    tokenizer.model_max_length = int(length)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    with readable(f"{source.label}/{name}"):
        converted = convert_open_clip_checkpoint(model, weights, prefix="")
        if not hasattr(model, "text_model"):  # transformers 5.6 took that level away
            converted = {key.removeprefix("text_model."): value for key, value in converted.items()}
        return tokenizer, _filled(model, converted, f"{name} does not fit {texts}/text_encoder/config.json", dtype)


def _empty() -> contextlib.AbstractContextManager[None]:
    """Models built inside take no memory, but for buffers that no file holds."""
    from accelerate import init_empty_weights  # type: ignore[import-untyped]

    empty: contextlib.AbstractContextManager[None] = init_empty_weights(include_buffers=False)
    return empty


def _read(source: ModelSource, name: str) -> dict[str, Any]:
    """The tensors in a file of the checkpoint, without the counters that training leaves beside them."""
    import torch

    assert source.path is not None
    path = source.path / name
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    return {str(key): value for key, value in read_pickled(path).items() if isinstance(value, torch.Tensor)}


def _filled(model: Any, weights: Mapping[str, Any], problem: str, dtype: Any) -> Any:
    """A model that was built without memory, with its weights; every one must be there and of its shape."""
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in weights]
    extra = [key for key in weights if key not in wanted]
    other = [key for key in wanted if key in weights and weights[key].shape != wanted[key].shape]
    if missing or extra or other:
        counts = ((missing, "missing"), (extra, "too many"), (other, "of another shape"))
        told = ", ".join(f"{len(keys)} weights are {what}" for keys, what in counts if keys)
        raise FreeUValueError(f"{problem}: {told}, such as {(missing or extra or other)[0]}")
    model.load_state_dict(weights, strict=True, assign=True)
    return model.to(dtype).eval()


# -- tokenizer and configuration of the text encoder ----------------------------------------------------------------


def _text_folder(label: str, model_config: Path | None) -> Path:
    if model_config is not None:
        if not _has_texts(model_config):
            raise FreeUValueError(
                f"--model-config {model_config} has no tokenizer/ or no text_encoder/config.json: give a directory of "
                f"diffusers of the same kind, such as {TEXT_MODELS[0]}"
            )
        return model_config
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    for name in TEXT_MODELS:
        cached = try_to_load_from_cache(name, "text_encoder/config.json")
        if isinstance(cached, str) and _has_texts(Path(cached).parent.parent):
            return Path(cached).parent.parent
    try:
        check_hub(TEXT_MODELS[0])
        return Path(snapshot_download(TEXT_MODELS[0], allow_patterns=["text_encoder/config.json", "tokenizer/*"]))
    except (FreeUValueError, OSError, ValueError):
        raise FreeUValueError(
            f"the tokenizer that belongs to {label} is not in the local cache and the hub cannot be reached: give "
            f"--model-config, a diffusers directory of the same kind, such as {TEXT_MODELS[0]}"
        ) from None


def _has_texts(folder: Path) -> bool:
    tokens = folder / "tokenizer"
    there = (tokens / "tokenizer.json").is_file() or (
        (tokens / "vocab.json").is_file() and (tokens / "merges.txt").is_file()
    )
    return there and (folder / "text_encoder" / "config.json").is_file()

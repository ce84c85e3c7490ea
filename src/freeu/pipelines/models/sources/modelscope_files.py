"""The folder of an original ModelScope text-to-video checkpoint: what its ``configuration.json`` says, checked.

The layout is that of ``damo/text-to-video-synthesis``, which ``TextToVideoSynthesis`` of the package ``modelscope``
loads. Only this JSON is read here. What ``UNet3DConditionModel`` of diffusers cannot be is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError

CONFIGURATION = "configuration.json"
TASK = "text-to-video-synthesis"
HEADS_IN = 8
"""Heads of the first temporal transformer, which diffusers fixes."""
CONTEXT = 1024
"""Width of the text's embedding, which the decoder of ``UNetSD`` fixes."""
GROUPS = 32
"""Of every norm in ``UNetSD``."""
# Where a U-Net of diffusers would differ: the only value that it can be, and what it stands for.
_ONLY: tuple[tuple[str, Any, str], ...] = (
    ("unet_context_dim", CONTEXT, "its decoder takes text embeddings of this width and no other"),
    ("mean_type", "eps", "the U-Net is taken to predict the noise"),
    ("var_type", "fixed_small", "no other is known to ModelScope's own sampler"),
)


@dataclass(frozen=True)
class ModelScopeFiles:
    """An original checkpoint.

    Args:
        unet, vae, text: names of the files of weights in its folder.
        dim: channels of the first level of the U-Net.
        multiples: channels of each level, in units of ``dim``, from the highest resolution down.
        layers: ResBlocks of each level of the encoder.
        attends: for each level, whether it has attention.
        head: channels of each head of attention.
        channels: of the latents.
        timesteps: of the noise schedule.
        frames: of its videos.
    """

    unet: str
    vae: str
    text: str
    dim: int
    multiples: tuple[int, ...]
    layers: int
    attends: tuple[bool, ...]
    head: int
    channels: int
    timesteps: int
    frames: int

    @property
    def unet_config(self) -> dict[str, Any]:
        """What makes the same U-Net of diffusers' ``UNet3DConditionModel``."""
        return {
            "_class_name": "UNet3DConditionModel",
            "sample_size": 32,  # videos of 256 pixels, as the original generates
            "in_channels": self.channels,
            "out_channels": self.channels,
            "block_out_channels": [self.dim * multiple for multiple in self.multiples],
            "layers_per_block": self.layers,
            "down_block_types": ["CrossAttnDownBlock3D" if has else "DownBlock3D" for has in self.attends],
            "up_block_types": ["CrossAttnUpBlock3D" if has else "UpBlock3D" for has in reversed(self.attends)],
            "cross_attention_dim": CONTEXT,
            "attention_head_dim": self.head,
            "norm_num_groups": GROUPS,
        }


def read_configuration(folder: Path, data: Mapping[str, Any], label: str) -> ModelScopeFiles:
    """What a checkpoint's ``configuration.json`` says.

    Args:
        folder: of the checkpoint.
        data: content of that file.
        label: the model's name, for messages.

    Raises:
        FreeUValueError: another task, a value that is missing or wrong, one that diffusers' U-Net cannot be, or a
            file that is not there.
    """
    task = data.get("task")
    if task != TASK:
        raise FreeUValueError(
            f"{label} is a model of ModelScope for {task!r}: of those, freeu loads the ones for {TASK}, and "
            "otherwise directories of diffusers"
        )
    model = _Section(label, "model", data.get("model"))
    files, cfg = model.inside("model_args"), model.inside("model_cfg")
    for key, only, why in _ONLY:
        if cfg.get(key) != only:
            raise cfg.refusal(key, f"must be {only!r} ({why})")
    if cfg.get("temporal_attention") not in (True, "True"):
        raise cfg.refusal("temporal_attention", "must be 'True' (diffusers' U-Net cannot do without)")
    dim, head = cfg.count("unet_dim"), cfg.count("unet_head_dim")
    multiples = cfg.counts("unet_dim_mult")
    if multiples[0] != 1:
        raise cfg.refusal("unet_dim_mult", "must begin with 1 (diffusers' first level is as wide as what enters it)")
    if dim % GROUPS:
        raise cfg.refusal("unet_dim", f"must be a multiple of {GROUPS}, the groups of its norms")
    scales = cfg.get("unet_attn_scales")
    if not isinstance(scales, list) or not all(isinstance(scale, int | float) for scale in scales):
        raise cfg.refusal("unet_attn_scales", "must be a list of scales, such as [1, 0.5, 0.25]")
    attends = tuple(0.5**level in scales for level in range(len(multiples)))
    for multiple, has in zip(multiples, (*attends[:-1], True), strict=True):  # the middle block always attends
        if has and dim * multiple % head:
            raise cfg.refusal(
                "unet_head_dim", f"must divide the {dim * multiple} channels of every level with attention"
            )
    heads = cfg.get("unet_num_heads") or dim // 32
    if heads != HEADS_IN:
        raise cfg.refusal("unet_num_heads", f"must come to {HEADS_IN} (diffusers fixes it; unset, it is unet_dim / 32)")
    channels = cfg.count("unet_in_dim")
    if cfg.count("unet_out_dim") != channels:
        raise cfg.refusal("unet_out_dim", f"must be {channels}, as unet_in_dim: the variance is not learned")
    return ModelScopeFiles(
        unet=files.file(folder, "ckpt_unet"),
        vae=files.file(folder, "ckpt_autoencoder"),
        text=files.file(folder, "ckpt_clip"),
        dim=dim,
        multiples=multiples,
        layers=cfg.count("unet_res_blocks"),
        attends=attends,
        head=head,
        channels=channels,
        timesteps=cfg.count("num_timesteps"),
        frames=files.count("max_frames") if files.get("max_frames") is not None else 16,
    )


class _Section:
    """An object inside ``configuration.json``, whose errors say where they stand."""

    def __init__(self, label: str, place: str, data: Any) -> None:
        self.label, self.place = label, place
        if not isinstance(data, dict):
            raise FreeUValueError(f"{label}/{CONFIGURATION}: {place} must be a JSON object, got {data!r}")
        self.data = data

    def inside(self, key: str) -> _Section:
        return _Section(self.label, f"{self.place}.{key}", self.data.get(key))

    def get(self, key: str) -> Any:
        return self.data.get(key)

    def refusal(self, key: str, must: str) -> FreeUValueError:
        got = repr(self.data[key]) if key in self.data else "nothing"
        return FreeUValueError(f"{self.label}/{CONFIGURATION}: {self.place}.{key} {must}, got {got}")

    def count(self, key: str) -> int:
        value = self.data.get(key)
        if not _is_count(value):
            raise self.refusal(key, "must be a whole number of at least 1")
        assert isinstance(value, int)
        return value

    def counts(self, key: str) -> tuple[int, ...]:
        value = self.data.get(key)
        if not isinstance(value, list) or not value or not all(_is_count(item) for item in value):
            raise self.refusal(key, "must be a list of whole numbers of at least 1")
        return tuple(value)

    def file(self, folder: Path, key: str) -> str:
        """The name of a file of weights; it must lie in the folder itself, so that nothing else is ever opened."""
        value = self.data.get(key)
        if not isinstance(value, str) or not value or Path(value).name != value or "\\" in value:
            raise self.refusal(key, "must be the name of a file in that folder")
        if not (folder / value).is_file():
            raise FreeUValueError(f"{self.label} has no {value}, which {CONFIGURATION} names ({key}): fetch it again")
        return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

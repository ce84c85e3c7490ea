"""Which settings suit a model: what was measured on it, else what was published for its family."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from freeu.adapters import adapter_for
from freeu.adapters.finding import unet_of
from freeu.config import FreeUConfig
from freeu.presets import presets
from freeu.presets.files import MODEL_PRESET, PresetFile, read_preset

_NAMED_1_5 = re.compile(r"(?:^|[^a-z0-9])(?:sd|v|stable-diffusion)[-_]?v?1[-._]?5(?![0-9])")
"""How folders and hub ids of Stable Diffusion 1.5 are called. A bare "1-5" may be part of a date."""

# What is looked at and what it must be, and the preset then; the first row that fits decides.
_PUBLISHED: tuple[tuple[dict[str, Any], str], ...] = (
    # Configurations of these classes look like those of other families.
    ({"class": "UNet3DConditionModel"}, "modelscope-v1"),
    ({"class": "UNetSD"}, "modelscope-v1"),
    ({"class": "UNetSpatioTemporalConditionModel"}, "gentle"),
    ({"class": "I2VGenXLUNet"}, "gentle"),
    # Version 2 means nothing there.
    ({"class": "StableCascadeUNet"}, "sd14-v1"),
    ({"addition_embed_type": "text_time"}, "sdxl"),
    ({"text width": 2048}, "sdxl"),
    ({"text width": 1024}, "sd21"),
    # 1.4 and 1.5 differ in nothing but their weights, so this one row goes by the name of the folder or hub id.
    ({"text width": 768, "called": "1.5"}, "sd15"),
)
_ELSE = "sd14"
_KINDS = {"sd14": "1", "sd15": "1", "sd21": "2", "sdxl": "XL", "anime": "XL", "modelscope": "video"}
"""Presets that were published for one kind of model, without the version in their names."""


@dataclass(frozen=True)
class Recommendation:
    """Settings for a model, and what speaks for them.

    Args:
        config: the settings.
        name: of the preset.
        measured: whether they were searched and measured on this model (``freeu tune``); else they are published ones.
        helps: what a measurement on this model says: True, False (plain sampling is better or as good, and ``config``
            only shows what FreeU does), or None if there was none.
        evidence: the same in a sentence, with the numbers or the source.

    >>> import freeu
    >>> from diffusers import UNet2DModel
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> unet = UNet2DModel(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    >>> print(freeu.recommendation(unet))
    sd14: b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 (published for Stable Diffusion 1.4, not measured on this model)
    """

    config: FreeUConfig
    name: str
    measured: bool
    helps: bool | None
    evidence: str

    def __str__(self) -> str:
        return f"{self.name}: {self.config} ({self.evidence})"


def recommend(model: Any) -> FreeUConfig:
    """The settings of ``recommendation(model)``.

    Args:
        model: a pipeline, or a U-Net.

    Raises:
        NoSitesError, FreeUValueError: as ``recommendation``.

    >>> import freeu
    >>> from diffusers import UNet2DModel
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> unet = UNet2DModel(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    >>> freeu.recommend(unet) == freeu.preset("sd14")
    True
    """
    return recommendation(model).config


def recommendation(model: Any) -> Recommendation:
    """What was measured on a model, if the file ``freeu.json`` lies in its folder; else what its family was published.

    ``freeu.json`` is a preset file of ``freeu tune``: put its ``preset.json`` there under that name, and the settings
    travel with the model. If it says that FreeU does not help, ``config`` is the published one and ``helps`` False.

    The published preset is that of operator version 2 where there is one. The family is told from the model itself:
    Stable Diffusion XL by its two text encoders, 2.x by the 1024-wide text embedding, 1.x by the 768-wide one (the
    factors of SD 1.4, milder than those of 1.5, unless its name says 1.5); AnimateDiff as its image model. ModelScope's
    kind of U-Net gets the factors published for it, which are of version 1. For Stable Video Diffusion and I2VGen-XL
    none were ever published: they get ``gentle``; Stable Cascade gets those of SD 1.4 in version 1.
    Everything else gets those of SD 1.4: they are also those of SDXL.

    Args:
        model: a pipeline, or a U-Net.

    Raises:
        NoSitesError: a model without a U-Net.
        FreeUValueError: a damaged ``freeu.json``.

    >>> import freeu, freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> found = freeu.recommendation(StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path("mini-sd")))
    >>> found.measured or found.helps is False  # it was searched for this model, whatever came out
    True
    """
    name = published_name(model)
    family = presets()[name]
    path = _preset_of(model)
    if path is None:
        evidence = f"published for {family.family}, not measured on this model"
        return Recommendation(family.config, name, False, None, evidence)
    found = read_preset(path)
    if found.config is None:
        evidence = f"published for {family.family}; measured on this model ({_conditions(found)}): {found.verdict}"
        return Recommendation(family.config, name, False, False, evidence)
    evidence = f"measured on this model ({_conditions(found)}): {found.verdict}"
    return Recommendation(found.config, found.name, True, True, evidence)


def published_name(model: Any) -> str:
    """The name of the preset that was published for a model's family; errors as ``recommendation``."""
    return _recognised(model) or _ELSE


def published_for_others(model: Any, name: str) -> str | None:
    """The family that a preset was published for, if the model is surely of another one.

    Args:
        model: a pipeline, or a U-Net.
        name: of a published preset.
    """
    own, wanted = (_KINDS.get((one or "").removesuffix("-v1")) for one in (_recognised(model, known="sd14"), name))
    return presets()[name].family if own is not None and wanted is not None and own != wanted else None


def _recognised(model: Any, known: str | None = None) -> str | None:
    """The preset of the family that a model is surely of; ``known`` for Stable Diffusion 1.x of no known name."""
    unet = unet_of(model)
    adapter_for(unet)
    configs: list[Any] = [getattr(item, "config", None) for item in (unet, model)]
    config, whole = (item if hasattr(item, "get") else {} for item in configs)
    width = config.get("cross_attention_dim") or getattr(unet, "context_dim", None)
    name = f"{config.get('_name_or_path', '')} {whole.get('_name_or_path', '')}".lower()
    seen: dict[str, set[Any]] = {
        "class": {cls.__name__ for cls in type(unet).__mro__},
        "addition_embed_type": {config.get("addition_embed_type")},
        "text width": {width} if isinstance(width, int) else set(),
        "called": {"1.5"} if _NAMED_1_5.search(name) else set(),
    }
    for wanted, name_of_preset in _PUBLISHED:
        if all(value in seen[what] for what, value in wanted.items()):
            return name_of_preset
    return known if width == 768 else None


def _preset_of(model: Any) -> Path | None:
    """The preset file in the folder from which a pipeline or U-Net was loaded."""
    config = getattr(model, "config", None)
    name = config.get("_name_or_path") if config is not None and hasattr(config, "get") else None
    if not name or not isinstance(name, (str, Path)):
        return None
    folder = Path(name)
    # A U-Net lies in a folder of its own within that of the pipeline.
    folders = [folder, folder.parent] if isinstance(model, nn.Module) else [folder]
    return next((path for one in folders if (path := one / MODEL_PRESET).is_file()), None)


def _conditions(found: PresetFile) -> str:
    return f"{found.steps} steps, CFG scale {found.guidance:g}"

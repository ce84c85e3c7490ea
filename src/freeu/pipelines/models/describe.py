"""The decoder of a model without its weights: enough to list the concatenations of a U-Net of any size in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.extras import need_diffusers
from freeu.json_files import read_json
from freeu.pipelines.models.sources.sources import ModelSource, hub_unet_config
from freeu.profiles import PROFILES


def empty_unet(source: ModelSource, model_config: Path | None = None) -> Any:
    """The U-Net of a model, built from its configuration on torch's "meta" device: no weights, no memory.

    Args:
        source: what ``find_model`` gave.
        model_config: for a single file, a diffusers directory of the same kind; without it the file is loaded whole.

    Raises:
        FreeUValueError: no configuration, or a class that diffusers does not know.
    """
    need_diffusers()
    from freeu.pipelines.models.loading import load, quiet

    if source.kind == "file":
        return load(source, model_config=model_config).pipe.unet
    folder = None
    if source.kind == "hub":
        config = hub_unet_config(source)
    elif source.modelscope is not None:
        config = source.modelscope.unet_config
    else:
        assert source.path is not None
        folder = source.path / "unet" if source.whole else source.path
        config = read_json(folder / "config.json")
    import diffusers
    import torch

    name = str(config.get("_class_name"))
    cls = getattr(diffusers, name, None)
    if cls is None:
        raise FreeUValueError(f"diffusers {diffusers.__version__} knows no U-Net class {name!r}: a newer one may")
    try:
        with quiet(), torch.device("meta"):
            # The name tells families apart whose U-Nets have one shape (Stable Diffusion 1.4 and 1.5), and says
            # where a preset for this very model may lie.
            return cls.from_config({**config, "_name_or_path": str(folder or source.reference)})
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise FreeUValueError(f"the U-Net of {source.label} cannot be built from its config.json: {error}") from None


def describe(model: Any, label: str, config: FreeUConfig) -> dict[str, Any]:
    """Every decoder concatenation with its stage and factors under each profile, as JSON data.

    Args:
        model: a U-Net or a pipeline.
        label: the model's name.
        config: the factors; each profile in turn replaces its own.

    Raises:
        NoSitesError: the model has no skip concatenation that is known.
    """
    import freeu

    found = freeu.inspect(model)
    by_profile = {name: config.replace(profile=name) for name in PROFILES}
    touched = {name: found.touched(config=wanted) for name, wanted in by_profile.items()}
    sites = []
    for site in found.sites:
        profiles = {}
        for name, wanted in by_profile.items():
            factors = found.factors(site, wanted)
            profiles[name] = {
                "stage": site.stage_in(name),
                "b": factors.b,
                "s": factors.s,
                "g": factors.g,
                "touched": site in touched[name],
            }
        sites.append(
            {
                "path": site.path,
                "block": site.block_type,
                "backbone_channels": site.backbone_channels,
                "skip_channels": site.skip_channels,
                "profiles": profiles,
            }
        )
    return {
        "model": label,
        "unet": found.name,
        "config": config.to_dict(),
        "concatenations": len(sites),
        "touched": {name: len(those) for name, those in touched.items()},
        "sites": sites,
    }

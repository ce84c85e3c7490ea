"""The public doors: apply, enabled, remove_all, inspect, active."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from freeu.adapters import adapter_for
from freeu.adapters.auto import AutoUNet, Unsure
from freeu.adapters.finding import unet_of
from freeu.config import FreeUConfig
from freeu.core.patch import Handle, active_handles, remove_handles
from freeu.core.schedule import Clock
from freeu.core.site import Site, factors_at, touched_at
from freeu.errors import unknown_name
from freeu.presets import as_config
from freeu.presets.recommending import recommend
from freeu.profiles import PROFILES
from freeu.schedule import BY_STAGE, Stage, joined


def apply(
    model: Any,
    config: FreeUConfig | str | None = None,
    *,
    scheduler: object | None = None,
    example_args: Sequence[Any] | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Handle:
    """Put FreeU into a pipeline or a U-Net until the handle is removed.

    ``freeu.apply(pipe)`` alone uses ``recommend(pipe)``. While a handle lives, a second ``apply`` on the same model
    replaces it until it is removed itself.

    Args:
        model: a pipeline with a U-Net (of diffusers or ModelScope), or the U-Net.
        config: a ``FreeUConfig``, the name of a preset, or None.
        scheduler: the scheduler that drives the U-Net, for a schedule by fraction or sigma. A pipeline brings its own,
            also if it is exchanged later; what is given here goes before it.
        example_args, example_kwargs: for a U-Net of no known family, what ``model(*example_args, **example_kwargs)``
            takes, such as ``(x, t)``, at any size: one traced call finds its sites. Needed once for a model; all its
            stages count from the widest backbone (stage 1; half of it is stage 2, a quarter stage 3).
        fields: fields of ``FreeUConfig`` (``b=(1.3, 1.4), s=(0.9, 0.2), version=2, profile="official"`` ...); they
            override those of ``config``. ``b1=1.3, b2=1.4, s1=0.9, s2=0.2`` are ``b`` and ``s``, stage by stage.

    Returns:
        the handle; use it in a ``with`` block or call ``remove()``.

    Raises:
        NoSitesError: the model has no skip concatenation that is known.
        FreeUValueError: a bad preset name or field.
        FreeURuntimeError: the model was compiled before, diffusers' own FreeU is active, or another thread is within
            a block of ``enabled`` on this model.

    Warns:
        NoEffectWarning: the configuration is not the identity and touches no site of this model.

    >>> import freeu
    >>> from diffusers import UNet2DModel
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> unet = UNet2DModel(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    >>> handle = freeu.apply(unet, b={"up_blocks.0.resnets.0": 1.3})
    >>> [site.path for site in handle.sites]
    ['up_blocks.0.resnets.0']
    >>> handle.remove()
    """
    return _handle(model, config, scheduler, (example_args, example_kwargs), fields, in_block=False)


def apply_freeu(model: Any, config: FreeUConfig | str, *, scheduler: object | None = None) -> Handle:
    """``apply`` with the name and arguments of diffusers' own hooks, such as ``apply_faster_cache(module, config)``.

    Args:
        model: a U-Net, or a pipeline with one.
        config: a ``FreeUConfig``, or the name of a preset.
        scheduler: as for ``apply``.

    Returns:
        the handle of ``apply``; diffusers' functions return nothing.

    Raises:
        as ``apply``; FreeUValueError for no configuration.

    >>> import freeu
    >>> from diffusers import UNet2DModel
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> unet = UNet2DModel(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    >>> handle = freeu.apply_freeu(unet, freeu.FreeUConfig(b={"up_blocks.0.resnets.0": 1.3}))
    >>> [site.path for site in handle.sites]
    ['up_blocks.0.resnets.0']
    >>> handle.remove()
    """
    return _handle(model, as_config(config), scheduler, (None, None), {}, in_block=False)


def enabled(
    model: Any,
    config: FreeUConfig | str | None = None,
    *,
    scheduler: object | None = None,
    example_args: Sequence[Any] | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Handle:
    """FreeU for the length of a ``with`` block; the arguments are those of ``apply``.

    What is applied to the model within the block must be removed before its end. Until then no other thread can apply
    FreeU to the same model; calls of the model may come from any thread.

    >>> import freeu
    >>> from diffusers import UNet2DModel
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> unet = UNet2DModel(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    >>> with freeu.enabled(unet, b={"up_blocks.0.resnets.0": 1.3}) as handle:
    ...     print(len(handle.sites), freeu.active(unet) == (handle,))
    1 True
    >>> freeu.active(unet)
    ()
    """
    return _handle(model, config, scheduler, (example_args, example_kwargs), fields, in_block=True)


def active(model: Any) -> tuple[Handle, ...]:
    """Handles that live on a pipeline or U-Net (or on a deep copy of one), outermost first; the last is in effect.

    >>> import freeu
    >>> from diffusers import UNet2DModel
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> unet = UNet2DModel(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    >>> freeu.active(unet)
    ()
    """
    return active_handles(unet_of(model))


def remove_all(model: Any) -> None:
    """Remove every handle that lives on a pipeline or U-Net (or on a deep copy of one), the innermost first.

    Outputs are bit-identical to those before the first ``apply``. A model without FreeU is left as it is.

    >>> import freeu
    >>> from diffusers import UNet2DModel
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> unet = UNet2DModel(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    >>> handles = [freeu.apply(unet, b={"up_blocks.0.resnets.0": b}) for b in (1.2, 1.3)]
    >>> freeu.remove_all(unet)
    >>> freeu.active(unet)
    ()
    """
    remove_handles(unet_of(model))


class Inspection:
    """Every decoder concatenation of a U-Net; iterates over its sites and prints as a table.

    Attributes:
        sites: all concatenations in the order of the decoder.
        unsure: concatenations that join a backbone with a skip and are left alone, each with ``where``, ``channels``
            and the ``reason``; empty for known families.
    """

    def __init__(self, name: str, sites: list[Site], unsure: Sequence[Unsure] = ()) -> None:
        self.name = name
        self.sites = tuple(sites)
        self.unsure = tuple(unsure)

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def touched(self, profile: str = "official", config: FreeUConfig | None = None) -> tuple[Site, ...]:
        """The sites that a profile touches with a factor for each of two stages, or those that ``config`` touches."""
        wanted = config or FreeUConfig(b=(2.0, 2.0), s=(0.0, 0.0), profile=profile)
        found = zip(self.sites, factors_at(self.sites, wanted), strict=True)
        return tuple(site for site, gains in found if touched_at(*gains))

    def factors(self, site: Site, config: FreeUConfig) -> Stage:
        """Factors of a site under a configuration, the schedule left aside."""
        return factors_at(self.sites, config)[self.sites.index(site)][0]

    def __str__(self) -> str:
        head = ["site", "block", "backbone", "skip", *PROFILES]
        rows = [head]
        for site in self.sites:
            stages = [site.stage_in(name) for name in PROFILES]
            marks = [f"stage {stage}" if stage else "-" for stage in stages]
            rows.append([site.path, site.block_type, str(site.backbone_channels), str(site.skip_channels), *marks])
        counts = [f"{len(self.touched(name))} touched" for name in PROFILES]
        rows.append([f"{len(self.sites)} concatenations", "", "", "", *counts])
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        left = [f"left alone: {one.where}, {' + '.join(map(str, one.channels))}: {one.reason}" for one in self.unsure]
        said = "touched: with factors for two stages; three factors use stage 3 too"
        return "\n".join([self.name, *lines, said, *left])

    __repr__ = __str__


def inspect(
    model: Any, *, example_args: Sequence[Any] | None = None, example_kwargs: Mapping[str, Any] | None = None
) -> Inspection:
    """List every decoder concatenation of a pipeline's U-Net or of a U-Net, with its stage under each profile.

    Args:
        model: a pipeline, a U-Net, or any module.
        example_args, example_kwargs: as for ``apply``.

    Raises:
        NoSitesError: the model has no skip concatenation that is known.
        FreeUValueError: the model does not take the example.

    >>> import freeu
    >>> from diffusers import UNet2DModel
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> unet = UNet2DModel(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    >>> [(site.path, site.skip_channels) for site in freeu.inspect(unet).sites][:2]
    [('up_blocks.0.resnets.0', 16), ('up_blocks.0.resnets.1', 8)]
    """
    unet = unet_of(model)
    adapter = adapter_for(unet, example_args, example_kwargs)
    unsure = adapter.found.unsure if isinstance(adapter, AutoUNet) else ()
    return Inspection(type(unet).__name__, adapter.find_sites(unet), unsure)


def _handle(
    model: Any,
    config: FreeUConfig | str | None,
    scheduler: object | None,
    example: tuple[Sequence[Any] | None, Mapping[str, Any] | None],
    fields: dict[str, Any],
    in_block: bool,
) -> Handle:
    unet = unet_of(model)
    adapter = adapter_for(unet, *example)
    clock = Clock(None if isinstance(model, nn.Module) else model, scheduler)
    return Handle(
        unet, adapter.find_sites(unet), _resolve(model, config, fields), adapter.host, clock, in_block=in_block
    )


def _resolve(model: Any, config: FreeUConfig | str | None, fields: dict[str, Any]) -> FreeUConfig:
    known = {item.name for item in dataclasses.fields(FreeUConfig)} | BY_STAGE
    for name in fields:
        if name not in known:
            raise unknown_name("argument", name, known)
    if config is not None:
        return as_config(config).replace(**fields)
    if {"b", "s", "sites", *BY_STAGE} & fields.keys():
        return FreeUConfig(**joined(fields))
    return recommend(model).replace(**fields)

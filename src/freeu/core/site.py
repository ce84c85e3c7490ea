"""A site: one place where a decoder hands the concatenation of backbone and skip to a module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from freeu.config import FreeUConfig
from freeu.errors import FreeURuntimeError
from freeu.ops._checks import untraced
from freeu.profiles import profile
from freeu.schedule import Stage


@dataclass(frozen=True, eq=False)
class Site:
    """One decoder concatenation, found by an adapter.

    Args:
        path: dotted path from the U-Net to ``module``.
        module: receives the concatenated features (B, backbone + skip, H, W) as its first argument; or (B, C, L) and
            (B, C, D, H, W), where the maps have one or three dimensions.
        backbone_channels: how many channels come up the decoder.
        skip_channels: how many come from the encoder.
        model_channels: base width of the U-Net; stages are multiples of it.
        block: index of the up-block, 0 at the lowest resolution.
        block_type: class name of the up-block.
        skip_number: which of the encoder's outputs the skip is, 0 the last; None where ControlNets are not known.
        backbone_first: whether the backbone stands before the skip in the concatenation, as everywhere but in some
            U-Nets of no known family.
    """

    path: str
    module: nn.Module = field(repr=False)
    backbone_channels: int
    skip_channels: int
    model_channels: int
    block: int
    block_type: str
    skip_number: int | None = None
    backbone_first: bool = True

    @property
    def stage(self) -> int | None:
        """Stage under the official profile: 1 at 4x the base width, 2 at 2x, 3 at 1x, None elsewhere."""
        return self.stage_in("official")

    def stage_in(self, name: str) -> int | None:
        """Stage under a named profile; None where that tool leaves the site alone."""
        return profile(name).stage(self.backbone_channels, self.model_channels, self.block, self.block_type)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the backbone and skip channels of the concatenated features.

        Raises:
            FreeURuntimeError: x does not have the channels that the adapter promised.
        """
        total = self.backbone_channels + self.skip_channels
        if x.dim() < 2 or untraced(x.shape[1]) != total:
            raise FreeURuntimeError(
                f"{self.path} should receive {self.backbone_channels} + {self.skip_channels} = {total} channels, "
                f"got features of shape {tuple(x.shape)}: the U-Net was changed since freeu.apply"
            )
        if self.backbone_first:
            return x[:, : self.backbone_channels], x[:, self.backbone_channels :]
        return x[:, self.skip_channels :], x[:, : self.skip_channels]

    def join(self, backbone: Tensor, skip: Tensor) -> Tensor:
        """A new concatenation, in the order of this site."""
        return torch.cat([backbone, skip] if self.backbone_first else [skip, backbone], dim=1)


def factors_at(sites: Sequence[Site], config: FreeUConfig) -> list[tuple[Stage, float]]:
    """What a configuration does at each site of a decoder: its factors, and the gain of the skip's other frequencies.

    ``strength`` is in both, the schedule in neither. A site that no stage and no override names keeps ``high_gain`` 1.

    Args:
        sites: every concatenation of the decoder in its order, which ``skip_gain_ends`` goes by.
        config: the settings.
    """
    named = dict(config.sites)
    found = []
    for number, site in enumerate(sites):
        stage = site.stage_in(config.profile)
        factors = config.factors(stage, site.path, number / max(len(sites) - 1, 1))
        within = (stage is not None and stage <= len(config.stages)) or site.path in named
        found.append((factors, 1.0 + config.strength * (config.high_gain - 1.0) if within else 1.0))
    return found


def touched_at(factors: Stage, high_gain: float) -> bool:
    """Whether any gain of a site differs from 1."""
    return not factors.identity or high_gain != 1.0

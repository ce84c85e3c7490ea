"""Named semantics: which concatenations a tool touches, and as which stage. Data only; no torch.

The same four numbers (b1, b2, s1, s2) mean different operators in different tools. A profile says *where* a tool acts,
the configuration's ``version`` says *how*.
"""

from __future__ import annotations

from dataclasses import dataclass

from freeu.config import PROFILE_VERSIONS
from freeu.errors import unknown_name


@dataclass(frozen=True)
class Profile:
    """Where one tool applies FreeU.

    Args:
        name: as in ``FreeUConfig.profile``.
        rule: "channels": stage 1 where the backbone has 4 * model_channels channels, 2 at 2 *, 3 at 1 *;
            "block": stage 1 in the first up-block, 2 in the second.
        blocks: class names of the up-blocks that the tool supports; empty means all.
        summary: one line for people.
        source: where the rule was read.
    """

    name: str
    rule: str
    summary: str
    source: str
    blocks: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """Operator version that this tool applies unless told otherwise."""
        return PROFILE_VERSIONS[self.name]

    def stage(self, backbone_channels: int, model_channels: int, block: int, block_type: str) -> int | None:
        """Stage (1, 2, 3) of a concatenation, or None where this tool leaves it alone.

        Args:
            backbone_channels: channels of the backbone features at the concatenation.
            model_channels: base width of the U-Net (320 in Stable Diffusion).
            block: index of the up-block, 0 at the lowest resolution.
            block_type: class name of the up-block.
        """
        if self.rule == "channels":
            return {4 * model_channels: 1, 2 * model_channels: 2, model_channels: 3}.get(backbone_channels)
        if self.blocks and block_type not in self.blocks:
            return None
        return {0: 1, 1: 2}.get(block)


# The up-blocks whose forward in diffusers 0.42 calls apply_freeu.
_DIFFUSERS_BLOCKS = (
    "UpBlock2D",
    "CrossAttnUpBlock2D",
    "UpBlock3D",
    "CrossAttnUpBlock3D",
    "UpBlockMotion",
    "CrossAttnUpBlockMotion",
    "DreamLiteUpBlock2D",
    "DreamLiteCrossAttnUpBlock2D",
    "DreamLiteCrossAttnNoSelfAttnUpBlock2D",
    "ControlNetXSCrossAttnUpBlock2D",
)

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "official",
            "channels",
            "by channel count: 4x, 2x (and 1x) the base width",
            "ChenyangSi/FreeU README",
        ),
        Profile(
            "diffusers",
            "block",
            "by index: the first and the second up-block",
            "diffusers.utils.torch_utils.apply_freeu",
            _DIFFUSERS_BLOCKS,
        ),
        Profile(
            "comfyui",
            "channels",
            "by channel count, as FreeU and FreeU_V2",
            "comfy_extras/nodes_freelunch.py",
        ),
        Profile(
            "a1111", "channels", "by channel count, three stages, C // 2 + 1 channels amplified", "ljleb/sd-webui-freeu"
        ),
    )
}
assert PROFILES.keys() == PROFILE_VERSIONS.keys()


def profile(name: str) -> Profile:
    """The profile of that name; an unknown name raises ``FreeUValueError`` with the nearest ones."""
    try:
        return PROFILES[name]
    except KeyError:
        raise unknown_name("profile", name, PROFILES) from None

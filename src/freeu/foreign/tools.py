"""What the FreeU of other tools can be told: operator versions, stages, ranges, and what else of a configuration.

Data only; no torch. Where a tool acts is in ``profiles``; this says which of a configuration's fields it has at all.
Read in the tools' sources, 2024 to 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

from freeu.errors import unknown_name


@dataclass(frozen=True)
class Tool:
    """The FreeU of one tool.

    Args:
        name: short, as in ``freeu.convert(to=...)``.
        title: its own name.
        profile: where it acts, a name of ``profiles.PROFILES``.
        versions: of the operator that it has.
        source: where that was read.
        stages: how many pairs of factors it takes; 0 is one for each concatenation in turn, from the lowest
            resolution, and then ``profile`` is not used.
        b_range, s_range: smallest and largest factors that its controls take.
        more: fields of a configuration that it has besides: "start", "end", "high_gain" and "channels". The a1111
            extension rounds start and end down to whole steps, and freeu rounds them up; where steps times fraction is
            whole, both are the same.
        control: whether it filters the skip "after" or "before" a ControlNet has added to it.
        zero_is_off: whether a factor of 0 switches all of it off.
    """

    name: str
    title: str
    profile: str
    versions: tuple[int, ...]
    source: str
    stages: int = 2
    b_range: tuple[float, float] = (0.0, 10.0)
    s_range: tuple[float, float] = (0.0, 10.0)
    more: tuple[str, ...] = ()
    control: str = "after"
    zero_is_off: bool = False


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("official", "the official code", "official", (1, 2), "ChenyangSi/FreeU: README, demo"),
        Tool(
            "diffusers",
            "enable_freeu of diffusers",
            "diffusers",
            (1,),
            "diffusers.utils.torch_utils.apply_freeu",
            zero_is_off=True,
        ),
        Tool("comfyui", "the nodes FreeU and FreeU_V2", "comfyui", (1, 2), "comfy_extras/nodes_freelunch.py"),
        Tool(
            "a1111",
            "sd-webui-freeu",
            "a1111",
            (1, 2),
            "ljleb/sd-webui-freeu: lib_free_u",
            stages=3,
            more=("start", "end", "high_gain", "channels"),
        ),
        Tool(
            "forge",
            "FreeU Integrated of Forge",
            "official",
            (2,),
            "extensions-builtin/sd_forge_freeu",
            b_range=(0.0, 2.0),
            s_range=(0.0, 4.0),
        ),
        Tool(
            "fooocus",
            "Fooocus",
            "official",
            (2,),
            "lllyasviel/Fooocus: FreeU_V2",
            b_range=(0.0, 2.0),
            s_range=(0.0, 4.0),
        ),
        Tool(
            "invokeai",
            "InvokeAI's node FreeU",
            "diffusers",
            (1,),
            "invokeai: FreeUInvocation",
            b_range=(0.0, 3.0),
            s_range=(0.0, 3.0),
            zero_is_off=True,
        ),
        Tool(
            "refiners", "SDFreeUAdapter of refiners", "official", (1,), "refiners: latent_diffusion/freeu.py", stages=0
        ),
        Tool(
            "sdnext",
            "SD.Next",
            "diffusers",
            (1,),
            "vladmandic/sdnext: modules/sd_hijack_freeu.py and its settings",
            b_range=(1.0, 2.0),
            s_range=(0.0, 1.0),
            zero_is_off=True,
        ),
        Tool("was", "FreeU (Advanced) of WAS", "comfyui", (1,), "WASasquatch/FreeU_Advanced: nodes.py"),
        Tool("bleh", "BlehBlockOps", "comfyui", (1, 2), "blepping/ComfyUI-bleh: ops.py, docs", stages=3),
        Tool("rerender", "Rerender A Video", "official", (2,), "williamyang1991/Rerender_A_Video", control="before"),
    )
}


def tool(name: str) -> Tool:
    """The tool of that name; an unknown name raises ``FreeUValueError`` with the nearest ones."""
    try:
        return TOOLS[name]
    except KeyError:
        raise unknown_name("tool", name, TOOLS) from None

"""``freeu.convert``: the settings with which another tool does the same to a model, or what it cannot be told.

The same four numbers touch other concatenations in each tool (``profiles``), so numbers alone cannot be converted: what
a configuration does at each concatenation of a model is compared with what the tool can do there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from freeu.adapters import adapter_for
from freeu.adapters.finding import unet_of
from freeu.config import FreeUConfig
from freeu.core.site import Site, factors_at
from freeu.foreign.parameters import write_fields
from freeu.foreign.tools import Tool, tool
from freeu.presets import as_config
from freeu.schedule import Stage

# What no tool has, and the value at which it does nothing. Gains of the whole skip are looked at site by site.
_OURS_ALONE: Mapping[str, Any] = {
    "share": "none",
    "guidance": "both",
    "ramp": 0.0,
    "b_window": (0.0, 1.0),
    "s_window": (0.0, 1.0),
    "over_time": "frame",
    "frame_strength": (),
    "time_threshold": 0,
}
_OF_THE_FILTER: Mapping[str, Any] = {"mask": "window", "threshold": 1, "dc": "scale"}
"""The same, where a skip is filtered at all."""
_WHOLE = {"start": 0.0, "end": 1.0}
_NOTHING = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class SiteFactors:
    """A concatenation, and what a configuration does there.

    Args:
        path: of the site in the U-Net.
        factors: after ``strength``.
        high_gain: gain of the skip's other frequencies.
        place: the tool's stage for it, or its number in a tool of one pair for each; None if the tool leaves it alone.
    """

    path: str
    factors: Stage
    high_gain: float
    place: int | None

    @property
    def pair(self) -> tuple[float, float, float]:
        """What a tool has by stage: b, s, and the gain of the other frequencies."""
        return self.factors.b, self.factors.s, self.high_gain


@dataclass(frozen=True)
class Conversion:
    """What ``convert`` found.

    Args:
        tool: the name of the tool.
        settings: its own parameters by name; None if it cannot do the same.
        text: how they are entered there, to copy; empty without ``settings``.
        config: the same as a configuration of freeu in that tool's profile; None without ``settings``.
        sites: every concatenation in the decoder's order, with its factors.
        lost: what the tool cannot be told, a sentence each; empty if nothing.
    """

    tool: str
    settings: Mapping[str, Any] | None
    text: str
    config: FreeUConfig | None
    sites: tuple[SiteFactors, ...]
    lost: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether the tool does the same; ``start`` and ``end`` in a1111 where they fall on whole steps (``tools``)."""
        return not self.lost


def convert(config: FreeUConfig | str, to: str, model: Any, *, region: Any = None) -> Conversion:
    """The settings with which a tool does to a model what a configuration does.

    Args:
        config: settings, or the name of a preset.
        to: a name of ``freeu.foreign.tools.TOOLS``: "official", "diffusers", "comfyui", "a1111", "forge", "fooocus",
            "invokeai", "refiners", "sdnext", "was", "bleh", "rerender".
        model: a pipeline or a U-Net, for which tools agree or not; weights are not looked at.
        region: a mask as in ``freeu.apply``; anything but None is lost, for no tool has regions.

    Returns:
        the settings, or what is lost.

    Raises:
        FreeUValueError: an unknown tool or preset.
        NoSitesError: the model has no skip concatenation that is known.

    >>> import freeu
    >>> from diffusers import UNet2DConditionModel
    >>> unet = UNet2DConditionModel(block_out_channels=(32, 64, 128, 128), norm_num_groups=8, cross_attention_dim=16)
    >>> freeu.convert("sd15", to="comfyui", model=unet).text
    'FreeU_V2: b1=1.5, b2=1.6, s1=0.9, s2=0.2'
    >>> freeu.convert("sd15", to="diffusers", model=unet).lost[0]
    'it has no version 2'
    """
    wanted, target = as_config(config), tool(to)
    unet = unet_of(model)
    sites = adapter_for(unet).find_sites(unet)
    found = factors_at(sites, wanted)
    places = [_place(target, site, number) for number, site in enumerate(sites)]
    rows = tuple(
        SiteFactors(site.path, factors, high_gain, place)
        for site, (factors, high_gain), place in zip(sites, found, places, strict=True)
    )
    stages, clashes = _stages(rows, target)
    lost = [*_lost_fields(wanted, target, rows), *_lost_gains(rows, target), *clashes, *_lost_values(stages, target)]
    if region is not None:
        lost.append("no other tool has regions: FreeU acts there on the whole image")
    if lost:
        return Conversion(to, None, "", None, rows, tuple(lost))
    version = wanted.version if wanted.version in target.versions else target.versions[-1]  # without b they are one
    settings = _settings(wanted, target, stages, sites, version)
    same = _config(wanted, target, stages, sites, version)
    return Conversion(to, settings, TEXTS[target.name](settings), same, rows, ())


def _place(target: Tool, site: Site, number: int) -> int | None:
    """The stage of the tool that acts on a site, counted from 1; in a tool of one pair for each, the site's number."""
    if target.stages == 0:
        return number + 1
    stage = site.stage_in(target.profile)
    return stage if stage is not None and stage <= target.stages else None


def _lost_fields(wanted: FreeUConfig, target: Tool, rows: Sequence[SiteFactors]) -> list[str]:
    """Fields of a configuration that the tool does not have and that do something here."""
    lost = []
    amplified = any(row.factors.b != 1.0 for row in rows)
    filtered = any(row.factors.s != 1.0 or row.high_gain != 1.0 for row in rows)
    if amplified and wanted.version not in target.versions:
        lost.append(f"it has no version {wanted.version}")
    alone = {**_OURS_ALONE, **(_OF_THE_FILTER if filtered else {})}
    if not amplified:
        del alone["share"], alone["over_time"]  # both are about the structure map
    alone |= {name: value for name, value in _WHOLE.items() if name not in target.more}
    names = [name for name, value in alone.items() if getattr(wanted, name) != value]
    if wanted.timed and wanted.unit != "fraction" and not {"start", "end"} & {*names}:
        names.append("unit")
    own = "first-inclusive" if target.profile == "a1111" else "first"
    if amplified and wanted.channels != own and not ("channels" in target.more and wanted.channels == "first"):
        names.append("channels")
    if filtered and wanted.control != target.control:
        lost.append(f"it filters skips {target.control} a ControlNet adds to them, and here that is {wanted.control}")
    return lost + [f"it has no {name}, and here that is {getattr(wanted, name)!r}" for name in names]


def _lost_gains(rows: Sequence[SiteFactors], target: Tool) -> list[str]:
    """Gains that act elsewhere than on the low frequencies of a skip."""
    lost = []
    whole = sorted({row.factors.g for row in rows} - {1.0})
    if whole:
        lost.append(f"it has no skip_gain, and here that is {', '.join(f'{g:g}' for g in whole)}")
    high = sorted({row.high_gain for row in rows} - {1.0})
    if high and "high_gain" not in target.more:
        lost.append(f"it has no high_gain, and here that is {high[0]:g}")
    return lost


def _lost_values(stages: Sequence[tuple[float, float, float]], target: Tool) -> list[str]:
    """Factors that the tool does not take, or takes for another thing."""
    lost = []
    for name, limits, values in (
        ("b", target.b_range, {b for b, _, _ in stages}),
        ("s", target.s_range, {s for _, s, _ in stages}),
    ):
        for value in sorted(values):
            if not limits[0] <= value <= limits[1]:
                lost.append(f"it takes {name} from {limits[0]:g} to {limits[1]:g}, and here that is {value:g}")
    if target.zero_is_off and any(0.0 in stage[:2] for stage in stages):
        lost.append("it is off as a whole where a factor is 0")
    return lost


def _stages(rows: Sequence[SiteFactors], target: Tool) -> tuple[list[tuple[float, float, float]], list[str]]:
    """The tool's factors by stage, and the sites at which they are not those that are wanted."""
    firsts: dict[int, SiteFactors] = {}
    clashing: set[int] = set()
    lost = []
    for row in rows:
        if row.place is None:
            if row.pair != _NOTHING:
                lost.append(f"it leaves {row.path} alone, and here that has {_shown(row)}")
            continue
        first = firsts.setdefault(row.place, row)
        if row.pair != first.pair and row.place not in clashing:
            clashing.add(row.place)
            lost.append(
                f"it has the same factors for {first.path} and {row.path}, "
                f"and here they have {_shown(first)} and {_shown(row)}"
            )
    places = range(1, (target.stages or len(rows)) + 1)
    return [firsts[place].pair if place in firsts else _NOTHING for place in places], lost


def _shown(row: SiteFactors) -> str:
    return f"b {row.factors.b:g} s {row.factors.s:g}"


def _config(
    wanted: FreeUConfig, target: Tool, stages: Sequence[tuple[float, float, float]], sites: Sequence[Site], version: int
) -> FreeUConfig:
    """The same settings in the tool's own terms: its profile, factors by stage, no strength."""
    kept = {name: getattr(wanted, name) for name in (*_WHOLE, "unit", "control")}
    if target.stages == 0:
        pairs = [(site.path, Stage(b, s)) for site, (b, s, _) in zip(sites, stages, strict=True)]
        own = tuple((path, pair) for path, pair in pairs if not pair.identity)
        return FreeUConfig(sites=own, version=version, **kept)
    while len(stages) > 2 and stages[-1] == _NOTHING:
        stages = stages[:-1]
    return FreeUConfig(
        b=tuple(b for b, _, _ in stages),
        s=tuple(s for _, s, _ in stages),
        version=version,
        profile=target.profile,
        channels=wanted.channels,
        high_gain=max((high for _, _, high in stages), key=lambda gain: abs(gain - 1.0)),
        **kept,
    )


def _settings(
    wanted: FreeUConfig, target: Tool, stages: Sequence[tuple[float, float, float]], sites: Sequence[Site], version: int
) -> dict[str, Any]:
    """The tool's own parameters."""
    if target.stages == 0:
        while len(stages) > 1 and stages[-1] == _NOTHING:
            stages = stages[:-1]
        return {"backbone_scales": [b for b, _, _ in stages], "skip_scales": [s for _, s, _ in stages]}
    if target.name == "a1111":
        channels = {site.stage_in(target.profile): site.backbone_channels for site in sites}
        rows = [
            _stage_of_the_extension(pair, channels.get(number) if wanted.channels == "first" else None)
            for number, pair in enumerate(stages, start=1)
        ]
        return {"version": version, "start": wanted.start, "end": wanted.end, "stages": rows}
    plain = {
        f"{name}{number}": stage["bs".index(name)] for name in "bs" for number, stage in enumerate(stages, start=1)
    }
    return plain if len(target.versions) == 1 else {"version": version, **plain}


def _stage_of_the_extension(pair: tuple[float, float, float], channels: int | None) -> dict[str, float]:
    """One stage of sd-webui-freeu; what is left out is its default.

    Args:
        pair: b, s and the gain of the other frequencies.
        channels: of the backbone, half of which are to be amplified; None amplifies one more, as it does by itself.
    """
    names = ("backbone_factor", "skip_factor", "skip_high_end_factor")
    found = {name: value for name, value in zip(names, pair, strict=True) if value != 1.0}
    if channels is not None and pair[0] != 1.0:
        # Its window ends with the channel round(width * channels), that one included.
        found["backbone_width"] = 0.5 - 1.0 / channels
    return found


def _plain(before: str, after: str = "") -> Callable[[Mapping[str, Any]], str]:
    """Names and values with commas between them."""
    return lambda found: before + ", ".join(f"{name}={value!r}" for name, value in found.items()) + after


def _node(found: Mapping[str, Any]) -> str:
    values = {name: value for name, value in found.items() if name != "version"}
    return _plain("FreeU_V2: " if found["version"] == 2 else "FreeU: ")(values)


def _extension(found: Mapping[str, Any]) -> str:
    return write_fields(
        {
            "FreeU Stages": json.dumps(found["stages"]),
            "FreeU Schedule": f"{found['start']}, {found['end']}, 0.0",
            "FreeU Version": str(found["version"]),
        }
    )


def _was(found: Mapping[str, Any]) -> str:
    """The widgets of WAS' node at which it multiplies and filters as FreeU does: its default blends normalise."""
    values = {"target_block": "output_block", "multiscale_mode": "Default", "slice_b1": 640, "slice_b2": 320}
    return _plain("FreeU (Advanced): ")({**values, **found, "b1_mode": "lerp", "b2_mode": "lerp"})


def _bleh(found: Mapping[str, Any]) -> str:
    """Rules in YAML, of which JSON is a part: half of the channels with or without the map, then the skip."""
    rules = []
    for stage in (1, 2, 3):
        b, s = found[f"b{stage}"], found[f"s{stage}"]
        ops = [["slice", 0.5, b, 1.0, "lerp", found["version"] == 2]] if b != 1.0 else []
        ops += [["target_skip", True], ["ffilter", s, "none", 1.0, 1]] if s != 1.0 else []
        if ops:
            rules.append({"if": {"type": "output", "stage": stage}, "ops": ops})
    return json.dumps(rules)


TEXTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "official": _plain(""),
    "diffusers": _plain("pipe.enable_freeu(", ")"),
    "comfyui": _node,
    "a1111": _extension,
    "forge": lambda found: ", ".join(["freeu_enabled: True", *(f"freeu_{name}: {one}" for name, one in found.items())]),
    "fooocus": lambda found: f"freeu: {tuple(found.values())}",
    "invokeai": lambda found: json.dumps({"type": "freeu", **found}),
    "sdnext": lambda found: "FreeU: " + " ".join(f"{name}={value!r}" for name, value in found.items()),
    "was": _was,
    "bleh": _bleh,
    "refiners": _plain("SDFreeUAdapter(unet, ", ").inject()"),
    "rerender": lambda found: json.dumps({"freeu_args": list(found.values())}),
}
"""How settings are entered in each tool: Python, the widgets of a node, or the text that its images carry."""

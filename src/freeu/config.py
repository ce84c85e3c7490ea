"""What FreeU should do, as one frozen value: factors, operator version, profile, mask, schedule. No torch here.

A ``FreeUConfig`` says everything that is needed to repeat a result: the same numbers mean different operators in
different tools, so the operator ``version`` and the ``profile`` (which concatenations are touched) travel with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from freeu.errors import FreeUValueError, shown, unknown_name
from freeu.json_files import parse_json
from freeu.schedule import (
    FACTOR_RANGE,
    Schedule,
    Stage,
    checked_bins,
    checked_choice,
    checked_number,
    checked_strengths,
    site_factors,
    stage_factors,
)

MASKS = ("window", "radial", "symmetric", "gaussian")
DC = ("scale", "keep", "only")
CHANNELS = ("first", "second", "even", "all", "first-inclusive")
SHARES = ("none", "guidance")
GUIDANCE = ("both", "conditional")
OVER_TIME = ("frame", "clip", "smooth", "shared")
CONTROL = ("after", "before")
VERSIONS = (1, 2)
# Operator version of each profile unless told otherwise: diffusers has version 1 alone, and the A1111 extension began
# with it; the official README and ComfyUI's FreeU_V2 are version 2.
PROFILE_VERSIONS = {"official": 2, "diffusers": 1, "comfyui": 2, "a1111": 1}
# Names that say both at once, as users of those tools know them.
PROFILE_ALIASES = {
    "official-v1": ("official", 1),
    "official-v2": ("official", 2),
    "comfyui-v1": ("comfyui", 1),
    "comfyui-v2": ("comfyui", 2),
    "a1111-v1": ("a1111", 1),
    "a1111-v2": ("a1111", 2),
}
JSON_SCHEMA = 1

Factors = tuple[float, ...] | Mapping[int | str, float]
ChannelSpec = str | float | tuple[float, float]


@dataclass(frozen=True)
class FreeUConfig:
    """Everything that decides what FreeU does to a model: frozen, checked, hashable, and printable without loss.

    Args:
        b: backbone gains, one per stage (2 or 3 stages), each in 0..10; or a mapping from stage number (1, 2, 3) or
            site path to gain. 1 is the identity, 0 is a value.
        s: skip low-frequency gains, in the same form.
        version: 1 scales by the constant b, 2 by the structure map (FreeU Eq. 3). Default: that of the profile, also
            after ``replace(profile=...)``; a version that was named stays.
        profile: which concatenations are touched and as which stage: "official" and "comfyui" by channel count,
            "diffusers" by up-block index, "a1111" by channel count with one channel more than half. A name such as
            "comfyui-v1" sets the version too.
        mask: low-frequency region: "window" (the published code), "radial" (Eq. 8), "symmetric", "gaussian".
        threshold: half-width of that region in frequency bins, an integer of at least 1.
        channels: the backbone channels that are amplified: "first" (the first C // 2), "second", "even", "all",
            "first-inclusive", a fraction in (0, 1] of the channels counted from the first, or a pair (start, stop) of
            fractions. Default: that of the profile, as for ``version``.
        high_gain: gain of the skip's frequencies outside the region, in 0..10.
        share: "none": one structure map per sample; "guidance": the conditional and unconditional half share one.
        guidance: "both": act on both halves of classifier-free guidance; "conditional": on the conditional half only.
        start, end, ramp, unit: see ``Schedule``.
        strength: 0..1, interpolates every factor from the identity to its value.
        over_time: for video and version 2, what of the structure map the frames of a video have in common: "frame"
            nothing, as published; "clip" its minimum and maximum; "smooth" the same, smoothed over neighbouring frames;
            "shared" the whole map, the mean of theirs.
        frame_strength: for video, strengths in 0..1 (as ``strength``) at equal distances from the first frame to the
            last, linear in between; empty: 1 everywhere.
        time_threshold: for video, 0 filters the skip of every frame by itself, as published; from 1 on the transform is
            over (T, H, W), and the low band holds what is low in the image and slower than this many bins over time.
        control: "after": the skip is filtered with the residual that a ControlNet added to it, as every pipeline does;
            "before": without it, as Rerender A Video does. Without a ControlNet both are the same.
        sites: factors of single sites that override their stage's: mapping from site path to ``Stage`` or (b, s),
            kept as a sorted tuple.

    Raises:
        FreeUValueError: a field outside its range, with the value and the range.

    >>> FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2)).version
    2
    >>> str(FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2), end=0.7))
    'b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 end=0.7'
    """

    b: Factors = (1.0, 1.0)
    s: Factors | None = None
    version: int = 0  # 0: the profile's own
    profile: str = "official"
    mask: str = "window"
    threshold: int = 1
    channels: ChannelSpec | None = None
    high_gain: float = 1.0
    share: str = "none"
    guidance: str = "both"
    start: float = 0.0
    end: float = 1.0
    ramp: float = 0.0
    unit: str = "fraction"
    strength: float = 1.0
    over_time: str = "frame"
    frame_strength: tuple[float, ...] = ()
    time_threshold: int = 0
    control: str = "after"
    sites: tuple[tuple[str, Stage], ...] = field(default=())
    # Which of version and channels were chosen and are not the profile's own. No field: it does not tell two apart.
    _named = frozenset[str]()

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        checked_choice("profile", self.profile, (*PROFILE_VERSIONS, *PROFILE_ALIASES))
        profile, version = PROFILE_ALIASES.get(self.profile, (self.profile, 0))
        chosen = self.version is not None and not (type(self.version) is int and self.version == 0)
        if chosen and (type(self.version) not in (int, float) or self.version not in VERSIONS):
            raise FreeUValueError(f"version must be 1 (constant) or 2 (structure-aware), got {shown(self.version)}")
        if chosen and version not in (0, self.version):
            raise FreeUValueError(f"profile {self.profile!r} means version {version}, got version={self.version}")
        named = {"version"} if chosen or version else set()
        put("_named", frozenset(named if self.channels is None else {*named, "channels"}))
        put("profile", profile)
        put("version", int(self.version if chosen else version or PROFILE_VERSIONS[profile]))

        overrides = site_factors(self.sites)
        b = stage_factors("b", self.b, overrides)
        s = stage_factors("s", self.s, overrides)
        given = max(len(b or ()), len(s or ()), 2)
        b, s = b or (1.0,) * given, s or (1.0,) * given
        if len(b) != len(s):
            if isinstance(self.b, Mapping) or isinstance(self.s, Mapping):
                b, s = ((*f, *(1.0,) * (given - len(f))) for f in (b, s))
            else:
                raise FreeUValueError(f"b and s must have one factor per stage each, got {len(b)} b and {len(s)} s")
        put("b", b)
        put("s", s)
        put("sites", tuple(sorted((path, Stage(*pair)) for path, pair in overrides.items())))

        checked_choice("mask", self.mask, MASKS)
        put("threshold", checked_bins("threshold", self.threshold, 1))
        put("channels", _channel_spec(self.channels, profile))
        put("high_gain", checked_number("high_gain", self.high_gain, *FACTOR_RANGE))
        checked_choice("share", self.share, SHARES)
        checked_choice("guidance", self.guidance, GUIDANCE)
        if self.share == "guidance" and self.guidance == "conditional":
            raise FreeUValueError(
                "share='guidance' needs both halves and guidance='conditional' leaves one out: choose one of them"
            )
        put("strength", checked_number("strength", self.strength, 0.0, 1.0))
        checked_choice("over_time", self.over_time, OVER_TIME)
        put("frame_strength", checked_strengths("frame_strength", self.frame_strength))
        put("time_threshold", checked_bins("time_threshold", self.time_threshold, 0))
        checked_choice("control", self.control, CONTROL)
        schedule = self.schedule
        for name in ("start", "end", "ramp"):
            put(name, getattr(schedule, name))

    # -- what it means ------------------------------------------------------------------------------------------

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.start, self.end, self.ramp, self.unit)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages' factors as written, before ``strength``."""
        b, s = cast("tuple[float, ...]", self.b), cast("tuple[float, ...]", self.s)
        return tuple(Stage(*pair) for pair in zip(b, s, strict=True))

    def factors(self, stage: int | None, path: str | None = None) -> Stage:
        """Factors of one site after ``strength``: its own override, else its stage's, else the identity.

        >>> FreeUConfig(b=(1.4, 1.4), strength=0.5).factors(1)
        Stage(b=1.2, s=1.0)
        """
        found = dict(self.sites).get(path) if path is not None else None
        if found is None:
            found = self.stages[stage - 1] if stage is not None and 1 <= stage <= len(self.b) else Stage()
        return found.toward_identity(self.strength)

    @property
    def identity(self) -> bool:
        """True if the configuration changes nothing on any model."""
        if self.strength == 0.0:
            return True
        named = (*self.stages, *(pair for _, pair in self.sites))
        return all(stage.identity for stage in named) and self.high_gain == 1.0

    def replace(self, **changes: Any) -> FreeUConfig:
        """A copy with some fields changed, checked again.

        A version or channels that were never named are those of the profile, and follow it; what was named stays.

        Raises:
            FreeUValueError: no field of that name, or a bad value.

        >>> FreeUConfig(b=(1.3, 1.4)).replace(end=0.5).end
        0.5
        >>> [FreeUConfig(version=version).replace(profile="diffusers").version for version in (None, 2)]
        [1, 2]
        """
        known = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in changes:
            if name not in known:
                raise unknown_name("configuration field", name, known)
        for name, default in (("version", 0), ("channels", None)):
            if name not in self._named:
                known[name] = default
        profile = changes.get("profile", self.profile)
        if isinstance(profile, str) and PROFILE_ALIASES.get(profile):
            known["version"] = 0  # the new name says it
        return type(self)(**{**known, **changes})

    # -- text ---------------------------------------------------------------------------------------------------

    def to_json(self, indent: int | None = None) -> str:
        """The whole configuration as JSON; ``from_json`` gives back an equal value.

        >>> FreeUConfig.from_json(FreeUConfig(b=(1.2, 1.3)).to_json()) == FreeUConfig(b=(1.2, 1.3))
        True
        """
        return json.dumps(self.to_dict(), indent=indent)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with every field and the schema number.

        >>> FreeUConfig(b=(1.2, 1.3)).to_dict()["b"]
        [1.2, 1.3]
        """
        data: dict[str, Any] = {"schema": JSON_SCHEMA}
        for item in fields(self):
            value = getattr(self, item.name)
            data[item.name] = list(value) if isinstance(value, tuple) else value
        data["sites"] = {path: [pair.b, pair.s] for path, pair in self.sites}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FreeUConfig:
        """Build from what ``to_dict`` gave.

        Raises:
            FreeUValueError: an unknown field, or a schema newer than this version of freeu reads.

        >>> FreeUConfig.from_dict({"b": [1.2, 1.3]}).b
        (1.2, 1.3)
        """
        if not isinstance(data, Mapping):
            raise FreeUValueError(f"a configuration is a JSON object, got {type(data).__name__}")
        values = dict(data)
        schema = values.pop("schema", JSON_SCHEMA)
        if schema != JSON_SCHEMA:
            raise FreeUValueError(
                f"configuration schema {shown(schema)} is not {JSON_SCHEMA}: a newer freeu may read it"
            )
        known = {item.name for item in fields(cls)}
        for name in values:
            if name not in known:
                raise unknown_name("configuration field", name, known)
        for name in ("b", "s", "channels", "frame_strength"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> FreeUConfig:
        """Parse what ``to_json`` wrote; unknown fields and broken JSON raise ``FreeUValueError``."""
        if not isinstance(text, (str, bytes)):
            raise FreeUValueError(f"a configuration in JSON is text, got {shown(text)}")
        return cls.from_dict(parse_json(text, "the configuration", _no_constant))

    def __str__(self) -> str:
        """The short form that ``parse`` reads: factors, version, and every field that is not its default."""
        stages = list(enumerate(self.stages, start=1))
        words = [f"b{i}={stage.b!r}" for i, stage in stages] + [f"s{i}={stage.s!r}" for i, stage in stages]
        words.append(f"v={self.version}")
        default = FreeUConfig(profile=self.profile)
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("b", "s", "version", "sites"):
                continue
            if value != getattr(default, item.name) or (item.name == "profile" and value != "official"):
                words.append(f"{item.name}={':'.join(map(repr, value)) if isinstance(value, tuple) else value}")
        for path, pair in self.sites:
            words.append(f"b@{path}={pair.b!r} s@{path}={pair.s!r}")
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> FreeUConfig:
        """Parse the short form, such as ``"b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2"``.

        Keys: ``b1 b2 b3 s1 s2 s3``, ``b@PATH`` and ``s@PATH`` for one site, ``v`` or ``version``, and every other
        field of the configuration by its name. Words are separated by white space or commas.

        Raises:
            FreeUValueError: a word that is no ``key=value``, an unknown key (with the nearest ones), a bad value.

        >>> FreeUConfig.parse("b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2").s
        (0.9, 0.2)
        """
        if not isinstance(text, str):
            raise FreeUValueError(f"expected text such as b1=1.3 s1=0.9, got {shown(text)}")
        factors: dict[str, dict[int | str, float]] = {"b": {}, "s": {}}
        values: dict[str, Any] = {}
        plain = {item.name for item in fields(cls)} - {"b", "s", "sites"}
        keys = plain | {"v"} | {f"{kind}{stage}" for kind in "bs" for stage in (1, 2, 3)}
        for word in text.replace(",", " ").split():
            key, equals, value = word.partition("=")
            if not equals or not value:
                raise FreeUValueError(f"expected key=value, got {shown(word)} in {shown(text)}")
            seen = key in values or (key == "v" and "version" in values)
            if key[:2] in ("b@", "s@") and len(key) > 2:
                place: int | str = key[2:]
            elif key in keys - plain - {"v"}:
                place = int(key[1:])
            else:
                name = {"v": "version"}.get(key, key)
                if name not in plain:
                    raise unknown_name("key", key, keys | {"b@PATH", "s@PATH"})
                if seen or name in values:
                    raise FreeUValueError(f"{key} is given twice in {shown(text)}")
                values[name] = _parse_value(name, value)
                continue
            if place in factors[key[0]]:
                raise FreeUValueError(f"{key} is given twice in {shown(text)}")
            factors[key[0]][place] = _parse_float(key, value)
        return cls(b=factors["b"] or (1.0, 1.0), s=factors["s"] or None, **values)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that a configuration may hold")


def _parse_float(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FreeUValueError(f"{name} must be a number, got {shown(text)}") from None


def _parse_value(name: str, text: str) -> Any:
    if name in ("version", "threshold", "time_threshold"):
        number = _parse_float(name, text)
        return int(number) if number.is_integer() else number
    if name in ("high_gain", "start", "end", "ramp", "strength"):
        return _parse_float(name, text)
    if name == "frame_strength":
        return tuple(_parse_float(name, part) for part in text.split(":"))
    if name == "channels":
        if ":" in text:
            parts = [_parse_float(name, part) for part in text.split(":")]
            return tuple(parts)
        return text if text[:1].isalpha() else _parse_float(name, text)
    return text


def _channel_spec(value: Any, profile: str) -> ChannelSpec:
    if value is None:
        return "first-inclusive" if profile == "a1111" else "first"
    if isinstance(value, str):
        return checked_choice("channels", value, CHANNELS)
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise FreeUValueError(f"channels as a window is a pair (start, stop) of fractions, got {shown(value)}")
        start, stop = (checked_number("channels", part, 0.0, 1.0) for part in value)
        if start >= stop:
            raise FreeUValueError(f"channels window must have start < stop, got {shown(value)}")
        return (start, stop)
    fraction = checked_number("channels", value, 0.0, 1.0)
    if fraction == 0.0:
        raise FreeUValueError("channels=0 selects no channel: use b=1 to leave the backbone alone")
    return fraction

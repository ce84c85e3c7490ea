"""What FreeU should do, as one frozen value: factors, operator version, profile, mask, schedule. No torch here.

A ``FreeUConfig`` says everything that is needed to repeat a result: the same numbers mean different operators in
different tools, so the operator ``version`` and the ``profile`` (which concatenations are touched) travel with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any, cast

from freeu.errors import FreeUValueError, shown, unknown_name
from freeu.json_files import parse_json
from freeu.schedule import (
    FACTOR_RANGE,
    NO_WINDOW,
    Schedule,
    Stage,
    checked_bins,
    checked_choice,
    checked_ends,
    checked_number,
    checked_strengths,
    checked_window,
    joined,
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
# The parts of the resnet behind a site that read its input: no field, see core.readers.
READERS = ("norm1", "conv_shortcut")
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
# Fields that configurations written by version 0.1 do not have.
_SINCE_0_1 = ("b_window", "s_window", "dc", "skip_gain", "skip_gain_ends")

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
        dc: what ``s`` does to each channel's spatial mean: "scale" it with the region, as published; "keep" it out of
            the region; "only": the region is the mean alone.
        skip_gain: gain of the whole skip in 0..10, which multiplies ``s`` and ``high_gain``. One number acts at every
            decoder site, whatever the profile (Skip-Tuning, arXiv:2402.15170); a tuple holds one per stage, and a
            mapping one by stage or site path, as for ``b``.
        skip_gain_ends: gains of the whole skip at the first (lowest resolution) and the last site of the decoder,
            linear from site to site in between (Skip-Tuning); instead of ``skip_gain``.
        share: "none": one structure map per sample; "guidance": the conditional and unconditional half share one.
        guidance: "both": act on both halves of classifier-free guidance; "conditional": on the conditional half only.
        start, end, ramp, unit: see ``Schedule``.
        b_window, s_window: windows in time of their own for ``b``, and for all that acts on the skip (``s``,
            ``high_gain``, ``skip_gain``), within ``start`` and ``end``, in the same ``unit`` and with the same
            ``ramp``: the weights multiply. (0, 1) is no window, in every unit.
        strength: 0..1, interpolates every factor from the identity to its value, each by itself: the gain of the low
            band is then (1 + strength * (s - 1)) * (1 + strength * (skip_gain - 1)). So do the weights of a schedule.
        over_time: for video and version 2, what of the structure map the frames of a video have in common: "frame"
            nothing, as published; "clip" its minimum and maximum; "smooth" the same, smoothed over neighbouring frames;
            "shared" the whole map, the mean of theirs.
        frame_strength: for video, strengths in 0..1 (as ``strength``) at equal distances from the first frame to the
            last, linear in between; empty: 1 everywhere.
        time_threshold: for video, 0 filters the skip of every frame by itself, as published; from 1 on the transform is
            over (T, H, W), and the low band holds what is low in the image and slower than this many bins over time.
        control: "after": the skip is filtered with the residual that a ControlNet added to it, as every pipeline does;
            "before": without it, as Rerender A Video does. Without a ControlNet both are the same.
        sites: factors of single sites instead of their stage's, ``skip_gain`` and ``skip_gain_ends`` included: mapping
            from site path to ``Stage``, (b, s) or (b, s, g), where g is the gain of the whole skip, 1 unless given;
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
    b_window: tuple[float, float] = NO_WINDOW
    s_window: tuple[float, float] = NO_WINDOW
    dc: str = "scale"
    skip_gain: float | Factors = 1.0
    skip_gain_ends: tuple[float, ...] = ()
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
        g = None if isinstance(self.skip_gain, Real) else stage_factors("skip_gain", self.skip_gain, overrides, "g")
        given = max(len(b or ()), len(s or ()), 2)
        b, s = b or (1.0,) * given, s or (1.0,) * given
        if len(b) != len(s):
            if isinstance(self.b, Mapping) or isinstance(self.s, Mapping):
                b, s = _padded(given, b, s)
            else:
                raise FreeUValueError(f"b and s must have one factor per stage each, got {len(b)} b and {len(s)} s")
        if g is not None and len(g) != len(b):
            if not (isinstance(self.skip_gain, Mapping) or isinstance(self.b, Mapping) or set(b + s) == {1.0}):
                raise FreeUValueError(
                    f"b, s and skip_gain must have one factor per stage each, got {len(b)} b and {len(g)} of skip_gain"
                )
            b, s, g = _padded(max(len(b), len(g)), b, s, g)
        put("b", b)
        put("s", s)
        one = self.skip_gain if isinstance(self.skip_gain, Real) else 1.0
        put("skip_gain", checked_number("skip_gain", one, *FACTOR_RANGE) if g is None else g)
        put("skip_gain_ends", checked_ends("skip_gain_ends", self.skip_gain_ends))
        if self.skip_gain_ends and any(stage.g != 1.0 for stage in self.stages):
            raise FreeUValueError("skip_gain and skip_gain_ends say the same thing in two ways: choose one of them")
        put("sites", tuple(sorted(overrides.items(), key=lambda item: item[0])))

        checked_choice("mask", self.mask, MASKS)
        put("threshold", checked_bins("threshold", self.threshold, 1))
        put("channels", _channel_spec(self.channels, profile))
        put("high_gain", checked_number("high_gain", self.high_gain, *FACTOR_RANGE))
        checked_choice("dc", self.dc, DC)
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
        for name in ("b_window", "s_window"):
            put(name, checked_window(name, getattr(self, name), schedule))

    # -- what it means ------------------------------------------------------------------------------------------

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.start, self.end, self.ramp, self.unit)

    @property
    def schedules(self) -> tuple[Schedule, Schedule, Schedule]:
        """When FreeU acts, and within that ``b``, and what acts on the skip; each whole where it is not limited."""
        own = (
            Schedule() if window == NO_WINDOW else Schedule(*window, self.ramp, self.unit)
            for window in (self.b_window, self.s_window)
        )
        return (self.schedule, *own)  # type: ignore[return-value]

    @property
    def windows(self) -> tuple[str, ...]:
        """Which of ``b_window`` and ``s_window`` are windows."""
        return tuple(name for name in ("b_window", "s_window") if getattr(self, name) != NO_WINDOW)

    @property
    def timed(self) -> bool:
        """True if the steps of the denoising differ."""
        return bool(self.windows) or not self.schedule.whole

    def weights(self, position: float) -> tuple[float, float]:
        """Weights of ``b``, and of what acts on the skip, at a position given in ``unit``.

        >>> FreeUConfig(b=(1.3, 1.4), end=0.8, b_window=(0.5, 1.0)).weights(0.2)
        (0.0, 1.0)
        """
        both, b, skip = (schedule.weight(position) for schedule in self.schedules)
        return both * b, both * skip

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages' factors as written, before ``strength``; of ``skip_gain_ends`` only a site knows its share."""
        b, s = cast("tuple[float, ...]", self.b), cast("tuple[float, ...]", self.s)
        g = self.skip_gain if isinstance(self.skip_gain, tuple) else (self.skip_gain,) * len(b)
        return tuple(map(Stage, b, s, cast("tuple[float, ...]", g)))

    def factors(self, stage: int | None, path: str | None = None, place: float | None = None) -> Stage:
        """Factors of one site after ``strength``: its own override, else its stage's and the gain of every site.

        Args:
            stage: 1, 2 or 3, or None for a site of no stage.
            path: of the site.
            place: of the site in the decoder, from 0 (the first, of lowest resolution) to 1; ``skip_gain_ends`` needs
                it.

        Raises:
            FreeUValueError: ``skip_gain_ends`` and no place.

        >>> FreeUConfig(b=(1.4, 1.4), strength=0.5).factors(1)
        Stage(b=1.2, s=1.0, g=1.0)
        """
        found = dict(self.sites).get(path) if path is not None else None
        if found is None:
            inside = stage is not None and 1 <= stage <= len(self.b)
            found = self.stages[stage - 1] if stage is not None and inside else Stage()
            if self.skip_gain_ends:
                if place is None:
                    raise FreeUValueError("skip_gain_ends is linear over the sites: give the place of this one, 0 to 1")
                lowest, highest = self.skip_gain_ends
                found = replace(found, g=(1.0 - place) * lowest + place * highest)
            elif isinstance(self.skip_gain, float) and not inside:
                found = Stage(g=self.skip_gain)
        return found.toward_identity(self.strength)

    @property
    def identity(self) -> bool:
        """True if the configuration changes nothing on any model."""
        if self.strength == 0.0:
            return True
        named = (*self.stages, *(pair for _, pair in self.sites))
        return all(stage.identity for stage in named) and self.high_gain == 1.0 and set(self.skip_gain_ends) <= {1.0}

    def replace(self, **changes: Any) -> FreeUConfig:
        """A copy with some fields changed, checked again.

        ``b1``, ``s2`` and the like change one stage alone. A version or channels that were never named are those of the
        profile, and follow it; what was named stays.

        Raises:
            FreeUValueError: no field of that name, or a bad value.

        >>> FreeUConfig(b=(1.3, 1.4)).replace(end=0.5).end
        0.5
        >>> [FreeUConfig(version=version).replace(profile="diffusers").version for version in (None, 2)]
        [1, 2]
        """
        known = {item.name: getattr(self, item.name) for item in fields(self)}
        changes = joined(changes, self.stages)
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

        Fields that version 0.1 did not have are left out at their default: what was written for the others stays as it
        was.

        >>> FreeUConfig(b=(1.2, 1.3)).to_dict()["b"]
        [1.2, 1.3]
        """
        data: dict[str, Any] = {"schema": JSON_SCHEMA}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in _SINCE_0_1 or value != item.default:
                data[item.name] = list(value) if isinstance(value, tuple) else value
        data["sites"] = {path: [own.b, own.s] + [own.g] * (own.g != 1.0) for path, own in self.sites}
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
        for name in ("b", "s", "channels", "frame_strength", *_SINCE_0_1):
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
        if isinstance(self.skip_gain, tuple):
            words += [f"g{i}={stage.g!r}" for i, stage in stages]
        words.append(f"v={self.version}")
        default = FreeUConfig(profile=self.profile)
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("b", "s", "version", "sites") or (item.name == "skip_gain" and isinstance(value, tuple)):
                continue
            if value != getattr(default, item.name) or (item.name == "profile" and value != "official"):
                words.append(f"{item.name}={':'.join(map(repr, value)) if isinstance(value, tuple) else value}")
        for path, pair in self.sites:
            words.append(f"b@{path}={pair.b!r} s@{path}={pair.s!r}" + f" g@{path}={pair.g!r}" * (pair.g != 1.0))
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> FreeUConfig:
        """Parse the short form, such as ``"b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2"``.

        Keys: ``b1 b2 b3 s1 s2 s3``, ``b@PATH`` and ``s@PATH`` for one site, ``g1 g2 g3`` and ``g@PATH`` for the gain of
        the whole skip (``skip_gain=0.8`` for that of every site), ``v`` or ``version``, and every other field of the
        configuration by its name. Words are separated by white space or commas; parts of a value by colons, such as
        ``b_window=0:0.5``.

        Raises:
            FreeUValueError: a word that is no ``key=value``, an unknown key (with the nearest ones), a bad value.

        >>> FreeUConfig.parse("b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2").s
        (0.9, 0.2)
        """
        if not isinstance(text, str):
            raise FreeUValueError(f"expected text such as b1=1.3 s1=0.9, got {shown(text)}")
        factors: dict[str, dict[int | str, float]] = {"b": {}, "s": {}, "g": {}}
        values: dict[str, Any] = {}
        plain = {item.name for item in fields(cls)} - {"b", "s", "sites"}
        keys = plain | {"v"} | {f"{kind}{stage}" for kind in "bsg" for stage in (1, 2, 3)}
        for word in text.replace(",", " ").split():
            key, equals, value = word.partition("=")
            if not equals or not value:
                raise FreeUValueError(f"expected key=value, got {shown(word)} in {shown(text)}")
            seen = key in values or (key == "v" and "version" in values)
            if key[:2] in ("b@", "s@", "g@") and len(key) > 2:
                place: int | str = key[2:]
            elif key in keys - plain - {"v"}:
                place = int(key[1:])
            else:
                name = {"v": "version"}.get(key, key)
                if name not in plain:
                    raise unknown_name("key", key, keys | {"b@PATH", "s@PATH", "g@PATH"})
                if seen or name in values:
                    raise FreeUValueError(f"{key} is given twice in {shown(text)}")
                values[name] = _parse_value(name, value)
                continue
            if place in factors[key[0]]:
                raise FreeUValueError(f"{key} is given twice in {shown(text)}")
            factors[key[0]][place] = _parse_float(key, value)
        own = {place: Stage(g=gain) for place, gain in factors["g"].items() if isinstance(place, str)}
        stages = {place: gain for place, gain in factors["g"].items() if isinstance(place, int)}
        if stages and "skip_gain" in values:
            raise FreeUValueError(f"skip_gain and g1 say the same thing in two ways in {shown(text)}")
        if stages:
            values["skip_gain"] = stages
        return cls(b=factors["b"] or (1.0, 1.0), s=factors["s"] or None, sites=tuple(own.items()), **values)


def _padded(count: int, *factors: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """Factors for so many stages, 1 for those that were not named."""
    return tuple((*some, *(1.0,) * (count - len(some))) for some in factors)


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
    if name in ("high_gain", "skip_gain", "start", "end", "ramp", "strength"):
        return _parse_float(name, text)
    if name in ("frame_strength", "b_window", "s_window", "skip_gain_ends"):
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

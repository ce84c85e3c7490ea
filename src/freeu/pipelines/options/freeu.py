"""FreeU's settings as options; every field of ``FreeUConfig`` has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.foreign.png import is_png
from freeu.metadata import read_png
from freeu.pipelines.io.inputs import parse_factors
from freeu.pipelines.options.option import Option, annotated_fields, flag, given
from freeu.presets import preset
from freeu.presets.files import PresetFile, is_preset_file, read_preset


@dataclass(frozen=True)
class FreeUOptions:
    """FreeU's settings; nothing given means what ``freeu.recommend`` says of the model.

    ``preset``, ``config`` and the factors name a whole configuration in three ways; the other fields change one field
    of it each, see ``freeu.FreeUConfig``.
    """

    PANEL: ClassVar[str] = "FreeU"

    preset: Annotated[
        str | None,
        Option("A name of `freeu presets`, or a file of `freeu tune` (default: as recommended).", "NAME|FILE"),
    ] = None
    config: Annotated[
        str | None,
        Option(
            'All settings: "b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2", JSON, a file with one of them, or a PNG of freeu.',
            "TEXT|FILE",
        ),
    ] = None
    b: Annotated[str | None, Option("Backbone gains, one per stage (2 or 3), such as 1.3,1.4.", "B1,B2")] = None
    s: Annotated[str | None, Option("Skip gains, one per stage, such as 0.9,0.2.", "S1,S2")] = None
    freeu_version: Annotated[
        int | None,
        Option(
            "1: constant gain; 2: structure-aware gain (as published).", "1|2", old=("--version",), config="version"
        ),
    ] = None
    profile: Annotated[
        str | None,
        Option(
            "Which skip connections count as which stage: official, diffusers, comfyui or a1111.",
            "NAME",
            config="profile",
        ),
    ] = None
    start: Annotated[float | None, Option("Fraction of the steps at which FreeU begins.", "0..1", config="start")] = (
        None
    )
    end: Annotated[float | None, Option("Fraction of the steps at which FreeU ends.", "0..1", config="end")] = None
    ramp: Annotated[
        float | None, Option("Fraction of the steps over which FreeU fades in and out.", "0..1", config="ramp")
    ] = None
    unit: Annotated[
        str | None,
        Option(
            "What --start, --end and --ramp count: fraction (of the steps), timestep or sigma.", "NAME", config="unit"
        ),
    ] = None
    freeu_strength: Annotated[
        float | None,
        Option(
            "Scales every factor between no effect (0) and its value (1).",
            "0..1",
            old=("--strength",),
            config="strength",
        ),
    ] = None
    skip_mask: Annotated[
        str | None,
        Option(
            "Shape of the skip's low-frequency region: window, radial, symmetric or gaussian.", "NAME", config="mask"
        ),
    ] = None
    threshold: Annotated[
        int | None,
        Option("Half-width of the low-frequency region in frequency bins, 1 or more.", "N", config="threshold"),
    ] = None
    channels: Annotated[
        str | None,
        Option(
            "Backbone channels that are amplified: first, second, even, all, first-inclusive, a fraction such as 0.25, "
            "or a range of fractions such as 0.25:0.75.",
            "NAME|0..1",
            config="channels",
        ),
    ] = None
    high_gain: Annotated[
        float | None,
        Option("Gain of the skip's frequencies outside the low-frequency region, 0 to 10.", "GAIN", config="high_gain"),
    ] = None
    dc: Annotated[
        str | None,
        Option(
            "What s does to each channel's mean: scale it (as published), keep it, or only scales the mean.",
            "NAME",
            config="dc",
        ),
    ] = None
    skip_gain: Annotated[
        str | None,
        Option(
            "Gain of the whole skip, 0 to 10: one number for every site (Skip-Tuning), or one per stage, such as "
            "0.8,0.9.",
            "G|G1,G2",
            config="skip_gain",
        ),
    ] = None
    skip_gain_ends: Annotated[
        str | None,
        Option(
            "Gains of the whole skip at the first (lowest resolution) and the last site, linear in between, such as "
            "0.5,1.",
            "G,G",
            config="skip_gain_ends",
        ),
    ] = None
    b_window: Annotated[
        str | None,
        Option(
            "Within --start and --end, where b begins and ends to act, such as 0,0.5 (see --unit).",
            "START,END",
            config="b_window",
        ),
    ] = None
    s_window: Annotated[
        str | None,
        Option(
            "The same for s, --high-gain and --skip-gain, such as 0.5,1.",
            "START,END",
            config="s_window",
        ),
    ] = None
    guidance_half: Annotated[
        str | None,
        Option(
            "Halves of classifier-free guidance that FreeU acts on: both or conditional.", "NAME", config="guidance"
        ),
    ] = None
    share: Annotated[
        str | None,
        Option(
            "none: one structure map per image; guidance: both halves of classifier-free guidance share one.",
            "NAME",
            config="share",
        ),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """The single fields of ``FreeUConfig`` that were given."""
        return config_changes(self)

    def base(self) -> FreeUConfig | None:
        """What was named, or None for the model's recommendation.

        Raises:
            FreeUValueError: two ways at once, an unknown preset, a bad factor or text.
        """
        named = [f"--{name}" for name in ("preset", "config") if getattr(self, name) is not None]
        named += ["--b/--s"] if self.b is not None or self.s is not None else []
        if len(named) > 1:
            raise FreeUValueError(f"{' and '.join(named)} say the same thing twice: give one of them")
        if self.preset is not None:
            return self._from_file().config if is_preset_file(self.preset) else preset(self.preset)
        if self.config is not None:
            return parse_config(self.config)
        if not named:
            return None
        b = parse_factors("b", self.b) if self.b is not None else None
        s = parse_factors("s", self.s) if self.s is not None else None
        return FreeUConfig(b=b or (1.0,) * len(s or (1.0, 1.0)), s=s, **self.overrides())

    def _from_file(self) -> PresetFile:
        """The preset of a file.

        Raises:
            FreeUValueError: it cannot be read, or says that none is best.
        """
        assert self.preset is not None
        found = read_preset(Path(self.preset).expanduser())
        if found.config is None:
            raise FreeUValueError(f"--preset {self.preset} has no settings of FreeU: {found.verdict}")
        return found

    def made_for_another(self, model: Any, fingerprint: str, name: str) -> str | None:
        """What to tell of a preset that was published for another family, or of a file found for another model.

        Args:
            model: the pipeline.
            fingerprint: of its files.
            name: of the model, for people.
        """
        if self.preset is None:
            return None
        if not is_preset_file(self.preset):
            from freeu.presets.recommending import published_for_others

            family = published_for_others(model, self.preset)
            return family and f"--preset {self.preset} was published for {family}, and {name} is of another family"
        found = self._from_file()
        if not found.fingerprint or found.fingerprint == fingerprint:
            return None
        return f"--preset {self.preset} was found for {found.model}, whose files are others than those of {name}"

    def resolve(self, model: Any) -> FreeUConfig:
        """The configuration for a pipeline or U-Net."""
        import freeu

        base = self.base()
        return (freeu.recommend(model) if base is None else base).replace(**self.overrides())

    def evidence(self, model: Any) -> str | None:
        """What speaks for settings that nobody gave; None if they were given."""
        import freeu

        return None if self.base() is not None else freeu.recommendation(model).evidence

    def check(self) -> None:
        """Everything that can be wrong with it without a model."""
        base = self.base()
        (FreeUConfig(b=(1.1, 1.1)) if base is None else base).replace(**self.overrides())


@dataclass(frozen=True)
class RegionOptions:
    """Where in the image FreeU acts."""

    PANEL: ClassVar[str] = "FreeU"

    region: Annotated[
        Path | None,
        Option("FreeU acts only where this image is white, half where it is grey; in the images' shape.", "MASK"),
    ] = None


@dataclass(frozen=True)
class FreeUSwitch:
    """For commands that can do without FreeU."""

    PANEL: ClassVar[str] = "FreeU"

    no_freeu: Annotated[bool, Option("Without FreeU.")] = False

    def check(self, *others: Any, asked: bool = False) -> None:
        """Raise ``FreeUValueError`` for settings of FreeU where there is to be none.

        Args:
            others: groups of options; those that set a field of ``FreeUConfig`` or name one are refused.
            asked: whether something else asks for FreeU.
        """
        if self.no_freeu and (asked or any(given(one) for one in others)):
            raise FreeUValueError("--no-freeu leaves nothing for FreeU's own options to say: give one or the other")


@dataclass(frozen=True)
class VideoFreeUOptions(FreeUOptions):
    """FreeU's settings with those that only video has use for."""

    over_time: Annotated[
        str | None,
        Option(
            "What of the structure map the frames share: frame (nothing), clip, smooth or shared (all of it).",
            "NAME",
            config="over_time",
        ),
    ] = None
    frame_strength: Annotated[
        str | None,
        Option(
            "Strengths of 0 to 1 from the first frame to the last, such as 1,1,0.5.", "W,W,...", config="frame_strength"
        ),
    ] = None
    time_threshold: Annotated[
        int | None,
        Option(
            "0 filters each frame by itself; from 1 on low frequencies over time count too.",
            "N",
            config="time_threshold",
        ),
    ] = None


def config_changes(options: Any) -> dict[str, Any]:
    """The fields of ``FreeUConfig`` that any options set, parsed."""
    found = {}
    for name, (_, option) in annotated_fields(type(options)).items():
        value = getattr(options, name)
        if isinstance(option, Option) and option.config is not None and value is not None:
            parse = _PARSERS.get(option.config)
            found[option.config] = value if parse is None else parse(flag(type(options), name), value)
    return found


def _strengths(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise FreeUValueError(
            f"{name} must be numbers of 0 to 1 with commas, from the first frame to the last, such as 1,1,0.5; "
            f"got {text!r}"
        ) from None


def _channels(name: str, text: str) -> Any:
    if not text.strip() or len(text.split()) > 1 or "," in text:
        raise FreeUValueError(f"{name} must be a name or fractions such as 0.25 or 0.25:0.75, got {text!r}")
    return FreeUConfig.parse(f"channels={text.strip()}").channels


def _pair(name: str, text: str) -> tuple[float, ...]:
    pair = parse_numbers(name, text)
    if len(pair) != 2:
        raise FreeUValueError(f"{name} must be two numbers with a comma, such as 0,0.5; got {text!r}")
    return pair


def _skip_gain(name: str, text: str) -> float | tuple[float, ...]:
    numbers = parse_numbers(name, text)
    return numbers[0] if len(numbers) == 1 else numbers


def parse_numbers(name: str, text: str) -> tuple[float, ...]:
    """Numbers with commas.

    Raises:
        FreeUValueError: anything else.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise FreeUValueError(f"{name} must be numbers with commas, such as 0.5,1; got {text!r}") from None


_PARSERS: dict[str, Callable[[str, str], Any]] = {
    "frame_strength": _strengths,
    "channels": _channels,
    "skip_gain": _skip_gain,
    "skip_gain_ends": _pair,
    "b_window": _pair,
    "s_window": _pair,
}


def _config_inside(path: Path) -> FreeUConfig:
    """The configuration in the settings of an image."""
    data = read_png(path).get("config")
    if data is None:
        raise FreeUValueError(f"--config {path} was generated without FreeU: give one that was generated with it")
    return FreeUConfig.from_dict(data)


def parse_config(text: str) -> FreeUConfig:
    """A configuration from its short text, its JSON, a file that holds one of them, or an image with its settings."""
    if "=" not in text and "{" not in text:
        path = Path(text).expanduser()
        if is_png(path):
            return _config_inside(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise FreeUValueError(f'--config {text!r} is neither "b1=1.3 ..." nor a readable file: {reason}') from None
    text = text.strip()
    return FreeUConfig.from_json(text) if text.startswith("{") else FreeUConfig.parse(text.replace("\n", " "))

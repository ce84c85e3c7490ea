"""Options written once: bundles of fields become options, words become values again, old names go on working."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main
from command_line import run_cli
from hypothesis import given, settings
from hypothesis import strategies as st

from freeu.cli import app
from freeu.cli.bundles import Defaults, Only, Without, command, flattened
from freeu.config import FreeUConfig
from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions, VideoFreeUOptions, config_changes
from freeu.pipelines.options.guiding import GuidingOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.option import annotated_fields, words
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import ImageInput, PromptOptions, SamplingOptions
from freeu.pipelines.options.scalecrafter import ScaleCrafterOptions
from freeu.pipelines.options.video import VideoOptions

GROUPS = (
    PromptOptions,
    SamplingOptions,
    ImageInput,
    ModelOptions,
    ControlOptions,
    ScaleCrafterOptions,
    GuidingOptions,
    FreeUOptions,
    VideoFreeUOptions,
    VideoOptions,
    RunOptions,
)


def parsed(cls: type, given_words: list[str]) -> Any:
    """The value of a group that a command with its options gets from these words."""
    found: list[Any] = []

    def keep(options: Any) -> None:
        found.append(options)

    keep.__annotations__ = {"options": cls, "return": None}
    one = typer.Typer()
    command(one, "keep")(keep)
    one(args=given_words, standalone_mode=False)
    return found[0]


def values_of(cls: type) -> st.SearchStrategy[Any]:
    """Values of a group as a command line can give them."""
    text = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=12)
    # A word that begins with a dash is an option.
    text = text.filter(lambda word: not word.startswith("-"))
    kinds: dict[Any, st.SearchStrategy[Any]] = {
        str: text,
        int: st.integers(0, 10_000),
        float: st.floats(0, 1e6, allow_nan=False),
        bool: st.booleans(),
        Path: st.from_regex(r"[a-z0-9_]{1,8}(/[a-z0-9_.]{1,8})?\.png", fullmatch=True).map(Path),
        list[str]: st.lists(text, min_size=1, max_size=3),
    }

    def strategy(kind: Any) -> st.SearchStrategy[Any]:
        parts = (
            [part for part in typing.get_args(kind) if part is not type(None)]
            if type(None) in typing.get_args(kind)
            else []
        )
        return st.none() | kinds[parts[0]] if parts else kinds[kind]

    return st.builds(cls, **{name: strategy(kind) for name, (kind, _) in annotated_fields(cls).items()})


@pytest.mark.parametrize("cls", GROUPS, ids=lambda cls: cls.__name__)
def test_words_give_back_the_value(cls: type) -> None:
    @settings(max_examples=40, deadline=None)
    @given(values_of(cls))
    def check(value: Any) -> None:
        assert parsed(cls, words(value)) == value

    check()


def test_every_field_of_a_configuration_has_an_option() -> None:
    reached = {"b", "s", "sites"}  # two options of their own; sites are for --config
    for cls in (VideoFreeUOptions, ControlOptions):
        reached |= {option.config for _, option in annotated_fields(cls).values() if getattr(option, "config", None)}
    assert reached == {item.name for item in dataclasses.fields(FreeUConfig)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (FreeUOptions(channels="0.25:0.75"), {"channels": (0.25, 0.75)}),
        (FreeUOptions(channels="second", threshold=2), {"channels": "second", "threshold": 2}),
        (FreeUOptions(skip_mask="radial", high_gain=1.1), {"mask": "radial", "high_gain": 1.1}),
        (FreeUOptions(unit="timestep", start=800.0, end=200.0), {"unit": "timestep", "start": 800.0, "end": 200.0}),
        (FreeUOptions(guidance_half="conditional"), {"guidance": "conditional"}),
        (FreeUOptions(share="guidance"), {"share": "guidance"}),
        (ControlOptions(skip_filter_order="before"), {"control": "before"}),
        (FreeUOptions(dc="keep", skip_gain="0.8"), {"dc": "keep", "skip_gain": 0.8}),
        (FreeUOptions(skip_gain="0.8,0.9"), {"skip_gain": (0.8, 0.9)}),
        (FreeUOptions(skip_gain_ends="0.5,1"), {"skip_gain_ends": (0.5, 1.0)}),
        (FreeUOptions(b_window="0,0.5", s_window="0.5,1"), {"b_window": (0.0, 0.5), "s_window": (0.5, 1.0)}),
        (VideoFreeUOptions(frame_strength="1,0.5"), {"frame_strength": (1.0, 0.5)}),
    ],
)
def test_options_reach_the_configuration(options: Any, expected: dict[str, Any]) -> None:
    changes = config_changes(options)
    assert changes == expected
    changed = FreeUConfig(b=(1.2, 1.3)).replace(**changes)
    assert {name: getattr(changed, name) for name in expected} == expected


def test_a_profile_leaves_the_version_of_a_preset() -> None:
    for options in (
        FreeUOptions(preset="sd15", profile="diffusers"),
        FreeUOptions(config="b1=1.5 b2=1.6 s1=0.9 s2=0.2 v=2", profile="diffusers"),
    ):
        assert options.resolve(None) == FreeUConfig(b=(1.5, 1.6), s=(0.9, 0.2), version=2, profile="diffusers")


@pytest.mark.parametrize(
    ("given_words", "message"),
    [
        (("--channels", "thrid"), "unknown channels 'thrid': did you mean second"),
        (("--channels", "0.1,0.2"), "--channels must be a name or fractions such as 0.25 or 0.25:0.75"),
        (("--skip-mask", "round"), "unknown mask 'round'"),
        (("--threshold", "0"), "threshold must be at least 1 frequency bin"),
        (("--high-gain", "11"), "high_gain must lie in 0 to 10"),
        (("--unit", "steps"), "unknown schedule unit 'steps'"),
        (("--dc", "mean"), "unknown dc 'mean'"),
        (("--skip-gain", "a"), "--skip-gain must be numbers with commas, such as 0.5,1; got 'a'"),
        (("--skip-gain", "12"), "skip_gain must lie in 0 to 10"),
        (("--skip-gain-ends", "0.5"), "--skip-gain-ends must be two numbers with a comma"),
        (("--skip-gain-ends", "0.5,1", "--skip-gain", "0.8"), "skip_gain and skip_gain_ends say the same thing"),
        (("--b-window", "0.5"), "--b-window must be two numbers with a comma, such as 0,0.5; got '0.5'"),
        (("--s-window", "0.5,0.2"), "s_window must begin before it ends"),
        (("--start", "0.5", "--b-window", "0,0.3"), "b_window=(0, 0.3) leaves nothing of the interval"),
        (("--guidance-half", "none"), "unknown guidance 'none'"),
        (("--share", "all"), "unknown share 'all'"),
    ],
)
def test_bad_values_are_one_line(given_words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    outcome = run_cli("compare", "a fox", *given_words, "--output", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert message.split(": did")[0] in outcome.one_line()
    assert not (tmp_path / "out").exists()


OLD_NAMES = {
    "compare": (
        "--guidance",
        "--image-strength",
        "--control",
        "--control-preprocess",
        "--control-scale",
        "--control-start",
        "--control-end",
        "--control-order",
        "--version",
        "--strength",
    ),
    "video": ("--video-strength", "--guidance"),
    "rerender": ("--with", "--without", "--video-strength", "--control", "--control-scale", "--control-order"),
    "analyze": ("--control",),
    "evaluate": ("--pictures", "--guidance"),
    "dreambooth train": ("--class-pictures",),
}


@pytest.mark.parametrize(("name", "old"), [(name, old) for name, all_old in OLD_NAMES.items() for old in all_old])
def test_names_of_version_0_1_work_and_are_not_shown(name: str, old: str, capsys: pytest.CaptureFixture[str]) -> None:
    found: Any = typer.main.get_command(app)
    for part in name.split():
        found = found.commands[part]
    assert run_cli(*name.split(), old, "--no-such-option").err.count(f"{old} is called --") == 1
    with found.make_context(name, ["--help"], resilient_parsing=True) as context:
        shown = {one for parameter in found.get_params(context) for one in (*parameter.opts, *parameter.secondary_opts)}
    assert old not in shown


def test_an_old_name_gives_its_value() -> None:
    value = parsed(SamplingOptions, ["--guidance", "7.5", "--seed", "3"])
    assert value == SamplingOptions(seeds="3", guidance_scale=7.5)
    assert parsed(FreeUOptions, ["--strength=0.5", "--version", "1"]) == FreeUOptions(
        freeu_strength=0.5, freeu_version=1
    )


def test_bundles_leave_out_and_change_fields() -> None:
    def one(
        some: typing.Annotated[ModelOptions, Only("variant")],
        most: typing.Annotated[RunOptions, Without("output")],
        other: typing.Annotated[SamplingOptions, Defaults(seeds="0-1")],
    ) -> None:
        seen.extend((some, most, other))

    one.__annotations__ = typing.get_type_hints(one, include_extras=True)
    seen: list[Any] = []
    flat = flattened(one)
    parameters = inspect.signature(flat).parameters
    assert "model" not in parameters
    assert "output" not in parameters
    assert parameters["seeds"].default == "0-1"
    flat(**{name: parameter.default for name, parameter in parameters.items()})
    assert seen == [ModelOptions(), RunOptions(), SamplingOptions(seeds="0-1")]


def test_no_option_is_written_twice() -> None:
    """A command's own options, those of no bundle, are like none of another command."""
    own: Counter[tuple[str, str]] = Counter()
    sources = Path(inspect.getfile(FreeUConfig)).parent / "cli" / "commands"
    for path in sources.rglob("*.py"):
        text = "".join(path.read_text(encoding="utf-8").split())
        for part in text.split("typer.Option(")[1:]:
            own[part.partition(",")[0], part.partition("help=")[2].partition(",")[0]] += 1
    assert [key for key, count in own.items() if count > 1] == []

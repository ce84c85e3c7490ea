"""FreeUConfig: checks, text and JSON without loss, stages, strength, schedule."""

import dataclasses
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freeu.config import CHANNELS, CONTROL, DC, MASKS, PROFILE_VERSIONS, FreeUConfig
from freeu.errors import FreeUValueError
from freeu.presets import preset
from freeu.schedule import Schedule, Stage

factor = st.floats(0, 10)
path = st.sampled_from(["up_blocks.0.resnets.0", "up_blocks.1.resnets.2", "output_blocks.3"])


@st.composite
def configs(draw):
    count = draw(st.sampled_from([2, 3]))
    unit = draw(st.sampled_from(["fraction", "timestep", "sigma"]))
    high = 1.0 if unit == "fraction" else 1000.0
    ends = sorted(draw(st.lists(st.floats(0, high), min_size=2, max_size=2, unique=True)), reverse=unit != "fraction")
    ramp = draw(st.floats(0, abs(ends[0] - ends[1])))
    share = draw(st.sampled_from(["none", "guidance"]))
    gains = draw(st.sampled_from(["one", "stages", "ends"]))
    return FreeUConfig(
        b=tuple(draw(factor) for _ in range(count)),
        s=tuple(draw(factor) for _ in range(count)),
        version=draw(st.sampled_from([1, 2])),
        profile=draw(st.sampled_from(list(PROFILE_VERSIONS))),
        mask=draw(st.sampled_from(MASKS)),
        threshold=draw(st.integers(1, 9)),
        channels=draw(st.sampled_from([*CHANNELS, None, 0.25, 1, (0.25, 0.5)])),
        high_gain=draw(factor),
        share=share,
        guidance=draw(st.sampled_from(["both"] if share == "guidance" else ["both", "conditional"])),
        start=ends[0],
        end=ends[1],
        ramp=ramp,
        unit=unit,
        strength=draw(st.floats(0, 1)),
        control=draw(st.sampled_from(CONTROL)),
        sites=draw(st.dictionaries(path, st.one_of(st.tuples(factor, factor), st.tuples(factor, factor, factor)))),
        b_window=draw(st.sampled_from([(0.0, 1.0), tuple(ends)])),
        s_window=draw(st.sampled_from([(0.0, 1.0), tuple(ends)])),
        dc=draw(st.sampled_from(DC)),
        skip_gain={"one": draw(factor), "stages": tuple(draw(factor) for _ in range(count)), "ends": 1.0}[gains],
        skip_gain_ends=(draw(factor), draw(factor)) if gains == "ends" else (),
    )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(config=configs())
def test_json_and_text_lose_nothing(config):
    assert FreeUConfig.from_json(config.to_json()) == config
    assert FreeUConfig.parse(str(config)) == config
    assert hash(FreeUConfig.from_json(config.to_json())) == hash(config)


def test_the_short_form():
    config = FreeUConfig.parse("b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2")
    assert config == FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2), version=2)
    assert str(config) == "b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2"
    assert FreeUConfig.parse("b1=1.3,b2=1.4, profile=comfyui-v1").version == 1


def test_frozen_and_hashable():
    config = FreeUConfig(b=(1.3, 1.4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.threshold = 2
    assert len({config, FreeUConfig(b=(1.3, 1.4)), FreeUConfig(b=(1.3, 1.5))}) == 2


def test_defaults():
    config = FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))
    assert (config.version, config.profile, config.mask, config.threshold) == (2, "official", "window", 1)
    assert config.schedule.whole
    assert FreeUConfig().identity


@pytest.mark.parametrize(
    ("profile", "version", "channels"),
    [
        ("diffusers", 1, "first"),
        ("comfyui", 2, "first"),
        ("comfyui-v1", 1, "first"),
        ("a1111", 1, "first-inclusive"),
        ("official-v1", 1, "first"),
    ],
)
def test_profiles_bring_their_own_version_and_channels(profile, version, channels):
    config = FreeUConfig(b=(1.3, 1.4), profile=profile)
    assert (config.version, config.channels) == (version, channels)
    # What was the profile's default follows a change of profile; what was chosen stays.
    assert config.replace(profile="official").channels == "first"
    assert FreeUConfig(profile="official", version=1).replace(profile="comfyui").version == 1


def test_what_was_named_stays_when_the_profile_changes():
    named = FreeUConfig.parse("b1=1.3 b2=1.4 v=2 channels=first").replace(profile="a1111")
    assert (named.version, named.channels) == (2, "first")
    default = FreeUConfig(b=(1.3, 1.4)).replace(end=0.5).replace(profile="a1111")
    assert (default.version, default.channels) == (1, "first-inclusive")
    assert default.replace(profile="comfyui").version == 2
    assert default.replace(version=2).replace(profile="diffusers").version == 2
    assert default.replace(version=None).version == 1
    # A name that says the version is a choice too, also over an earlier one.
    assert named.replace(profile="comfyui-v1").replace(profile="official").version == 1
    assert preset("sd15").replace(profile="diffusers").version == 2
    assert FreeUConfig.from_json(named.to_json()).replace(profile="diffusers").version == 2
    assert pickle.loads(pickle.dumps(default)).replace(profile="official").version == 2
    assert FreeUConfig(version=2) == FreeUConfig()


def test_a_ramp_as_wide_as_the_interval():
    for start, end in ((0.2, 0.6), (0.1, 0.4), (0.3, 1.0), (0.0, 0.7)):
        ramp = round(end - start, 9)
        assert Schedule(start, end, ramp=ramp).ramp == ramp
    with pytest.raises(FreeUValueError, match="wider than the interval"):
        Schedule(0.2, 0.6, ramp=0.4001)


def test_mappings_by_stage_and_by_site():
    config = FreeUConfig(b={1: 1.2, 3: 1.5, "up.1": 1.7}, s={2: 0.3})
    assert config.stages == (Stage(1.2, 1.0), Stage(1.0, 0.3), Stage(1.5, 1.0))
    assert config.factors(1, "up.1") == Stage(1.7, 1.0)
    assert config.factors(2, "up.0") == Stage(1.0, 0.3)
    assert config.factors(None, "up.0") == Stage()


def test_strength_interpolates_to_the_identity():
    config = FreeUConfig(b=(1.4, 1.0), s=(0.2, 0.0), strength=0.5)
    assert config.factors(1) == Stage(1.0 + 0.5 * (1.4 - 1.0), 1.0 + 0.5 * (0.2 - 1.0))
    assert config.replace(strength=0.0).identity
    assert config.replace(strength=0.0).factors(1) == Stage(1.0, 1.0)


def test_zero_is_a_value():
    config = FreeUConfig(b=(0.0, 1.4), s=(0.0, 0.2))
    assert config.factors(1) == Stage(0.0, 0.0)
    assert not config.identity


def test_schedule_by_fraction():
    schedule = Schedule(0.2, 0.6)
    assert [schedule.weight(x) for x in (0.0, 0.19, 0.2, 0.59, 0.6, 1.0)] == [0, 0, 1, 1, 0, 0]
    assert Schedule().weight(1.0) == 1.0
    smooth = Schedule(0.2, 0.8, ramp=0.2)
    assert smooth.weight(0.3) == pytest.approx(0.5)
    assert smooth.weight(0.5) == 1.0
    assert 0 < smooth.weight(0.75) < smooth.weight(0.65) < 1
    # Ends that lie at the ends of denoising have no transition.
    assert Schedule(0.0, 0.5, ramp=0.2).weight(0.0) == 1.0
    assert Schedule(0.5, 1.0, ramp=0.2).weight(1.0) == 1.0


def test_schedule_by_timestep_and_sigma_falls():
    schedule = Schedule(800, 200, unit="timestep")
    assert [schedule.weight(t) for t in (999, 801, 800, 500, 201, 200, 0)] == [0, 0, 1, 1, 1, 0, 0]
    assert Schedule(14.0, 0.0, unit="sigma").weight(0.0) == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b1=nan", r"b\[1\] must be finite, got nan"),
        ("b1=11", r"b\[1\] must lie in 0 to 10, got 11"),
        ("s1=-0.1", r"s\[1\] must lie in 0 to 10, got -0.1"),
        ("b1=x", "b1 must be a number, got 'x'"),
        ("b1", "expected key=value, got 'b1'"),
        ("b1=1 b1=2", "b1 is given twice"),
        ("strenght=0.5", "unknown key 'strenght': did you mean strength"),
        ("profile=diffuser", "unknown profile 'diffuser': did you mean diffusers"),
        ("profile=comfyui-v1 v=2", "profile 'comfyui-v1' means version 1, got version=2"),
        ("v=3", "version must be 1"),
        ("threshold=0", "at least 1 frequency bin"),
        ("threshold=1.5", "whole number"),
        ("threshold=inf", "threshold must be finite, got inf"),
        ("threshold=1e400", "threshold must be finite, got inf"),
        ("time_threshold=nan", "time_threshold must be finite, got nan"),
        ("v=inf", "version must be 1"),
        ("v=nan", "version must be 1"),
        ("x" * 1000, "expected key=value, got 'xxx"),
        ("start=0.5 end=0.4", "start must be smaller than end, got start=0.5 end=0.4"),
        ("unit=timestep", "timestep falls during denoising, so start must be larger"),
        ("start=0.5 ramp=0.6", "ramp=0.6 is wider than the interval"),
        ("strength=1.5", "strength must lie in 0 to 1"),
        ("channels=0", "selects no channel"),
        ("channels=0.5:0.5", "start < stop"),
        ("mask=round", "unknown mask 'round'"),
        ("share=guidance guidance=conditional", "choose one of them"),
    ],
)
def test_bad_text(text, message):
    with pytest.raises(FreeUValueError, match=message):
        FreeUConfig.parse(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"b": 1.3}, r"tuple with one factor per stage, such as \(1.3, 1.4\), got 1.3"),
        ({"b": (1.3,)}, "2 or 3 factors"),
        ({"b": (1.3, 1.4), "s": (0.9, 0.2, 0.1)}, "one factor per stage each, got 2 b and 3 s"),
        ({"b": {4: 1.0}}, "no stage 4"),
        ({"version": True}, "version must be 1"),
        ({"version": []}, "version must be 1"),
        ({"version": ""}, "version must be 1"),
        ({"version": 0.0}, "version must be 1"),
        ({"profile": []}, r"unknown profile \[\]: known"),
        ({"mask": {}}, r"unknown mask \{\}: known"),
        ({"unit": [1]}, r"unknown schedule unit \[1\]: known"),
        ({"channels": {}}, r"channels must be a number, got \{\}"),
        ({"threshold": float("inf")}, "threshold must be finite, got inf"),
        ({"threshold": 10**400}, "threshold must be finite, got inf"),
        ({"threshold": "2"}, "threshold must be a whole number"),
        ({"high_gain": 10**400}, "high_gain must be finite, got inf"),
        ({"b": (-(10**400), 1)}, "b1 must be finite, got -inf"),
        ({"b": (10**5000, 1)}, "b1 must be finite, got inf"),
        ({"version": 10**5000}, "version must be 1 .* got a int too long to show"),
        ({"b": {True: 1.2}}, "b has no stage True"),
        ({"b": ("1.3\n" * 99, 1)}, "b1 must be a number, got '1.3"),
        ({"sites": 5}, "sites must map the path of a site to its"),
        ({"sites": "up"}, "sites must map"),
        ({"sites": [1, 2]}, "sites must map .* got 1"),
        ({"sites": {"up": 5}}, "sites must map .* got 5|sites must map"),
        ({"sites": {"up": [1]}}, "sites must map"),
        ({"sites": {"up": "12"}}, "sites must map"),
        ({"sites": {3: (1, 1)}}, "sites must map"),
        ({"over_time": "shred"}, "unknown over_time 'shred': did you mean shared"),
        ({"frame_strength": (1.0, 1.5)}, "frame_strength must lie in 0 to 1, got 1.5"),
        ({"frame_strength": 0.5}, "frame_strength must be a tuple"),
        ({"time_threshold": -1}, "time_threshold must be at least 0"),
        ({"time_threshold": 1.5}, "time_threshold must be a whole number"),
        ({"control": "befor"}, "unknown control 'befor': did you mean before"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(FreeUValueError, match=message):
        FreeUConfig(**fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the configuration is not JSON"),
        ("[]", "a JSON object, got list"),
        ('{"b": [NaN, 1]}', "NaN is not a number"),
        ('{"treshold": 2}', "unknown configuration field 'treshold': did you mean threshold"),
        ('{"schema": 99}', "schema 99 is not 1"),
        ('{"schema": [1]}', r"schema \[1\] is not 1"),
        ('{"sites": 5}', "sites must map"),
        ('{"profile": []}', "unknown profile"),
        ('{"threshold": 1e999}', "threshold must be finite"),
        ('{"threshold": 1' + "0" * 400 + "}", "threshold must be finite"),
        ('{"b": ' + "[" * 90_000, "nested too deeply|not JSON"),
        ('{"b": [' + "[" * 500 + "]" * 500 + ", 1]}", "b1 must be a number"),
        (b"\xff", "not JSON"),
        (None, "a configuration in JSON is text, got None"),
    ],
)
def test_bad_json(text, message):
    with pytest.raises(FreeUValueError, match=message) as error:
        FreeUConfig.from_json(text)
    assert "\n" not in str(error.value)


def test_a_field_that_does_not_exist_is_named():
    with pytest.raises(FreeUValueError, match="unknown configuration field 'strenght': did you mean strength"):
        FreeUConfig().replace(strenght=1)
    with pytest.raises(FreeUValueError, match="expected text such as"):
        FreeUConfig.parse(None)


def test_fields_over_time_survive_text_and_json_and_old_json_has_none_of_them():
    config = FreeUConfig(b=(1.3, 1.4), over_time="clip", frame_strength=(1.0, 0.5, 0.25), time_threshold=2)
    assert FreeUConfig.parse(str(config)) == config
    assert FreeUConfig.from_json(config.to_json()) == config
    one = FreeUConfig(b=(1.3, 1.4), frame_strength=(0.5,))
    assert FreeUConfig.parse(str(one)) == one
    old = {key: value for key, value in config.to_dict().items() if "frame" not in key and "time" not in key}
    assert FreeUConfig.from_dict(old) == FreeUConfig(b=(1.3, 1.4))


def test_the_order_of_control_is_after_where_nothing_is_said():
    config = FreeUConfig(b=(1.3, 1.4), control="before")
    assert str(config).endswith("control=before")
    old = {key: value for key, value in config.to_dict().items() if key != "control"}
    assert FreeUConfig.from_dict(old).control == "after"
    assert "control" not in str(config.replace(control="after"))

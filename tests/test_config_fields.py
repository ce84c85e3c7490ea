"""Fields of a configuration beyond the published ones: windows of b and s, the mean, gains of the whole skip."""

import json

import pytest

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.schedule import Stage

BASE = FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))
NEW = {
    "b_window": (0.0, 0.5),
    "s_window": (0.5, 1.0),
    "dc": "keep",
    "skip_gain": (0.8, 0.9),
    "skip_gain_ends": (0.5, 1.0),
}


def test_configurations_without_the_fields_are_written_as_before():
    data = BASE.to_dict()
    assert not data.keys() & NEW.keys()
    assert data["sites"] == {}
    assert FreeUConfig.from_dict(data) == BASE
    assert str(BASE) == "b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2"
    assert BASE.replace(sites={"up": (1.2, 0.5)}).to_dict()["sites"] == {"up": [1.2, 0.5]}


@pytest.mark.parametrize("name", NEW)
def test_each_field_is_written_and_read(name):
    config = BASE.replace(**{name: NEW[name]})
    assert name in config.to_dict()
    assert FreeUConfig.from_dict(json.loads(config.to_json())) == config
    assert FreeUConfig.parse(str(config)) == config
    assert config != BASE
    assert hash(config) == hash(BASE.replace(**{name: NEW[name]}))


def test_the_short_form():
    assert str(BASE.replace(skip_gain=0.8, dc="only")) == "b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2 dc=only skip_gain=0.8"
    assert str(BASE.replace(skip_gain=(0.8, 1))) == "b1=1.3 b2=1.4 s1=0.9 s2=0.2 g1=0.8 g2=1.0 v=2"
    config = FreeUConfig.parse("b1=1.3 g2=0.8 g@up.1=0.5 s@up.1=0.3 b_window=0.2:0.6 s_window=0:0.5")
    assert config.skip_gain == (1.0, 0.8)
    assert config.sites == (("up.1", Stage(1.0, 0.3, 0.5)),)
    assert (config.b_window, config.s_window) == ((0.2, 0.6), (0.0, 0.5))
    assert FreeUConfig.parse("skip_gain=0.8 g@up.1=0.5").sites == (("up.1", Stage(1.0, 1.0, 0.5)),)
    assert FreeUConfig.parse("skip_gain_ends=0.5:1").skip_gain_ends == (0.5, 1.0)


def test_one_gain_is_for_every_site_and_a_tuple_for_stages():
    one, two = BASE.replace(skip_gain=0.8), BASE.replace(skip_gain=(0.8, 0.9))
    assert one.factors(2) == Stage(1.4, 0.2, 0.8)
    assert one.factors(None) == one.factors(3) == Stage(g=0.8)
    assert two.factors(2) == Stage(1.4, 0.2, 0.9)
    assert two.factors(None) == two.factors(3) == Stage()
    assert FreeUConfig(skip_gain=(0.8, 0.9, 1)).stages == (Stage(g=0.8), Stage(g=0.9), Stage())
    mapped = BASE.replace(skip_gain={3: 0.7, "up.1": 0.5})
    assert mapped.skip_gain == (1.0, 1.0, 0.7)
    assert (mapped.factors(3), mapped.factors(1, "up.1")) == (Stage(g=0.7), Stage(g=0.5))


def test_the_ends_are_linear_over_the_places():
    config = BASE.replace(skip_gain_ends=(0.5, 1.0))
    assert [config.factors(1, None, place).g for place in (0.0, 0.5, 1.0)] == [0.5, 0.75, 1.0]
    assert config.factors(None, None, 0.0) == Stage(g=0.5)
    with pytest.raises(FreeUValueError, match="give the place of this one"):
        config.factors(1)


def test_a_site_of_its_own_has_its_own_gain():
    for base in (BASE.replace(skip_gain=0.8), BASE.replace(skip_gain_ends=(0.5, 1))):
        config = base.replace(sites={"up.1": (1.2, 0.5), "up.2": (1.2, 0.5, 0.6), "up.3": Stage(g=0.4)})
        assert config.factors(1, "up.1", 0.0) == Stage(1.2, 0.5, 1.0)
        assert config.factors(1, "up.2", 0.0) == Stage(1.2, 0.5, 0.6)
        assert config.factors(None, "up.3", 0.0) == Stage(1.0, 1.0, 0.4)
        assert config.to_dict()["sites"] == {"up.1": [1.2, 0.5], "up.2": [1.2, 0.5, 0.6], "up.3": [1.0, 1.0, 0.4]}


def test_strength_interpolates_each_factor():
    half = FreeUConfig(s=(0.2, 0.2), skip_gain=0.6, strength=0.5).factors(1)
    assert (half.s, half.g) == (1.0 + 0.5 * (0.2 - 1.0), 1.0 + 0.5 * (0.6 - 1.0))
    assert Stage(1.4, 0.2, 0.6).toward_identity(0.0, 0.5) == Stage(1.0, half.s, half.g)


@pytest.mark.parametrize("fields", [{"skip_gain": 0.8}, {"skip_gain": (1, 0.8)}, {"skip_gain_ends": (1, 0.8)}])
def test_a_gain_alone_is_not_the_identity(fields):
    assert not FreeUConfig(**fields).identity
    assert FreeUConfig(**fields, strength=0.0).identity


def test_what_changes_nothing_is_the_identity():
    for fields in ({"skip_gain_ends": (1, 1)}, {"skip_gain": (1, 1)}, {"dc": "keep"}, {"b_window": (0, 0.5)}):
        assert FreeUConfig(**fields).identity
    assert not FreeUConfig(sites={"up": (1, 1, 0.5)}).identity


def test_weights_are_products():
    config = BASE.replace(start=0.2, end=0.8, b_window=(0.0, 0.5), s_window=(0.5, 1.0))
    assert [config.weights(p) for p in (0.1, 0.2, 0.49, 0.5, 0.79, 0.8)] == [
        (0, 0),
        (1, 0),
        (1, 0),
        (0, 1),
        (0, 1),
        (0, 0),
    ]
    ramped = BASE.replace(end=0.6, ramp=0.2, b_window=(0.0, 0.5))
    assert ramped.weights(0.45) == (
        ramped.schedule.weight(0.45) * FreeUConfig(end=0.5, ramp=0.2).schedule.weight(0.45),
        ramped.schedule.weight(0.45),
    )
    falling = BASE.replace(unit="timestep", start=900, end=100, s_window=(500, 200))
    assert falling.b_window == (0.0, 1.0)
    assert [falling.weights(t) for t in (950, 700, 400, 150, 50)] == [(0, 0), (1, 0), (1, 1), (1, 0), (0, 0)]
    assert BASE.weights(0.3) == (1.0, 1.0)
    assert not BASE.timed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"b_window": 0.5}, r"b_window must be a pair \(start, end\), got 0.5"),
        ({"b_window": (0.1, 0.2, 0.3)}, r"b_window must be a pair"),
        ({"s_window": (0.5, 1.5)}, "s_window must lie in 0 to 1, got 1.5"),
        ({"s_window": ("a", 1)}, "s_window must be a number, got 'a'"),
        ({"s_window": (0.5, 0.5)}, r"s_window must begin before it ends, got \(0.5, 0.5\)"),
        ({"s_window": (0.5, float("nan"))}, "s_window must be finite"),
        (
            {"unit": "sigma", "start": 9, "end": 1, "s_window": (2, 3)},
            r"sigma falls during denoising, so s_window must begin above its end, got \(2, 3\)",
        ),
        ({"b_window": (0.0, 0.1), "ramp": 0.2}, r"ramp=0.2 is wider than b_window=\(0, 0.1\)"),
        ({"b_window": (0.0, 0.3), "start": 0.3}, "b_window.* leaves nothing of the interval from 0.3 to 1"),
        (
            {"unit": "timestep", "start": 900, "end": 500, "b_window": (500, 100)},
            "b_window.* leaves nothing of the interval from 900 to 500",
        ),
        ({"dc": "mean"}, "unknown dc 'mean'"),
        ({"dc": None}, "unknown dc"),
        ({"skip_gain": -0.1}, "skip_gain must lie in 0 to 10, got -0.1"),
        ({"skip_gain": True}, "skip_gain must be a number"),
        ({"skip_gain": "0.8"}, "skip_gain must be a tuple"),
        ({"skip_gain": (0.8, 11)}, "g2 must lie in 0 to 10, got 11"),
        ({"skip_gain": (0.8,)}, "skip_gain must hold 2 or 3 factors"),
        ({"skip_gain": (0.8, 0.9, 1.0)}, "b, s and skip_gain must have one factor per stage each, got 2 b and 3"),
        ({"skip_gain": {4: 0.8}}, "skip_gain has no stage 4"),
        ({"skip_gain_ends": 0.5}, "skip_gain_ends must be a pair of gains"),
        ({"skip_gain_ends": (0.5,)}, "skip_gain_ends must hold the gains of the lowest and the highest site"),
        ({"skip_gain_ends": (0.5, 12)}, "skip_gain_ends must lie in 0 to 10, got 12"),
        ({"skip_gain_ends": (0.5, 1), "skip_gain": 0.8}, "skip_gain and skip_gain_ends say the same thing"),
        ({"sites": {"up": (1, 1, 1, 1)}}, r"its \(b, s\) or \(b, s, g\)"),
        ({"sites": {"up": (1, 1, 11)}}, "g of up must lie in 0 to 10, got 11"),
    ],
)
def test_bad_values_are_one_line(fields, message):
    with pytest.raises(FreeUValueError, match=message) as caught:
        BASE.replace(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g1=0.8 skip_gain=0.9", "skip_gain and g1 say the same thing"),
        ("g1=0.8 g1=0.9", "g1 is given twice"),
        ("g4=0.8", "unknown key 'g4'"),
        ("b_window=0.5", "b_window must be a pair"),
        ("b_window=a:b", "b_window must be a number, got 'a'"),
        ("skip_gain=0.8:0.9", "skip_gain must be a number"),
    ],
)
def test_bad_text_is_one_line(text, message):
    with pytest.raises(FreeUValueError, match=message):
        FreeUConfig.parse(text)

"""The preset table: values, versions, sources."""

from pathlib import Path

import pytest

import freeu
from freeu.errors import FreeUValueError

# The table as published: b1, b2, s1, s2, operator version.
PUBLISHED = {
    "sd14": (1.3, 1.4, 0.9, 0.2, 2),
    "sd15": (1.5, 1.6, 0.9, 0.2, 2),
    "sd21": (1.4, 1.6, 0.9, 0.2, 2),
    "sdxl": (1.3, 1.4, 0.9, 0.2, 2),
    "sd14-v1": (1.2, 1.4, 0.9, 0.2, 1),
    "sd15-v1": (1.2, 1.4, 0.9, 0.2, 1),
    "sd21-v1": (1.1, 1.2, 0.9, 0.2, 1),
    "sdxl-v1": (1.1, 1.2, 0.6, 0.4, 1),
    "modelscope-v1": (1.2, 1.4, 0.9, 0.2, 1),
    "gentle": (1.01, 1.02, 0.99, 0.95, 2),
    "anime": (1.2, 1.3, 0.8, 0.3, 2),
    "mild": (1.2, 1.3, 1.0, 1.0, 2),  # published nowhere else
    "skip-tuning": (1.0, 1.0, 1.0, 1.0, 2),
    "skip-tuning-linear": (1.0, 1.0, 1.0, 1.0, 2),
}


def test_the_table():
    assert {
        name: (*preset.config.b, *preset.config.s, preset.config.version) for name, preset in freeu.presets().items()
    } == PUBLISHED
    assert all(preset.source and preset.family for preset in freeu.presets().values())
    assert all(name in str(freeu.presets()) for name in PUBLISHED)


def test_skip_tuning_scales_the_whole_skip():
    constant, linear = (freeu.presets()[f"skip-tuning{end}"] for end in ("", "-linear"))
    assert (constant.config.skip_gain, linear.config.skip_gain_ends) == (0.78, (0.5, 1.0))
    for one in (constant, linear):
        assert "2402.15170" in one.source
        assert "EDM" in one.family
        assert one.evidence == "published only"
        assert not one.config.identity


def test_what_was_measured_stands_where_it_is_said_to_stand():
    measured = {name: preset for name, preset in freeu.presets().items() if preset.measured}
    assert {"sd14", "gentle"} <= measured.keys()
    for name, preset in measured.items():
        model, _, place = preset.measured.partition(": ")
        text = (Path(__file__).parents[1] / place).read_text(encoding="utf-8")
        assert name in text, f"{name} is not in {place}"
        assert model.removeprefix("mini-") in text
        assert preset.evidence == f"measured on {preset.measured}"
    assert freeu.presets()["anime"].evidence == "published only"
    assert "published only" in str(freeu.presets())


def test_unknown_name_gives_the_nearest():
    with pytest.raises(FreeUValueError, match="unknown preset 'sdlx': did you mean sdxl"):
        freeu.preset("sdlx")

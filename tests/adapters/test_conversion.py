"""``freeu.convert``: what comes out does the same to a model, bit for bit, or is refused with the reason."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from command_line import run_cli as run
from hypothesis import given, settings
from hypothesis import strategies as st

import freeu
from conftest import tiny_inputs, tiny_sdxl_unet, tiny_unet
from freeu import FreeUConfig
from freeu.adapters import adapter_for
from freeu.conversion import TEXTS, convert
from freeu.core.site import factors_at
from freeu.errors import FreeUValueError
from freeu.foreign.parameters import read_parameters
from freeu.foreign.tools import TOOLS
from freeu.metadata.fields import freeu_of
from freeu.profiles import profile

PLAIN = "b1=1.3 b2=1.4 s1=0.9 s2=0.2"
# The published numbers of each family, as the tools take them: PEERS' tables by profile and version.
GIVEN = [
    *freeu.presets(),
    *(f"{PLAIN} v=1 profile={profile}" for profile in ("official", "diffusers", "comfyui", "a1111")),
    *(f"{PLAIN} v=2 profile={profile}" for profile in ("official", "comfyui", "a1111")),
    "b1=1.2 b2=1.4 b3=1.1 s1=0.9 s2=0.2 s3=0.8 v=2 profile=a1111",
    f"{PLAIN} v=2 strength=0.5",
    f"{PLAIN} v=2 control=before",
    "b1=1 b2=1 s1=0.9 s2=0.2",
]


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def unet(request):
    return {"sd": tiny_unet, "sdxl": tiny_sdxl_unet}[request.param]()


def config_of(text: str) -> FreeUConfig:
    return freeu.preset(text) if text in freeu.presets() else FreeUConfig.parse(text)


def acts(unet, config: FreeUConfig):
    sites = adapter_for(unet).find_sites(unet)
    return [((pair.b, pair.s, pair.g), high) for pair, high in factors_at(sites, config)]


@pytest.mark.parametrize("to", TOOLS)
@pytest.mark.parametrize("text", GIVEN)
def test_the_same_at_every_site_or_refused(unet, text, to):
    wanted = config_of(text)
    found = convert(wanted, to, unet)
    assert found.exact == (found.config is not None) == (found.settings is not None) == bool(found.text)
    assert [row.path for row in found.sites] == [site.path for site in freeu.inspect(unet)]
    if found.config is None:
        assert found.lost
        return
    assert acts(unet, found.config) == acts(unet, wanted)
    back = convert(found.config, to, unet)
    assert (back.settings, back.config) == (found.settings, found.config)


def test_every_tool_takes_something_and_no_tool_everything(unet):
    for to in TOOLS:
        exact = {convert(config_of(text), to, unet).exact for text in GIVEN}
        assert exact == {True, False}, to


@pytest.mark.parametrize("to", ["comfyui", "a1111", "forge", "fooocus"])
def test_there_and_back(unet, to):
    """Tools that agree on where and how: from the official numbers to theirs and back."""
    wanted = freeu.preset("sd15")
    there = convert(wanted, to, unet)
    assert there.config is not None
    back = convert(there.config, "official", unet)
    assert back.settings == convert(wanted, "official", unet).settings
    assert back.config == wanted


def test_bits(unet):
    """What differs in writing alone gives the same output."""
    inputs = tiny_inputs()
    for text, to in ((PLAIN + " v=1", "a1111"), (PLAIN + " v=2 strength=0.5", "comfyui"), (PLAIN + " v=1", "refiners")):
        wanted = FreeUConfig.parse(text)
        found = convert(wanted, to, unet).config
        assert found is not None
        assert found != wanted
        outputs = []
        for config in (wanted, found):
            with torch.no_grad(), freeu.enabled(unet, config):
                outputs.append(unet(*inputs).sample)
        assert torch.equal(*outputs)


def test_diffusers_own_operator_does_it(unet):
    """The settings are what ``enable_freeu`` takes; sites of one stage written out one by one are found again."""
    wanted = FreeUConfig(b=(1.2, 1.4), s=(0.9, 0.2), profile="diffusers")
    own = {row.path: row.factors for row in convert(wanted, "official", unet).sites}
    found = convert(FreeUConfig(sites=tuple(own.items()), version=1), "diffusers", unet)
    assert found.settings == {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2}
    assert found.text == "pipe.enable_freeu(b1=1.2, b2=1.4, s1=0.9, s2=0.2)"
    inputs = tiny_inputs()
    with torch.no_grad():
        with freeu.enabled(unet, wanted):
            ours = unet(*inputs).sample
        unet.enable_freeu(**found.settings)
        try:
            theirs = unet(*inputs).sample
        finally:
            unet.disable_freeu()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", GIVEN)
def test_what_the_extension_is_told_is_read_back(unet, text):
    """Widths of 1/2 - 1/C included; so is the text of SD.Next."""
    for to in ("a1111", "sdnext"):
        found = convert(config_of(text), to, unet)
        if found.config is not None:
            back = freeu_of(read_parameters("x\nSteps: 1, Size: 8x8, " + found.text).fields)
            assert back is not None
            assert acts(unet, back) == acts(unet, found.config)
            assert back.channels == found.config.channels or set(back.b) == {1.0}


def test_the_rules_of_bleh(unet):
    rules = json.loads(convert("sd15", "bleh", unet).text)
    assert rules[1] == {
        "if": {"type": "output", "stage": 2},
        "ops": [["slice", 0.5, 1.6, 1.0, "lerp", True], ["target_skip", True], ["ffilter", 0.2, "none", 1.0, 1]],
    }


@settings(deadline=None, max_examples=60)
@given(channels=st.integers(2, 4000).map(lambda half: 2 * half))
def test_the_window_of_the_extension_holds_half_of_the_channels(channels):
    """sd-webui-freeu amplifies the channels from round(0) to round(width * channels), both included."""
    from freeu.conversion import _stage_of_the_extension

    width = _stage_of_the_extension((1.3, 1.0, 1.0), channels)["backbone_width"]
    assert round(width * channels) + 1 == channels // 2


def test_the_text_of_the_extension():
    found = convert(FreeUConfig.parse(PLAIN + " end=0.6 high_gain=1.1 profile=a1111 v=2"), "a1111", tiny_unet())
    fields = read_parameters("x\nSteps: 1, Size: 8x8, " + found.text).fields
    assert json.loads(fields["FreeU Stages"]) == [
        {"backbone_factor": 1.3, "skip_factor": 0.9, "skip_high_end_factor": 1.1},
        {"backbone_factor": 1.4, "skip_factor": 0.2, "skip_high_end_factor": 1.1},
        {},
    ]
    assert (fields["FreeU Schedule"], fields["FreeU Version"]) == ("0.0, 0.6, 0.0", "2")


@pytest.mark.parametrize(
    ("text", "to", "reason"),
    [
        (PLAIN, "diffusers", "it has no version 2"),
        (PLAIN + " v=1", "diffusers", "it leaves up_blocks.2.resnets.0 alone, and here that has b 1.3 s 0.9"),
        (PLAIN + " v=1 profile=diffusers", "comfyui", "it has the same factors for"),
        (PLAIN + " profile=a1111 v=2", "comfyui", "it has no channels, and here that is 'first-inclusive'"),
        (PLAIN + " end=0.5", "comfyui", "it has no end, and here that is 0.5"),
        (PLAIN + " start=900 end=100 unit=timestep", "a1111", "it has no unit, and here that is 'timestep'"),
        (PLAIN + " b_window=0:0.5", "a1111", "it has no b_window, and here that is (0.0, 0.5)"),
        (PLAIN + " mask=radial", "official", "it has no mask, and here that is 'radial'"),
        (PLAIN + " dc=keep", "official", "it has no dc, and here that is 'keep'"),
        (PLAIN + " skip_gain=1.1", "comfyui", "it has no skip_gain, and here that is 1.1"),
        (PLAIN + " high_gain=1.2", "forge", "it has no high_gain, and here that is 1.2"),
        (PLAIN + " control=before", "official", "it filters skips after a ControlNet adds to them"),
        (PLAIN, "rerender", "it filters skips before a ControlNet adds to them"),
        ("b1=2.5 b2=1 s1=1 s2=1 v=2", "forge", "it takes b from 0 to 2, and here that is 2.5"),
        ("b1=1.2 b2=1.4 s1=0 s2=0.2 v=1 profile=diffusers", "diffusers", "it is off as a whole where a factor is 0"),
        ("b1=1.2 b2=1.4 b3=1.1 s1=0.9 s2=0.2 s3=0.8", "official", "it leaves up_blocks"),
        (PLAIN + " guidance=conditional", "comfyui", "it has no guidance, and here that is 'conditional'"),
    ],
)
def test_what_is_lost(text, to, reason):
    found = convert(FreeUConfig.parse(text), to, tiny_unet())
    assert any(line.startswith(reason) for line in found.lost), found.lost


def test_what_does_nothing_is_not_lost():
    """A mask without a filter, and a map's sharing without a map."""
    unet = tiny_unet()
    assert convert(FreeUConfig.parse("b1=1.2 b2=1.3 s1=1 s2=1 v=2 mask=radial control=before"), "comfyui", unet).exact
    assert convert(FreeUConfig.parse("b1=1 b2=1 s1=0.9 s2=0.2 v=2 share=guidance"), "forge", unet).exact


def test_unknown_tools_name_the_nearest():
    with pytest.raises(FreeUValueError, match=r"tool 'comfy': did you mean comfyui"):
        convert("sd15", "comfy", tiny_unet())


def test_every_tool_has_its_words_and_its_row_in_the_docs():
    assert TEXTS.keys() == TOOLS.keys()
    text = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
    for tool in TOOLS.values():
        touched = {"channels": "by channels", "block": "by up-block"}[profile(tool.profile).rule]
        touched = touched if tool.stages else "one by one"
        versions = ", ".join(map(str, tool.versions))
        assert f"| `{tool.name}` | {tool.title} | {touched} | {versions} | {tool.stages or 'any'} |" in text


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command(as_json):
    pytest.importorskip("freeu_zoo")
    more = ("--json",) if as_json else ()
    code, said, _ = run("convert", "mini-sd", "--to", "comfyui", "--preset", "sd15", *more)
    assert code == 0
    if as_json:
        data = json.loads(said)
        assert (data["exact"], data["settings"]["b2"], data["lost"]) == (True, 1.6, [])
        assert FreeUConfig.from_dict(data["config"]).profile == "comfyui"
        assert data["sites"][0]["factors"] == asdict(freeu.Stage(1.5, 0.9))
    else:
        assert said == "FreeU_V2: b1=1.5, b2=1.6, s1=0.9, s2=0.2\n"
    code, said, told = run("convert", "mini-sd", "--to", "diffusers", "--preset", "sd15", *more)
    assert code == 1
    assert "enable_freeu of diffusers cannot do the same to mini-sd: it has no version 2; it" in told
    assert "up_blocks.0.resnets.0" in said
    code, _, told = run("convert", "mini-sd", "--to", "comfy", *more)
    assert (code, "did you mean" in told or "comfyui" in told) == (2, True)

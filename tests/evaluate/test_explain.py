"""``freeu evaluate --explain``: the division of a configuration, shares and sums, and a whole run."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from command_line import run_cli as run
from tiny_pipelines import tiny_unet

import freeu
from freeu.errors import FreeUValueError
from freeu.evaluate.attribution.explain import explained
from freeu.evaluate.attribution.page import write_page
from freeu.evaluate.attribution.parts import Division, Part, divide, parse_whole
from freeu.evaluate.experiment.arms import Arm

EMBEDDED = "up_blocks.{}.resnets.{}"


@pytest.fixture(scope="module")
def unet() -> Any:
    torch.manual_seed(0)
    return tiny_unet().eval()


def divided(unet: Any, steps: int = 6, **fields: Any) -> Division:
    config = freeu.FreeUConfig(**fields)
    with freeu.enabled(unet, config) as handle:
        return divide(config, {site: handle.factors(site) for site in handle.sites}, steps)


def arms(division: Division) -> dict[str, Arm]:
    return {arm.name: arm for arm in division.arms}


def output(unet: Any, config: freeu.FreeUConfig) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad(), freeu.enabled(unet, config):
        found: torch.Tensor = unet(torch.randn(2, 4, 8, 8), 500, torch.randn(2, 3, 16)).sample
        return found


def test_a_preset_is_divided_by_everything(unet: Any) -> None:
    division = divided(unet, b=(1.3, 1.4), s=(0.9, 0.2))
    groups = {group: names for group, (_, names) in division.groups.items()}
    assert groups["factor"] == ["b", "s"]
    assert groups["stage"] == ["stage 1", "stage 2"]
    assert groups["frequency"] == ["s on the mean", "s on the waves"]
    assert groups["time"] == ["early", "middle", "late"]
    assert groups["way"] == ["b by the shortcut", "b by the norm"]
    assert division.groups["frequency"][0] == "s"
    assert division.groups["way"][0] == "b"
    assert division.left_out == ()
    assert [arm.name for arm in division.arms[:2]] == ["none", "whole"]
    with freeu.enabled(unet, division.parts[0].arm.config) as handle:
        assert groups["site"] == [site.path for site in handle.sites]
    assert {arm.reader for arm in division.arms} == {None, "norm1", "conv_shortcut"}


def test_parts_are_the_settings_without_the_others(unet: Any) -> None:
    """Written site by site, the factors give the same bits as written by stage, under every other field."""
    fields: dict[str, Any] = {"mask": "gaussian", "channels": "even", "version": 1, "strength": 0.5}
    found = arms(divided(unet, b=(1.3, 1.4), s=(0.9, 0.2), skip_gain=(0.8, 1.0), **fields))
    for name, same in {
        "b": freeu.FreeUConfig(b=(1.3, 1.4), **fields),
        "s": freeu.FreeUConfig(s=(0.9, 0.2), **fields),
        "skip": freeu.FreeUConfig(s=(0.9, 0.2), skip_gain=(0.8, 1.0), **fields),
        "stage 1": freeu.FreeUConfig(b=(1.3, 1.0), s=(0.9, 1.0), skip_gain=(0.8, 1.0), **fields),
        "s on the mean": freeu.FreeUConfig(s=(0.9, 0.2), dc="only", **fields),
        "s on the waves": freeu.FreeUConfig(s=(0.9, 0.2), dc="keep", **fields),
    }.items():
        config = found[name].config
        assert config is not None
        assert torch.equal(output(unet, config), output(unet, same)), name


def test_what_cannot_be_divided_is_left_out(unet: Any) -> None:
    only_b = divided(unet, b=(1.3, 1.4))
    assert "b" not in arms(only_b)  # it is the whole
    assert only_b.groups["way"][0] == "whole"
    assert "frequency" not in only_b.groups
    ends = divided(unet, skip_gain_ends=(0.5, 0.9))
    assert list(ends.groups) == ["stage", "site", "time"]
    high = divided(unet, b=(1.3, 1.4), high_gain=0.9)
    assert "stages and sites: high_gain cannot be set for single sites." in high.left_out
    assert divided(unet, s=(0.9, 0.2), dc="keep").left_out == ("mean and waves: dc=keep leaves one of them as it is.",)
    timed = divided(unet, b=(1.3, 1.4), unit="timestep", start=900.0, end=100.0)
    assert "whose steps lie unevenly" in timed.left_out[0]
    assert divided(unet, steps=2, b=(1.3, 1.4)).left_out == ("late: no step acts in this third of the schedule.",)


def test_windows_of_one_factor_stay_within_the_thirds(unet: Any) -> None:
    division = divided(unet, b=(1.3, 1.4), s=(0.9, 0.2), b_window=(0.0, 0.5), s_window=(0.5, 1.0))
    found = {name: arm.config for name, arm in arms(division).items()}
    early, middle, late = (found[name] for name in ("early", "middle", "late"))
    assert early is not None
    assert middle is not None
    assert late is not None
    assert (early.b, early.s) == ((1.3, 1.4), (1.0, 1.0))
    assert (middle.b, middle.s, middle.b_window) == ((1.3, 1.4), (0.9, 0.2), (0.0, 0.5))
    assert (late.b, late.s) == ((1.0, 1.0), (0.9, 0.2))


def test_modules_without_two_readers_leave_these_arms_out(unet: Any) -> None:
    config = freeu.FreeUConfig(b=(1.3, 1.4))
    with freeu.enabled(unet, config) as handle:
        site = handle.sites[0]
    bare = type(site)(site.path, torch.nn.Identity(), 32, 32, 8, 0, "UpBlock2D")
    division = divide(config, {bare: freeu.Stage(b=1.3)}, 4)
    assert "way" not in division.groups
    assert "does not read its input by norm1 and conv_shortcut" in division.left_out[0]


def test_shares_and_sums_of_known_values() -> None:
    """The first part has a quarter of the whole's effect, the second half: a quarter is interaction."""
    effect = {"none": 0.0, "whole": 0.8, "b": 0.2, "s": 0.4}
    own = [0.1, 0.5, 0.2, 0.9]
    pictures = [
        {"arm": arm, "prompt": number, "seed": 0, "values": {"clip_score": base + change * (1.0 + base)}}
        for arm, change in effect.items()
        for number, base in enumerate(own)
    ]
    scale = sum(1.0 + base for base in own) / len(own)

    def difference(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1, "count": 4, "clusters": 4}

    results = {
        "pictures": pictures,
        "differences": {
            arm: {"clip_score": difference(change * scale), "kid": difference(change)} for arm, change in effect.items()
        },
    }
    config = freeu.FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))
    parts = (Part(Arm("whole", config)), *(Part(Arm(name, config), "factor", "whole") for name in "bs"))
    found = explained(results, Division(parts), "sd14")
    shares = {part["name"]: part["shares"] for part in found["parts"]}
    assert shares["b"]["clip_score"]["value"] == pytest.approx(0.25)
    assert shares["s"]["clip_score"]["low"] == pytest.approx(0.5)  # the same share on every prompt
    assert shares["b"]["kid"] == {"value": pytest.approx(0.25), "low": None, "high": None, "count": 4, "clusters": 4}
    (one,) = found["interaction"]
    assert one["parts"] == ["b", "s"]
    rest = one["measures"]["clip_score"]["interaction"]
    assert rest["value"] == pytest.approx(0.2 * scale)
    assert rest["low"] > 0.2
    assert one["measures"]["kid"]["interaction"]["value"] == pytest.approx(0.2)
    for arm in effect:
        results["differences"][arm]["clip_score"]["low"] = -1.0  # type: ignore[index]
    assert explained(results, Division(parts), "sd14")["parts"][1]["shares"]["clip_score"] is None


@pytest.mark.parametrize("width", [1280, 390])
def test_no_table_of_the_page_is_cut(tmp_path: Any, watched: Any, width: int) -> None:
    """Not with eight measures either."""
    pytest.importorskip("matplotlib")
    measures = ["clip_score", "image_reward", "kid", "fid", "saturation", "sharpness", "high_frequency", "aesthetic"]
    value = {"value": -0.000283422, "low": -0.000295353, "high": -0.000271492, "count": 4, "clusters": 2}
    each, share = dict.fromkeys(measures, value), dict.fromkeys(measures, value | {"value": 1.49})
    sums = {key: {"sum": -0.000220448, "together": -0.000283422, "interaction": value} for key in measures}
    sites = [f"up_blocks.{block}.resnets.{number}" for block in range(3) for number in range(3)]
    parts = [
        {"name": name, "group": group, "config": "b1=1.3", "differences": each, "shares": share}
        for name, group in [("whole", ""), ("b by the shortcut", "way"), *((site, "site") for site in sites)]
    ]
    found = {
        "arm": "freeu",
        "config": "b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2",
        "measures": measures,
        "parts": parts,
        "interaction": [{"group": "site", "of": "whole", "parts": sites, "measures": sums}],
        "left_out": [],
    }
    plan = {"model": {"name": "mini-sd"}, "prompts": ["a", "b"], "seeds": [0], "steps": 1, "guidance": 3.0}
    plan |= {"width": 128, "height": 128, "dtype": "float32", "batch": 1, "autocast": None}
    page = watched.page
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(write_page(tmp_path, found, {"plan": plan, "equal_arms": {}}).as_uri())
    assert watched.fits()
    assert page.get_by_text("2 prompts, 1 seed, 1 step,").count() == 1
    tables = page.locator(".scroll:has(> table)")
    assert tables.count() == 2
    for table in tables.all():
        assert table.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    watched.screenshot(f"explain-{width}")
    assert (watched.errors, watched.outside) == ([], [])


def test_a_whole_run_and_its_resumption(tmp_path: Any, clip_dir: Any) -> None:
    pytest.importorskip("freeu_zoo")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a 3d fox on a blue background\na flat car on a red background\n")
    folder = tmp_path / "out"
    base = ("evaluate", "--prompts", prompts, "--seeds", "0", "--steps", "2", "--threads", "1", "--dtype", "float32")
    settings = f"b@{EMBEDDED.format(0, 0)}=1.3 s@{EMBEDDED.format(1, 1)}=0.5 v=1"
    words = (*base, "--width", "64", "--height", "64", "--judge", clip_dir, "--explain", settings, "--output", folder)
    code, out, err = run(*words)
    assert (code, err) == (0, "freeu: left out late: no step acts in this third of the schedule.\n")
    assert f"wrote {folder / 'explain.html'}" in out
    results = json.loads((folder / "results.json").read_text())
    found = json.loads((folder / "explain.json").read_text())
    names = [part["name"] for part in found["parts"]]
    assert [arm["name"] for arm in results["arms"]] == ["none", *names]
    assert {arm.get("reader") for arm in results["arms"]} == {None, "norm1", "conv_shortcut"}
    assert found["measures"] == ["clip_score", "saturation", "sharpness", "high_frequency"]
    page = (folder / "explain.html").read_text()
    assert "b by the shortcut" in page
    assert "<svg" in page
    assert "src=" not in page
    assert "<script" not in page

    number = next(place for place, arm in enumerate(results["arms"]) if arm.get("reader") == "norm1")
    arm = next(folder.glob(f"arm-{number}-*"))
    image = arm / "p000-s0000-freeu.png"
    image.unlink()
    (folder / "explain.json").unlink()
    assert run(*words)[0] == 0
    assert json.loads((folder / "explain.json").read_text()) == found
    assert (folder / "explain.html").read_text() == page
    again = tmp_path / "again"
    assert run("generate", "--from", arm, "--output", again)[0] == 0
    assert (again / image.name).read_bytes() == image.read_bytes()
    code, _, err = run(*(word if word != settings else "sd14" for word in words))
    assert code == 2
    assert "holds another experiment (other arms)" in err


@pytest.mark.parametrize("text", ["none", "guidance=5", "sd14+interval=0.2-0.8", "sd14,sd15", "scalecrafter+sd14"])
def test_explain_takes_freeu_alone(text: str) -> None:
    with pytest.raises(FreeUValueError):
        parse_whole(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--explain", "sd144"), "did you mean sd14"),
        (("--explain", "guidance=5"), "--explain takes one configuration of FreeU alone"),
        (("--explain", "sd14", "--arms", "none,sd14"), "--explain makes the arms itself: leave --arms out"),
        (("--explain", "sd14", "--images", "."), "--images are there already: leave --explain out"),
        (("--explain", "b1=1 b2=1", "--dtype", "float32"), "changes nothing on this model"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words: Any, message: str, tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "prompts.txt").write_text("a fox\na car\n")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    code, out, err = run("evaluate", "--prompts", tmp_path / "prompts.txt", "--judge", "none", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert list(work.iterdir()) == []

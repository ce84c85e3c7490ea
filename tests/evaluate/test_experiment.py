"""``freeu evaluate``: a whole run on the embedded model, resuming, and bad input."""

import json

import pytest
from command_line import run_cli as run
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.arms import parse_arms
from freeu.evaluate.experiment.prompts import read_prompts

LINES = ("a 3d fox on a blue background", "a flat car on a red background")


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(LINES))
    return path


def test_a_run_and_its_resumption(prompts, clip_dir, tmp_path):
    pytest.importorskip("freeu_zoo")
    folder = tmp_path / "out"
    base = ("evaluate", "--prompts", prompts, "--arms", "none,freeu,guidance=5,calibrated:freeu", "--seeds", "0-1")
    words = (*base, "--steps", "1", "--threads", "1", "--dtype", "float32", "--judge", clip_dir, "--output", folder)
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert "table.md" in out
    results = json.loads((folder / "results.json").read_text())
    assert len(results["pictures"]) == 16
    assert results["guidance"]["guidance=5"] == 5
    matched = results["calibration"]["calibrated:freeu"]["matched"]
    assert results["guidance"]["calibrated:freeu"] == max(1.0, matched)
    measures = {"brightness", "clip_score", "retrieval", "pixel_diversity", "vendi_score"}
    assert measures <= results["summary"]["freeu"].keys()
    assert measures <= results["differences"]["freeu"].keys()
    values = [p["values"]["clip_score"] for p in results["pictures"] if p["arm"] == "freeu"]
    assert results["summary"]["freeu"]["clip_score"]["value"] == pytest.approx(sum(values) / 4)
    assert "## clip_score" in (folder / "table.md").read_text()
    # The head of the table, arms as columns, and the page.
    shown = {line.split()[0]: line for line in out.splitlines() if line}
    assert "guidance=5" in shown["arm"]
    assert f"{results['summary']['freeu']['clip_score']['value']:.2f} ±" in shown["clip_score"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == len(LINES) * 4
    assert all(line in page for line in LINES)
    found = results["differences"]["freeu"]["brightness"]
    assert f"{found['value']:+.3g}<small>[{found['low']:+.3g}, {found['high']:+.3g}]" in page
    clear = found["low"] > 0 or found["high"] < 0
    assert (f'<td class="clear">{found["value"]:+.3g}<small>[{found["low"]:+.3g}' in page) == clear
    assert results["used"]["sampler"]["class"] in page
    assert str(tmp_path) not in page

    code, _, err = run(*words, "--reference", folder / "arm-0-none")
    assert code == 2
    assert "holds another experiment (other reference)" in err
    (folder / "arm-1-freeu" / "p000-s0000-freeu.png").unlink()
    (folder / "results.json").unlink()
    assert run(*words)[0] == 0
    again = json.loads((folder / "results.json").read_text())
    assert again == results
    with_reference = (*words[:-1], tmp_path / "more", "--reference", folder / "arm-0-none")
    assert run(*with_reference)[0] == 0
    more = json.loads((tmp_path / "more" / "results.json").read_text())
    assert more["summary"]["none"]["fid"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert more["differences"]["freeu"]["kid"]["low"] is not None


def test_without_guidance_no_arm_is_calibrated(prompts, tmp_path):
    """The default arms leave it out and say so; asked for, it is refused before anything is written."""
    pytest.importorskip("freeu_zoo")
    folder = tmp_path / "out"
    base = ("evaluate", "--prompts", prompts, "--guidance-scale", "1", "--steps", "1", "--seeds", "0", "--threads", "1")
    words = (*base, "--dtype", "float32", "--judge", "none", "--output", folder)
    reason = "calibration needs a CFG scale above 1, got 1: at 1 there is no guidance"
    code, _, err = run(*words, "--arms", "none,gentle,calibrated:gentle")
    assert (code, err) == (2, f"freeu: {reason}: leave calibrated:gentle out of --arms\n")
    assert not folder.exists()
    code, _, err = run(*words)
    assert (code, err) == (0, f"freeu: left out calibrated:freeu: {reason}\n")
    assert [arm["name"] for arm in json.loads((folder / "results.json").read_text())["arms"]] == ["none", "freeu"]


def test_matching_references_are_the_ceiling(prompts, tmp_path):
    pytest.importorskip("freeu_zoo")
    real = tmp_path / "real"
    real.mkdir()
    for number, colour in enumerate(("red", "black")):
        Image.new("RGB", (16, 16), colour).save(real / f"{number}.png")
    base = ("evaluate", "--prompts", prompts, "--arms", "none", "--seeds", "0", "--steps", "1", "--threads", "1")
    words = (*base, "--dtype", "float32", "--judge", "none", "--reference", real, "--output", tmp_path / "out")
    code, _, err = run(*words, "--reference-matches")
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["ceiling"]["summary"]["saturation"]["value"] == 0.5
    assert results["floor"] is None  # neither alignment nor a CLIP
    assert "kid" not in results["summary"]["none"]
    assert "| real scenes | - | 0.5 [0, 1] | - |" in (tmp_path / "out" / "table.md").read_text()
    code, _, err = run(*words)
    assert code == 2
    assert "--reference needs features" in err


def test_arms():
    arms = parse_arms("sd14, none, guidance=5, calibrated:sd14, b1=1.3 b2=1.4 v=2")
    assert [arm.name for arm in arms] == ["none", "sd14", "guidance=5", "calibrated:sd14", "b1=1.3 b2=1.4 v=2"]
    assert arms[4].config.b == (1.3, 1.4)
    assert arms[3].folder(3) == "arm-3-calibrated-sd14"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sd14", "needs 'none'"),
        ("none,none", "given twice"),
        ("none,sd144", "unknown arm 'sd144': did you mean sd14"),
        ("none,guidance=x", "a number in 1 to 100"),
        ("none,calibrated:sd14", "add 'sd14' to --arms"),
        ("none,calibrated:none", "only an arm with FreeU"),
        ("none,b1=11 b2=1", "0 to 10"),
    ],
)
def test_bad_arms(text, message):
    with pytest.raises(FreeUValueError) as error:
        parse_arms(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fox", "prompts.jsonl, line 1 is not JSON"),
        ("[]", "must be an object like"),
        ('{"prompt": "a", "ask": {}}', "unknown field 'ask'"),
        ('{"prompt": "a", "asked": {"noun": []}}', "line 1: unknown field of 'asked' 'noun': did you mean nouns"),
        ('{"prompt": "a"}\n{"prompt": "a"}', "twice"),
    ],
)
def test_bad_prompts(line, message, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(line)
    with pytest.raises(FreeUValueError) as error:
        read_prompts(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--arms", "none,sd144"), "did you mean sd14"),
        (("--features", "vgg"), "--features must be clip or inception, got 'vgg'"),
        (("--reference", "nowhere"), "--reference nowhere is no folder"),
        (("--calibration-prompts", "0"), "--calibration-prompts must lie in 1 to 10000"),
        (("--judge", "nowhere"), "cannot load a CLIP from nowhere"),
        (("--seeds", "x"), "seeds must look like"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words, message, prompts, tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    code, out, err = run("evaluate", "--prompts", prompts, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert list(work.iterdir()) == []

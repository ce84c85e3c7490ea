"""Guidance interval, rescale and FreSca on the command line: used, recorded, reproduced, as arms, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_pipelines import tiny_unet

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.arms import parse_arms
from freeu.guiding import FreSca, Guiding
from freeu.metadata import KEY
from freeu.pipelines.runs.manifest import read_manifest
from freeu.pipelines.runs.plan import Plan
from freeu.presets import preset
from freeu.schedule import Schedule

SHORT = ("--steps", "3", "--threads", "1", "--guidance-scale", "5")
OPTIONS = ("--guidance-interval", "0.3-1", "--guidance-rescale", "0.7", "--fresca", "0.9:1.3:2")
SETTINGS = Guiding(Schedule(0.3, 1.0), FreSca(0.9, 1.3, 2))


def shas(folder: Path) -> list[str]:
    return [one.sha256 for one in read_manifest(folder).images.values()]


@pytest.fixture(scope="module")
def run(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one comparison with all three."""
    from command_line import run_cli

    folder = tmp_path_factory.mktemp("runs") / "guided"
    outcome = run_cli("compare", "a red fox", "--model", sd_dir, *OPTIONS, *SHORT, "--output", folder)
    assert outcome.code == 0, outcome.err
    assert "with guidance interval 0.3-1 and FreSca 0.9:1.3:2" in outcome.out
    assert "with guidance rescale 0.7" in outcome.out
    return folder


def test_it_is_recorded_shown_and_read_back(run):
    plan = read_manifest(run).plan
    assert (plan.guiding, plan.guidance_rescale) == (SETTINGS, 0.7)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert "--guidance-interval 0.3-1 --guidance-rescale 0.7 --fresca 0.9:1.3:2" in plan.command_line()
    page = (run / "compare.html").read_text()
    assert "guidance interval 0.3-1 and FreSca 0.9:1.3:2" in page
    assert "guidance rescale" in page
    with Image.open(run / "p000-s0000-freeu.png") as image:
        inside = json.loads(image.text[KEY])
    assert (inside["guiding"], inside["guidance_rescale"]) == (SETTINGS.to_dict(), 0.7)


def test_a_run_without_says_nothing_of_it(compared):
    folder, _ = compared
    text = (folder / "manifest.json").read_text()
    assert "guiding" not in text
    assert "guidance_rescale" not in text


@pytest.mark.parametrize("source", ["manifest.json", "p000-s0000-freeu.png", "p000-s0000-baseline.png"])
def test_made_again_to_the_bit(source, run, cli, sd_dir, tmp_path):
    words = ("--from", run / source, "--model", sd_dir, "--threads", "1", "--output", tmp_path / "again")
    outcome = cli("generate", *words)
    assert outcome.code == 0, outcome.err
    assert f"{'2 images are' if source == 'manifest.json' else '1 image is'} bit-identical" in outcome.out


def test_each_option_acts_and_an_interval_of_all_steps_does_not(run, cli, sd_dir, tmp_path):
    found = {}
    for number in range(0, 6, 2):
        words = ("a red fox", "--model", sd_dir, *OPTIONS[number : number + 2], *SHORT)
        assert cli("compare", *words, "--output", tmp_path / str(number)).code == 0
        found[OPTIONS[number]] = shas(tmp_path / str(number))
    assert cli("compare", "a red fox", "--model", sd_dir, *SHORT, "--output", tmp_path / "plain").code == 0
    found["plain"], found["all"] = shas(tmp_path / "plain"), shas(run)
    assert len({sha for pair in found.values() for sha in pair}) == 10
    words = ("--guidance-interval", "0-1", "--fresca", "1:1")
    assert cli("compare", "a red fox", "--model", sd_dir, *words, *SHORT, "--output", tmp_path / "same").code == 0
    assert shas(tmp_path / "same") == found["plain"]


def test_with_scalecrafter_and_a_picture(cli, sd_dir, tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    scaled = ("--scalecrafter", "--scalecrafter-guidance", "damped", "--width", "32", "--height", "32")
    words = (
        "a fox",
        "--model",
        sd_dir,
        *scaled,
        "--image",
        tmp_path / "red.png",
        "--denoise",
        "1",
        *OPTIONS[:2],
        *OPTIONS[4:],
        *SHORT,
    )
    assert cli("generate", *words, "--output", tmp_path / "x").code == 0
    words = ("--from", tmp_path / "x", "--model", sd_dir, "--threads", "1", "--output", tmp_path / "again")
    assert "1 of 1 image is bit-identical" in cli("generate", *words).out


def test_videos(cli, video_dir, tmp_path):
    pytest.importorskip("av")
    words = ("a red fox", "--model", video_dir, "--frames", "3", "--width", "16", "--height", "16")
    words += (*SHORT, "--format", "mp4", *OPTIONS[:2], *OPTIONS[4:])
    outcome = cli("video", *words, "--output", tmp_path / "x")
    assert outcome.code == 0, outcome.err
    assert read_manifest(tmp_path / "x").plan.guiding == SETTINGS
    again = ("--from", tmp_path / "x", "--model", video_dir, "--threads", "1", "--output", tmp_path / "again")
    assert "2 of 2 videos are bit-identical" in cli("video", *again).out


# -- arms ----------------------------------------------------------------------------------------------------------


def evaluated(cli: Any, model: Path, folder: Path, arms: str, *more: Any) -> Any:
    prompts = folder.parent / "prompts.txt"
    prompts.write_text("a red fox\na blue car\n")
    words = (model, "--prompts", prompts, "--judge", "none", "--seeds", "0", "--arms", arms, *SHORT, *more)
    return cli("evaluate", *words, "--output", folder)


def test_arms_of_an_evaluation(cli, sd_dir, tmp_path):
    arms = (
        "none, interval=0.3-1, rescale=0.7, fresca=0.9:1.3:2, all: sd14+interval=0.3-1+rescale=0.7+fresca=0.9:1.3:2, "
        "interval=0-1, guidance=3+sd14, effective:all, neutral:all, effective:interval=0.3-1, neutral:interval=0.3-1"
    )
    folder = tmp_path / "out"
    outcome = evaluated(cli, sd_dir, folder, arms)
    assert outcome.code == 0, outcome.err
    found = json.loads((folder / "results.json").read_text())
    by_name = {arm["name"]: arm for arm in found["arms"]}
    assert by_name["all"]["guiding"] == SETTINGS.to_dict()
    assert (by_name["all"]["guidance_rescale"], by_name["none"].keys()) == (0.7, {"name", "config"})
    assert found["equal_arms"] == {"interval=0-1": "none"}

    # Two of three steps are guided by 5 and the first by 1; by 7 it would be 5 in the mean.
    calibration, guidance = found["calibration"], found["guidance"]
    effective, neutral = calibration["effective:interval=0.3-1"], calibration["neutral:interval=0.3-1"]
    assert (effective["how"], neutral["how"]) == ("effective", "neutral")
    assert effective["effective"] == effective["matched"] == pytest.approx(11 / 3, rel=1e-4)
    assert neutral["matched"] == pytest.approx(7.0, rel=0.01)
    assert neutral["effective"] == pytest.approx(5.0, rel=neutral["tolerance"])
    assert neutral["evaluations"][0] == pytest.approx([5.0, 11 / 3], rel=1e-4)
    assert (neutral["guidance"], neutral["prompts"]) == (5.0, 2)
    assert guidance["guidance=3+sd14"] == 3.0
    for name in calibration:
        assert guidance[name] == calibration[name]["matched"]
    head = (folder / "table.md").read_text().partition("##")[0]
    assert (
        "- effective:interval=0.3-1: plain sampling at the effective CFG scale of interval=0.3-1, which is 3.667"
        in head
    )
    assert "- neutral:all: all at CFG scale " in head
    assert "that of plain sampling at 5 (" in head

    # The plans of the arms say what was done, and make the images again.
    numbers = {name: number for number, name in enumerate(by_name)}
    (place,) = folder.glob(f"arm-{numbers['neutral:all']}-*")
    plan = read_manifest(place).plan
    assert (plan.guiding, plan.guidance_rescale, plan.config) == (SETTINGS, 0.7, preset("sd14"))
    assert plan.guidance == guidance["neutral:all"]
    words = ("--from", place, "--model", sd_dir, "--threads", "1", "--output", tmp_path / "again")
    assert "2 of 2 images are bit-identical" in cli("generate", *words).out
    (place,) = folder.glob(f"arm-{numbers['effective:all']}-*")
    plan = read_manifest(place).plan
    assert (plan.guiding, plan.guidance_rescale, plan.config) == (None, None, None)

    # Interrupted after an arm was calibrated, it is not measured again.
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["calibration"]["neutral:all"]
    manifest["calibration"]["effective:all"]["prompts"] = 99
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "results.json").unlink()
    assert evaluated(cli, sd_dir, folder, arms).code == 0
    again = json.loads((folder / "results.json").read_text())
    assert again["calibration"]["neutral:all"] == calibration["neutral:all"]
    assert again["calibration"]["effective:all"]["prompts"] == 99
    other = evaluated(cli, sd_dir, folder, arms.replace("all: sd14+interval=0.3-1", "all: sd14+interval=0.4-1"))
    assert (other.code, "other arms" in other.err) == (2, True)


def test_arms_of_videos(cli, video_dir, tmp_path):
    pytest.importorskip("cv2")
    arms = "none, modelscope-v1+interval=0.3-1, effective:modelscope-v1+interval=0.3-1"
    more = ("--frames", "3", "--width", "16", "--height", "16", "--no-reader")
    outcome = evaluated(cli, video_dir, tmp_path / "out", arms, *more)
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    (calibration,) = found["calibration"].values()
    # Unguided at the first step, but for what FreeU adds to the one prediction.
    assert calibration["per_step"][0] < 2.0 < calibration["effective"] < 5.0


def test_parts_in_any_order():
    text = (
        "none, scalecrafter + sd14+guidance=4, mine: b1=1.2 v=1 + fresca=1:1.2, freeu+rescale=0.5, interval=sigma:5-0.3"
    )
    arms = {arm.name: arm for arm in parse_arms(text)}
    assert list(arms) == ["none", "scalecrafter+sd14+guidance=4", "mine", "freeu+rescale=0.5", "interval=sigma:5-0.3"]
    first = arms["scalecrafter+sd14+guidance=4"]
    assert (first.scalecrafter, first.config, first.guidance) == (True, preset("sd14"), 4.0)
    assert arms["mine"].config.b == (1.2, 1.0)
    assert arms["mine"].guiding == Guiding(fresca=FreSca(1.0, 1.2))
    assert arms["freeu+rescale=0.5"].recommended
    assert arms["interval=sigma:5-0.3"].guiding == Guiding(Schedule(5.0, 0.3, unit="sigma"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interval=0.8-0.2", "arm 'interval=0.8-0.2': start must be smaller than end"),
        ("interval=middle", "must look like 0.2-0.8, timestep:800-200 or sigma:5-0.3, got 'middle'"),
        ("rescale=2", "arm 'rescale=2': guidance rescale must be a number in 0 to 1, got '2'"),
        ("sd14+fresca=1", "arm 'sd14+fresca=1': FreSca must be LOW:HIGH such as 1:1.25"),
        ("sd14+sd15", "arm 'sd14+sd15' has two parts of one kind, 'sd15' and another: give one"),
        ("interval=0-0.5+interval=0.5-1", "two parts of one kind"),
        ("none+sd14", "'none' is no part of another arm: parts are FreeU, guidance=W, interval=A-B"),
        ("sd14,calibrated:sd14+rescale=0.5", "needs the arm that it matches: add 'sd14+rescale=0.5' to --arms"),
        ("sd14+rescale=0.5,calibrated:sd14+rescale=0.5", "use effective:sd14+rescale=0.5"),
        ("sd14+guidance=3,calibrated:sd14+guidance=3", "calibration is to FreeU alone, at the CFG scale of the run"),
        ("sd14+guidance=3,neutral:sd14+guidance=3", "its CFG scale is what is looked for: leave guidance= out of"),
        ("guidance=3,effective:guidance=3", "effective goes by an arm with FreeU, interval=, rescale= or fresca=, not"),
        ("sd14,effective:sd14,neutral:effective:sd14", "neutral goes by an arm with FreeU"),
        ("neutral:none", "neutral goes by an arm with FreeU, interval=, rescale= or fresca=, not by 'none'"),
        ("effective:sd14", "add 'sd14' to --arms"),
        ("scalecrafter+sd14,effective:scalecrafter+sd14", "guidance is calibrated without ScaleCrafter"),
        ("sd14+fresco=1:1", "fresco"),
    ],
)
def test_bad_arms(text, message):
    with pytest.raises(FreeUValueError) as error:
        parse_arms(f"none,{text}")
    assert message in str(error.value)


# -- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--guidance-interval", "0.5"), "a guidance interval must look like 0.2-0.8"),
        (("--guidance-rescale", "2"), "--guidance-rescale must lie in 0 to 1, got 2"),
        (("--fresca", "x"), "FreSca must be LOW:HIGH"),
        (("--fresca", "1:1.5:9"), "FreSca's threshold of 9 bins is too much for latents of 8x8: use at most 4"),
        (("--fresca", "1:1.5", "--cfg", "1"), "--fresca changes guidance, and there is none at CFG scale 1"),
        (("--guidance-rescale", "0.5", "--cfg", "0.5"), "--guidance-rescale changes guidance, and there is none at"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(words, message, cli, sd_dir, work):
    outcome = cli("generate", "a fox", "--model", sd_dir, "--steps", "1", *words)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert message in outcome.err
    assert list(work.iterdir()) == []


def test_a_pipeline_without_guidance_rescale(cli, sd_dir, work):
    Image.new("RGB", (16, 16), "white").save(work / "white.png")
    inpainting = ("--image", work / "white.png", "--mask", work / "white.png", "--guidance-rescale", "0.5")
    outcome = cli("generate", "a fox", "--model", sd_dir, *inpainting)
    assert outcome.code == 2
    assert "StableDiffusionInpaintPipeline has no guidance rescale (guidance_rescale)" in outcome.err


def test_a_consistency_model(cli, make_pipeline, work):
    model = make_pipeline("lcm", "StableDiffusionPipeline", unet=tiny_unet(time_cond_proj_dim=8))
    outcome = cli("generate", "a fox", "--model", model, "--cfg", "5", "--fresca", "1:1.5")
    assert outcome.code == 2
    assert "FreSca 1:1.5 needs predictions with and without the prompt" in outcome.err
    outcome = evaluated(cli, model, work / "x", "none,interval=0.2-0.8")
    assert outcome.code == 2
    assert "arm 'interval=0.2-0.8': guidance interval 0.2-0.8 needs predictions with and without" in outcome.err


def test_arms_without_guidance(cli, sd_dir, tmp_path):
    outcome = evaluated(cli, sd_dir, tmp_path / "x", "none,fresca=1:1.5", "--guidance-scale", "1")
    assert outcome.code == 2
    assert "arm 'fresca=1:1.5': FreSca 1:1.5 needs a CFG scale above 1, got 1" in outcome.err
    assert not (tmp_path / "x").exists()
    outcome = evaluated(cli, sd_dir, tmp_path / "x", "none,sd14,neutral:sd14", "--guidance-scale", "1")
    assert outcome.code == 2
    assert "leave neutral:sd14 out of --arms" in outcome.err


def test_a_damaged_manifest(run, cli, sd_dir, tmp_path):
    for changed, message in (
        ({"guiding": {"fresca": {"low": 1}}}, "guiding.fresca must have the fields high, low, threshold"),
        ({"guidance_rescale": 3.0}, "guidance_rescale is not usable: 3.0"),
        ({"guidance": 1.0}, "guidance rescale needs a CFG scale above 1, got 1"),
    ):
        data = json.loads((run / "manifest.json").read_text())
        data["plan"] |= changed
        (tmp_path / "manifest.json").write_text(json.dumps(data))
        outcome = cli("generate", "--from", tmp_path / "manifest.json", "--model", sd_dir, "--output", tmp_path / "x")
        assert outcome.code == 2, outcome.out
        assert message in outcome.err

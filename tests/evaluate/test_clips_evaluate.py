"""``freeu evaluate`` on a video model and on videos that are there: a whole run, going on, references, bad input."""

import json

import numpy as np
import pytest
from command_line import run_cli as run
from made_clips import noisy, sliding, smooth
from PIL import Image
from tiny_pipelines import save_pipeline, tiny_video_unet

from freeu.evaluate import kernel_distance
from freeu.evaluate.experiment.arms import parse_arms
from freeu.evaluate.experiment.video_files import is_video, video_frames
from freeu.evaluate.experiment.video_scoring import features_of_videos
from freeu.evaluate.metrics.clip import CLIP
from freeu.pipelines.io.frames import frames_bytes

FRAMES = 3
ROWS = (
    {"prompt": "a 3d fox moving left", "asked": {"nouns": ["fox"], "style": "3d", "motion": "left"}},
    {"prompt": "a flat car growing", "asked": {"nouns": ["car"], "motion": "growing"}},
)
OVER_TIME = {"flicker", "frame_difference", "traceable_share", "fast_share", "motion_strength", "frame_consistency"}


@pytest.fixture(scope="module")
def video_dir(tmp_path_factory):
    """A TextToVideoSDPipeline directory with random weights: videos of 16x16."""
    folder = tmp_path_factory.mktemp("models") / "tiny-video"
    save_pipeline(folder, "TextToVideoSDPipeline", unet=tiny_video_unet())
    return folder


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


def clips_in(folder, *clips):
    folder.mkdir(parents=True)
    for number, frames in enumerate(clips):
        stack = tuple(map(Image.fromarray, frames))
        (folder / f"{number}.png").write_bytes(frames_bytes(stack, {}))
    return folder


def test_a_run_on_a_video_model(video_dir, clip_dir, prompts, tmp_path):
    real = clips_in(tmp_path / "real", sliding(1, 0, 3, 24), sliding(0, 1, 3, 24), sliding(-1, 0, 3, 24))
    out = tmp_path / "out"
    factors = "b1=1.2 b2=1.4 s1=0.9 s2=0.2"
    arms = f"none,constant: {factors} v=1,{factors} v=2,calibrated:constant,twin: {factors} v=1"
    arms += f",smooth: {factors} v=2 over_time=smooth"
    words = ("evaluate", video_dir, "--prompts", prompts, "--arms", arms, "--frames", FRAMES, "--seeds", "0-1")
    words += (
        "--steps",
        1,
        "--threads",
        1,
        "--dtype",
        "float32",
        "--judge",
        clip_dir,
        "--no-reader",
        "--reference",
        real,
    )
    words += ("--output", out)
    code, said, err = run(*words)
    assert (code, err) == (0, "")
    assert "table.md" in said
    results = json.loads((out / "results.json").read_text())
    assert (results["plan"]["frames"], results["clips"]) == (FRAMES, True)
    assert len(results["pictures"]) == 6 * 4
    names = [arm.name for arm in parse_arms(arms)]
    assert list(results["summary"]) == names
    measures = {*OVER_TIME, "motion", "clip_right", "clip_score", "retrieval", "brightness", "kernel_video_distance"}
    assert measures <= results["summary"]["constant"].keys()
    assert measures - {"clip_right"} <= results["differences"]["constant"].keys() | {"frechet_video_distance"}
    assert "kid" not in results["summary"]["constant"]
    assert results["equal_arms"] == {"twin": "constant"}
    assert results["calibration"]["calibrated:constant"]["matched"] != results["plan"]["guidance"]
    # The distance is that between the videos' features.
    judge = CLIP(clip_dir)
    drawn = features_of_videos(judge, sorted((out / "arm-0-none").glob("*.png")))
    expected = kernel_distance(drawn, features_of_videos(judge, sorted(real.iterdir())))
    assert results["summary"]["none"]["kernel_video_distance"]["value"] == pytest.approx(expected)
    table = (out / "table.md").read_text()
    assert table.startswith("# tiny-video\n\n2 prompts, 2 seeds, 1 step, 3 frames.")
    assert "## flicker" in table
    assert "twin and constant generated identical videos" in table

    # Going on generates what is missing, and nothing else; the numbers are the same.
    lost = out / "arm-1-constant" / "p001-s0001-freeu.png"
    lost.unlink()
    damaged = out / "arm-0-none" / "p000-s0000-baseline.png"
    damaged.write_bytes(damaged.read_bytes()[:-60])
    (out / "results.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert run(*words)[0] == 0
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert {path for path in after if after[path] != before.get(path)} == {lost, damaged}
    assert json.loads((out / "results.json").read_text()) == results

    # An arm's folder can be scored again without the model.
    words = ("--images", out / "arm-0-none", "--images", out / "arm-1-constant", "--judge", clip_dir, "--no-reader")
    code, _, err = run("evaluate", "--prompts", prompts, *words, "--threads", 1, "--output", tmp_path / "again")
    assert (code, err) == (0, "")
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["differences"]["arm-1-constant"]["flicker"] == results["differences"]["constant"]["flicker"]
    assert (tmp_path / "again" / "table.md").read_text().startswith("# Existing videos")


def test_clips_that_are_there(prompts, clip_dir, tmp_path):
    still = np.repeat(smooth(32, 32)[None], 4, axis=0)
    plain = clips_in(tmp_path / "plain", sliding(-3, 0, 5, 48), still)
    rough = clips_in(tmp_path / "rough", noisy(sliding(-3, 0, 5, 48), 9.0), noisy(still, 9.0))
    words = ("--images", plain, "--images", rough, "--reference", plain, "--reference-matches", "--judge", "none")
    code, _, err = run("evaluate", "--prompts", prompts, *words, "--no-reader", "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["differences"]["rough"]["flicker"]["value"] > 3.0
    rows = {(row["arm"], row["prompt"]): row["values"] for row in results["pictures"]}
    assert rows["plain", 1]["frame_difference"] == 0.0
    assert rows["plain", 0]["motion"] == 1.0
    assert rows["plain", 1]["motion"] == 0.0
    assert results["ceiling"]["summary"]["motion"]["value"] == 0.5
    # Each against the other's prompt: neither grows, and neither goes left.
    assert results["floor"]["summary"]["motion"]["value"] == 0.0


def test_files_of_clips(tmp_path):
    frames = sliding(2, 0, 4, 32)
    folder = clips_in(tmp_path / "clips", frames, np.repeat(frames[:1], 6, axis=0), frames[[0, 0, 1, 1, 1, 2]])
    assert np.array_equal(list(video_frames(folder / "0.png")), frames)
    assert np.array_equal(list(video_frames(folder / "1.png")), frames[[0] * 6])
    assert np.array_equal(list(video_frames(folder / "2.png")), frames[[0, 0, 1, 1, 1, 2]])
    Image.fromarray(frames[0]).save(tmp_path / "moves.webp", save_all=True, append_images=[Image.fromarray(frames[1])])
    Image.fromarray(frames[0]).save(tmp_path / "rests.webp", lossless=True)
    assert np.array_equal(list(video_frames(tmp_path / "rests.webp")), frames[[0, 0]])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.png").write_text("no image")
    names = ("clips/0.png", "clips/1.png", "moves.webp", "rests.webp", "text.mp4", "text.png")
    assert [is_video(tmp_path / name) for name in names] == [True, True, True, False, True, False]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--frames", "1"), "--frames must lie in 2 to 1000, got 1"),
        (("--reference", "stills"), "--reference holds images, and this model makes videos: give videos"),
        (("--arms", "none,sd14: b1=1.2 b2=1.4"), "sd14 is the name of something else"),
    ],
)
def test_bad_input_of_drawing(words, message, prompts, video_dir, tmp_path, monkeypatch):
    (tmp_path / "stills").mkdir()
    for number in range(2):
        Image.new("RGB", (16, 16)).save(tmp_path / "stills" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("evaluate", video_dir, "--prompts", prompts, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--images", "clips", "--images", "stills"),
            "--images clips holds videos and --images stills holds",
        ),
        (
            ("--images", "clips", "--reference", "stills"),
            "--images clips holds videos and --reference holds",
        ),
        (("--images", "clips", "--frames", "4"), "--images are there already: leave --frames out"),
        (("--images", "damaged"), "cannot read damaged/1.mp4"),
    ],
)
def test_bad_input_of_scoring(words, message, prompts, clip_dir, tmp_path, monkeypatch):
    clips_in(tmp_path / "clips", sliding(1, 0, 3, 16), sliding(1, 0, 3, 16))
    clips_in(tmp_path / "stills", sliding(1, 0, 1, 16), sliding(1, 0, 1, 16))
    clips_in(tmp_path / "damaged", sliding(1, 0, 3, 16))
    (tmp_path / "damaged" / "1.mp4").write_bytes(b"no video at all")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("evaluate", "--prompts", prompts, *words, "--judge", clip_dir, "--no-reader")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before

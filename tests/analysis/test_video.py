"""``freeu analyze`` on a text-to-video pipeline, videos as files, and what generates still images only."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_pipelines import save_pipeline, tiny_video_unet

from freeu.analysis import watch
from freeu.analysis.figures.figures import FIGURES, figures_for
from freeu.analysis.measurement.trace import FeatureKey, trace
from freeu.evaluate import fast_share, flicker, temporal_spectrum
from freeu.metadata import read_png
from freeu.pipelines.io.frames import frames_bytes, middle, read_frames
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.runs.generate import generate_frames

FRAMES = 3


@pytest.fixture(scope="session")
def video_dir(tmp_path_factory):
    """A TextToVideoSDPipeline directory with random weights: videos of 16x16."""
    folder = tmp_path_factory.mktemp("models") / "tiny-video"
    save_pipeline(folder, "TextToVideoSDPipeline", unet=tiny_video_unet())
    return folder


@pytest.fixture
def words(tmp_path):
    (tmp_path / "prompts.txt").write_text("a red fox\na blue car\n")
    return ("--prompts", tmp_path / "prompts.txt", "--steps", "2", "--threads", "1")


def test_a_whole_run(run, video_dir, words, tmp_path):
    out = tmp_path / "out"
    numbers = (3, 8, 13, 19)  # latents, features, both, and pixels of pairs
    command = ("analyze", video_dir, *words, "--frames", FRAMES, "--output", out)
    command += tuple(word for number in numbers for word in ("--figure", number))
    code, said, err = run(*command)
    assert (code, err) == (0, "")
    assert "text-to-video" in said
    results = json.loads((out / "results.json").read_text())
    assert results["plan"]["frames"] == FRAMES
    assert {one["figure"] for one in results["verdicts"]} == set(numbers)
    clip = out / "pictures" / "none" / "p000-s0000-baseline.png"
    frames = read_frames(clip)
    assert len(frames) == FRAMES
    assert not np.array_equal(frames[0], frames[1])
    assert read_png(clip)["frames"] == FRAMES
    with Image.open(clip) as image:
        assert image.is_animated
    # Going on where everything is there generates nothing and ends the same.
    before = {path: path.stat().st_mtime_ns for path in (out / "pictures").rglob("*.*")}
    assert run(*command)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "pictures").rglob("*.*")} == before
    assert json.loads((out / "results.json").read_text()) == results


def test_maps_and_stages_are_of_the_middle_frame(video_dir, plan):
    loaded = load(find_model(str(video_dir)))
    assert (loaded.task, loaded.frames) == ("video", 16)
    made = replace(plan, task="video", frames=FRAMES, width=16, height=16, steps=2, prompts=("a red fox",))
    picture = next(made.images())
    kept = {}

    def keep(features):
        if features.part == "backbone" and features.call == 1:
            kept[features.site.path] = features.tensor.clone()

    with watch(loaded.pipe, keep):
        generate_frames(loaded.pipe, made, picture)
    seen = trace(loaded.pipe, made, picture, maps_at=(1,), decode_at=(1,))
    assert len(kept) == 6
    for path, features in kept.items():
        assert features.shape[0] == 2 * FRAMES  # under guidance: the unconditional half first
        expected = features[FRAMES + FRAMES // 2].mean(dim=0).numpy()
        np.testing.assert_allclose(seen.maps[FeatureKey(path, "backbone", False), 1], expected, rtol=1e-6)
    assert seen.image is seen.frames[FRAMES // 2]
    # The last latents are what the video is decoded from.
    np.testing.assert_allclose(seen.stages[1], np.asarray(seen.image) / 255.0, atol=0.5 / 255 + 1e-3)


def test_clips_are_stored_without_loss(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)
    pixels[3] = pixels[2]  # equal frames in a row
    frames = tuple(Image.fromarray(one) for one in pixels)
    path = tmp_path / "clip.png"
    path.write_bytes(frames_bytes(frames, {"prompt": "x"}))
    found = read_frames(path)
    assert np.array_equal(np.array([np.asarray(one) for one in found]), pixels)
    assert np.array_equal(np.asarray(middle(found)), pixels[2])
    path.write_bytes(path.read_bytes()[:-200])
    assert read_frames(path) is None
    path.write_bytes(frames_bytes(frames[:1], {}))
    assert len(read_frames(path)) == 1


@pytest.mark.parametrize("command", [("compare", "a fox"), ("sweep", "a fox", "--x", "b=1,1.2")])
def test_what_draws_stills_refuses_video(run, video_dir, tmp_path, command):
    code, _, err = run(*command, "--model", video_dir, "--output", tmp_path / "out")
    assert code == 2
    assert "tiny-video (TextToVideoSDPipeline) generates video, and this generates still images: freeu analyze" in err
    assert not (tmp_path / "out").exists()


def test_frames_are_for_video(run, words, tmp_path):
    pytest.importorskip("freeu_zoo")
    code, _, err = run("analyze", *words, "--frames", 4, "--output", tmp_path / "out")
    assert code == 2
    assert "--frames is for models that generate video; mini-sd generates still images" in err
    assert run("analyze", *words, "--frames", 0, "--output", tmp_path / "out")[0] == 2


def test_figures_of_clips(run, video_dir, words, tmp_path):
    pytest.importorskip("cv2")
    out = tmp_path / "out"
    command = ("analyze", video_dir, *words, "--frames", 4, "--b", "1.2,1.4", "--s", "0.9,0.2", "--freeu-version", 2)
    code, _, err = run(*command, "--figure", 101, "--figure", 102, "--output", out)
    assert (code, err) == (0, "")
    results = json.loads((out / "results.json").read_text())
    verdicts = results["verdicts"]
    assert [one["figure"] for one in verdicts] == [101, 101, 102, 102, 102, 102]
    assert all("Not in the paper" in one["claim"] for one in verdicts)

    def drawn(name):
        clips = (read_frames(out / "pictures" / name / f"p00{prompt}-s0000-{arm_of(name)}.png") for prompt in range(2))
        return [[np.asarray(frame) for frame in clip] for clip in clips]

    def arm_of(name):
        return "baseline" if name == "none" else "freeu"

    # The numbers are those of the measures, and what frames share makes a difference.
    plain, freeu = (list(map(flicker, drawn(name))) for name in ("none", "freeu"))
    assert verdicts[1]["values"] == pytest.approx(np.subtract(freeu, plain))
    smooth = list(map(flicker, drawn("over-time-smooth")))
    assert verdicts[5]["values"] == pytest.approx(np.subtract(smooth, freeu))
    assert verdicts[5]["values"] != [0.0, 0.0]
    assert verdicts[0]["values"][0] == pytest.approx(fast_share(drawn("freeu")[0]) - fast_share(drawn("none")[0]))
    _, power = temporal_spectrum(drawn("none")[0])
    _, other = temporal_spectrum(drawn("none")[1])
    rows = list(csv.DictReader(io.StringIO((out / "figures" / "figure-101.csv").read_text())))
    line, frequency, value, *_ = rows[0].values()
    assert (line, float(frequency)) == ("without FreeU", pytest.approx(1 / 8))
    assert float(value) == pytest.approx(np.log10((power[1] + other[1]) / 2))


def test_figures_of_clips_are_for_clips(run, video_dir, words, tmp_path):
    code, _, err = run("analyze", video_dir, *words, "--frames", 1, "--figure", 101, "--output", tmp_path / "out")
    assert code == 2
    assert "--figure 101 is for videos of 2 frames or more, got 1: leave it out" in err
    pytest.importorskip("freeu_zoo")
    code, _, err = run("analyze", *words, "--figure", 102, "--output", tmp_path / "out")
    assert code == 2
    assert "--figure 102 is for videos, and this model generates still images: leave it out" in err
    assert not (tmp_path / "out").exists()
    assert set(figures_for(8)) == {*FIGURES, 101, 102}
    assert set(figures_for(None)) == set(figures_for(1)) == set(FIGURES)

"""``freeu video`` from end to end on a tiny random model: files, manifest, resuming, making it again."""

from __future__ import annotations

import gc
import json
import re
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.pipelines.io.clip_files import ClipWriter, comment_of, read_clip
from freeu.pipelines.io.frames import frames_sha
from freeu.pipelines.pages.strip import make_side_by_side, make_strip, thinned
from freeu.pipelines.runs.manifest import Manifest, read_manifest

PAIRS = [f"p{p:03d}-s{s:04d}" for p in (0, 1) for s in (3, 4)]
CLIPS = [f"{pair}-{arm}" for pair in PAIRS for arm in ("baseline", "freeu")]
SHOWN = {"video.html", "strip.png", "manifest.json", *(f"{pair}-side-by-side.mp4" for pair in PAIRS)}
SHORT = ("a red fox", "--seeds", "3", "--frames", "3", "--steps", "1", "--threads", "1", "--format", "mp4,webp")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_folder_holds_clips_films_strip_page_and_manifest(filmed: tuple[Path, Any]) -> None:
    folder, outcome = filmed
    assert (outcome.code, outcome.err) == (0, "")
    files = {f"{clip}.{form}" for clip in CLIPS for form in ("mp4", "webp", "gif")}
    assert _names(folder) == files | SHOWN
    for name in ("video.html", "strip.png", "manifest.json"):
        assert str(folder / name) in outcome.out
    assert "model tiny-video" in outcome.out
    assert "8 videos: text-to-video, 5 frames at 7 fps, 16x16, 2 steps" in outcome.out


def test_every_clip_is_what_browsers_play(filmed: tuple[Path, Any]) -> None:
    folder = filmed[0]
    for clip in CLIPS:
        with av.open(str(folder / f"{clip}.mp4")) as container:
            (stream,) = container.streams
            context = stream.codec_context
            assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 16, 16)
            assert (stream.frames, stream.average_rate) == (5, 7)
        for form in ("webp", "gif"):
            found = read_clip(folder / f"{clip}.{form}")
            assert (len(list(found)), found.width, found.height) == (5, 16, 16)


def test_the_frames_are_those_of_diffusers(filmed: tuple[Path, Any], video_dir: Path) -> None:
    from diffusers import TextToVideoSDPipeline

    import freeu

    records = read_manifest(filmed[0]).images
    plan = read_manifest(filmed[0]).plan
    pipe = TextToVideoSDPipeline.from_pretrained(video_dir)
    pipe.set_progress_bar_config(disable=True)
    options = {"num_frames": 5, "num_inference_steps": 2, "output_type": "pil"}
    for arm in ("baseline", "freeu"):
        generator = torch.Generator().manual_seed(4)
        with freeu.enabled(pipe, plan.config if arm == "freeu" else freeu.FreeUConfig()):
            frames = pipe("a red fox", generator=generator, **options).frames[0]
        assert records[f"p000-s0004-{arm}.mp4"].sha256 == frames_sha(frames)


def test_the_manifest_tells_the_whole_story(filmed: tuple[Path, Any]) -> None:
    folder = filmed[0]
    data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert (data["kind"], data["schema"], data["complete"]) == ("freeu-manifest", 1, True)
    assert [entry["file"] for entry in data["pictures"]] == [f"{clip}.mp4" for clip in CLIPS]
    plan = data["plan"]
    assert (plan["command"], plan["task"], plan["frames"], plan["fps"]) == ("video", "video", 5, 7)
    assert (plan["formats"], plan["decode_chunk"]) == (["mp4", "webp", "gif"], 4)
    for off, on in zip(data["pictures"][::2], data["pictures"][1::2], strict=True):
        assert off["sha256"] != on["sha256"], "FreeU changes every video"
        assert set(off["files"]) == {off["file"].replace(".mp4", f".{form}") for form in ("mp4", "webp", "gif")}


def test_settings_inside_each_mp4_come_back(filmed: tuple[Path, Any], video_dir: Path) -> None:
    folder = filmed[0]
    text = comment_of(folder / f"{CLIPS[5]}.mp4")
    on, off = json.loads(text)["freeu"], json.loads(comment_of(folder / f"{CLIPS[4]}.mp4"))["freeu"]
    assert on["prompt"] == "ein grüner Apfel <b>&</b> 日本"
    assert (on["seed"], on["arm"], on["fps"], on["frames"]) == (3, "freeu", 7, 5)
    assert on["config"] == read_manifest(folder).plan.config.to_dict()
    assert off["config"] is None
    assert str(video_dir.parent) not in text, "a video that is passed on tells no path"


def test_side_by_side_is_in_step(filmed: tuple[Path, Any]) -> None:
    folder = filmed[0]
    together = read_clip(folder / f"{PAIRS[0]}-side-by-side.mp4")
    arms = [list(read_clip(folder / f"{PAIRS[0]}-{arm}.mp4")) for arm in ("baseline", "freeu")]
    assert (together.frames, together.fps) == (5, 7.0)
    assert together.width == 2 * 256 + 4
    for number, frame in enumerate(together):
        for left, frames in ((0, arms[0]), (260, arms[1])):
            part = Image.fromarray(frame[-256:, left : left + 256]).resize((16, 16), Image.Resampling.BOX)
            apart = [np.abs(np.asarray(part).astype(int) - one).mean() for one in frames]
            assert int(np.argmin(apart)) == number
            other = arms[1] if frames is arms[0] else arms[0]
            assert apart[number] < np.abs(np.asarray(part).astype(int) - other[number]).mean()


def test_the_strip_shows_frames_of_both_arms(filmed: tuple[Path, Any]) -> None:
    folder = filmed[0]
    strip = np.asarray(Image.open(folder / "strip.png").convert("RGB"))
    frame = np.asarray(Image.fromarray(list(read_clip(folder / f"{CLIPS[1]}.mp4"))[4]).resize((176, 176), 1))
    # Where a frame is pasted, it is there pixel for pixel: the last column of the second row.
    (y, x) = next(
        (y, x)
        for y in range(strip.shape[0] - 176)
        for x in range(strip.shape[1] - 176)
        if (strip[y, x : x + 176 : 25] == frame[0, ::25]).all() and (strip[y : y + 176, x : x + 176] == frame).all()
    )
    assert x > 176 * 4
    assert y > 176
    assert thinned(5) == [0, 1, 2, 3, 4]
    assert thinned(64) == [0, 7, 14, 21, 28, 35, 42, 49, 56, 63]
    assert thinned(11, 3) == [0, 5, 10]


def test_films_and_strips_hold_one_frame_at_a_time(filmed: tuple[Path, Any], tmp_path: Path) -> None:
    plan = read_manifest(filmed[0]).plan
    side = 64

    def peak(count: int) -> int:
        made = replace(plan, width=side, height=side, frames=count, prompts=("x",), seeds=(0,))
        for clip in made.images():
            with ClipWriter(tmp_path / clip.file, "mp4", 8, side, side) as writer:
                for number in range(count):
                    writer.add(np.full((side, side, 3), 3 * number, np.uint8))
        names = [clip.file for clip in made.images()]
        gc.collect()
        tracemalloc.start()  # which counts the arrays that frames are decoded to
        make_side_by_side(tmp_path, (names[0], names[1]), made, tmp_path / "film.mp4")
        make_strip(tmp_path, Manifest(made, {}), "title")
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert read_clip(tmp_path / "film.mp4").frames == count
        return held

    peak(8)
    assert peak(64) < peak(8) + 12 * side * side * 3


@pytest.mark.parametrize("command", ["video", "generate"])
def test_from_a_manifest_the_same_frames_again(
    filmed: tuple[Path, Any], cli: Callable[..., Any], tmp_path: Path, command: str
) -> None:
    folder, again = filmed[0], tmp_path / "again"
    outcome = cli(command, "--from", folder / "manifest.json", "--output", again)
    assert (outcome.code, outcome.err) == (0, "")
    assert "8 of 8 videos are bit-identical" in outcome.out
    assert _names(again) == _names(folder)
    for name in _names(folder) - {"manifest.json", "video.html"}:
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_frames_that_differ_without_a_reason_are_a_failure(
    filmed: tuple[Path, Any], cli: Callable[..., Any], tmp_path: Path
) -> None:
    data = json.loads((filmed[0] / "manifest.json").read_text(encoding="utf-8"))
    data["plan"]["seeds"], data["plan"]["prompts"] = [3], data["plan"]["prompts"][:1]
    data["pictures"] = data["pictures"][:2]
    data["pictures"][1]["sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
    outcome = cli("video", "--from", tmp_path, "--output", tmp_path / "again")
    assert outcome.code == 1
    assert "1 of 2 videos are bit-identical" in outcome.out
    assert "videos differ although model, versions, device and threads are the same" in outcome.one_line()


def test_an_interrupted_run_goes_on_and_ends_equal(
    video_dir: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freeu.pipelines.video import run as video_run

    words = (*SHORT[:2], "3-4", *SHORT[3:], "--model", video_dir, "--output")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert cli("video", *words, whole).code == 0
    draw, calls = video_run.generate_latents, []

    def interrupted(*args: Any) -> Any:
        calls.append(args[2].file)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(video_run, "generate_latents", interrupted)
    monkeypatch.setattr("sys.argv", ["freeu", "video", "a red fox"])
    outcome = cli("video", *words, parts)
    assert outcome.code == 130
    assert "stopped after 2 of 4 videos; go on with: freeu video 'a red fox' --output" in outcome.one_line()
    assert _names(parts) == {f"{clip}.{form}" for clip in CLIPS[:2] for form in ("mp4", "webp")} | {"manifest.json"}

    (parts / f"{CLIPS[1]}.webp").write_bytes(b"damaged")  # one file of two
    calls[:] = ["none"] * 3
    outcome = cli("video", *words, parts)
    assert (outcome.code, calls[3:]) == (0, [f"{clip}.mp4" for clip in CLIPS[1:4]])
    assert "kept 1 video of the earlier run" in outcome.err
    assert _names(parts) == _names(whole)
    for name in _names(whole) - {"manifest.json", "video.html"}:
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name

    outcome = cli("video", *words, parts, "--fps", "9")
    assert outcome.code == 2
    assert re.search(r"holds another run \(fps: 8, 9\): name a folder", outcome.one_line())
    outcome = cli("compare", "a fox", "--model", video_dir, "--output", parts)
    assert outcome.code == 2


def test_a_full_disk_leaves_nothing_half_written(
    video_dir: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freeu.pipelines.io.clip_files import ClipWriter

    add = ClipWriter.add

    def full(self: ClipWriter, frame: Any) -> None:
        if self._form == "webp" and self._count == 2:
            raise OSError(28, "No space left on device")
        add(self, frame)

    monkeypatch.setattr(ClipWriter, "add", full)
    outcome = cli("video", *SHORT, "--model", video_dir, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert f"free some, then run the same command with --output {tmp_path / 'out'}" in outcome.one_line()
    assert _names(tmp_path / "out") == {"manifest.json"}
    monkeypatch.undo()
    assert cli("video", *SHORT, "--model", video_dir, "--output", tmp_path / "out").code == 0


def test_identity_settings_and_options_over_time(video_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    words = ("video", *SHORT, "--model", video_dir, "--format", "gif")
    outcome = cli(*words, "--freeu-strength", "0", "--output", tmp_path / "same")
    assert outcome.code == 0
    assert "videos with and without FreeU will be equal" in outcome.one_line()
    off, on = read_manifest(tmp_path / "same").images.values()
    assert off.sha256 == on.sha256
    assert {path.suffix for path in (tmp_path / "same").glob("*-freeu.*")} == {".mp4", ".gif"}

    over = ("--b", "1.3,1.4", "--over-time", "shared", "--frame-strength", "1,0.5", "--time-threshold", "1")
    assert cli(*words, *over, "--output", tmp_path / "over").code == 0
    config = read_manifest(tmp_path / "over").plan.config
    assert config is not None
    assert (config.over_time, config.frame_strength, config.time_threshold) == ("shared", (1.0, 0.5), 1)
    assert cli(*words, "--b", "1.3,1.4", "--output", tmp_path / "plain").code == 0
    shas = {read_manifest(tmp_path / name).images[f"{CLIPS[1]}.mp4"].sha256 for name in ("over", "plain")}
    assert len(shas) == 2


def test_what_a_model_says_of_itself_is_used(video_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = shutil.copytree(video_dir, tmp_path / "mini")
    world = {"nouns": ["fox"], "colours": ["red"], "default_steps": 1, "default_guidance_scale": 2.5}
    world |= {"default_frames": 3, "default_fps": 5, "native_size": 24}
    (folder / "freeu-zoo.json").write_text(json.dumps(world), encoding="utf-8")
    outcome = cli("video", "a red zebra", "--model", folder, "--format", "mp4", "--output", tmp_path / "out")
    assert outcome.code == 0
    assert "cannot generate 'zebra' (in 'a red zebra'): it never saw them" in outcome.one_line()
    plan = read_manifest(tmp_path / "out").plan
    assert (plan.steps, plan.guidance, plan.frames, plan.fps, plan.width, plan.height) == (1, 2.5, 3, 5, 24, 24)


def test_without_a_model_the_embedded_one_films(
    video_dir: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = pytest.importorskip("freeu_zoo")
    monkeypatch.setattr(zoo, "models", lambda: {"mini-modelscope": video_dir})
    outcome = cli("video", *SHORT, "--output", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Made by the embedded miniature model mini-modelscope; --model takes your own." in outcome.out
    assert "the embedded miniature model mini-modelscope" in (tmp_path / "out" / "video.html").read_text("utf-8")


def test_a_manifest_of_pictures_is_what_it_was(compared: tuple[Path, Any]) -> None:
    data = json.loads((compared[0] / "manifest.json").read_text(encoding="utf-8"))
    assert not {"fps", "formats", "decode_chunk", "motion_adapter", "video_sha"} & data["plan"].keys()
    assert all("files" not in entry for entry in data["pictures"])


def test_a_study_takes_the_clips(filmed: tuple[Path, Any], tmp_path: Path) -> None:
    from freeu.study.plan.material import read_material

    folder = filmed[0]
    material = read_material([folder])
    assert material.media == "video"
    assert [arm.name for arm in material.arms] == ["baseline", "freeu"]
    assert [tuple(path.name for path in group.files) for group in material.groups] == [
        (f"{pair}-baseline.mp4", f"{pair}-freeu.mp4") for pair in PAIRS
    ]
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / f"{CLIPS[1]}.mp4").write_bytes((tmp_path / f"{CLIPS[0]}.mp4").read_bytes())
    with pytest.raises(FreeUValueError, match="was changed: it is not the video in its manifest"):
        read_material([tmp_path])


def test_a_manifest_cannot_name_files_elsewhere(filmed: tuple[Path, Any], tmp_path: Path) -> None:
    data = json.loads((filmed[0] / "manifest.json").read_text(encoding="utf-8"))
    data["pictures"][0]["files"] = {"../secret.mp4": "0"}
    (tmp_path / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(FreeUValueError, match="files of a video must be plain names"):
        read_manifest(tmp_path)

"""Bad input of ``freeu video`` that needs no model: exit code 2, one line, nothing written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run_cli as run
from PIL import Image

from freeu.pipelines.io.clip_files import ClipWriter

FOX = ("video", "a fox", "--model", "../ms")
CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "odd side": ((*FOX, "--width", "99"), "--width must be a multiple of 8 for this model, got 99: use 96 or 104"),
    "one frame": ((*FOX, "--frames", "1"), "--frames must lie in 2 to 1000, got 1"),
    "fps": ((*FOX, "--fps", "0"), "--fps must lie in 1 to 120, got 0"),
    "fast": ((*FOX, "--fps", "500"), "--fps must lie in 1 to 120, got 500"),
    "chunk": ((*FOX, "--decode-chunk", "0"), "--decode-chunk must lie in 1 to 1000, got 0"),
    "format": ((*FOX, "--format", "mp4,avi"), "unknown --format 'avi'"),
    "strength alone": ((*FOX, "--denoising-strength", "0.5"), "--denoising-strength needs a video to start from"),
    "strength": (
        (*FOX, "--video", "../a.mp4", "--denoising-strength", "2"),
        "--denoising-strength must lie in 0 to 1, got 2",
    ),
    "no video": ((*FOX, "--video", "nowhere.mp4"), "cannot read nowhere.mp4 as MP4: No such file"),
    "empty video": ((*FOX, "--video", "../empty.mp4"), "cannot read ../empty.mp4 as MP4"),
    "text as video": ((*FOX, "--video", "../text.mp4"), "cannot read ../text.mp4 as MP4"),
    "half a video": ((*FOX, "--video", "../half.mp4"), "../half.mp4"),
    "a still as video": ((*FOX, "--video", "../still.png"), "shows a single frame: a video has at least 2"),
    "another suffix": ((*FOX, "--video", "../a.avi"), "is no video that freeu reads: use .mp4"),
    "no image": (("video", "--model", "../svd", "--image", "nowhere.png"), "cannot read the image nowhere.png"),
    "no prompt": (("video", "--model", "../ms"), "no prompt: write one"),
    "empty prompt": (("video", "", "--model", "../ms"), "a prompt is empty"),
    "svd with a prompt": (("video", "x", "--model", "../svd", "--image", "../still.png"), "takes no prompt"),
    "svd without an image": (("video", "--model", "../svd"), "give --image FILE"),
    "still model": (("video", "a fox", "--model", "../sd"), "generates still images: use freeu compare"),
    "xl and an adapter": (
        ("video", "a fox", "--model", "../xl", "--motion-adapter", "../adapter"),
        "those of AnimateDiff belong to Stable Diffusion 1.x",
    ),
    "compare a video model": (("compare", "a fox", "--model", "../ms"), "freeu analyze and freeu video take it"),
    "compare svd": (("compare", "a fox", "--model", "../svd"), "generates still images: freeu video takes it"),
    "too many frames": (
        ("video", "a", "--model", "../sd", "--motion-adapter", "../adapter", "--frames", "33"),
        "adapter was made for up to 32 frames, got 33: lower --frames",
    ),
    "over time": ((*FOX, "--over-time", "clips"), "did you mean clip"),
    "frame strength": ((*FOX, "--frame-strength", "1,much"), "--frame-strength must be numbers of 0 to 1 with commas"),
    "frame strength above 1": ((*FOX, "--frame-strength", "1,2"), "frame_strength must lie in 0 to 1, got 2"),
    "time threshold": ((*FOX, "--time-threshold", "-1"), "time_threshold must be at least 0 frequency bins, got -1"),
    "from and more": (("video", "--from", "../short.json", "--fps", "9"), "leave --fps out"),
    "from and a format": (("video", "--from", "../short.json", "--format", "gif"), "leave --format out"),
    "short manifest": (("video", "--from", "../short.json"), "is damaged: plan has no field"),
    "foreign folder": ((*FOX, "--output", "../full"), "holds other files already"),
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory. Beside it: models that are found but never loaded, and damaged files."""
    classes = {
        "ms": "TextToVideoSDPipeline",
        "svd": "StableVideoDiffusionPipeline",
        "sd": "StableDiffusionPipeline",
        "xl": "StableDiffusionXLPipeline",
    }
    for name, cls in classes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text(json.dumps({"_class_name": cls, "unet": ["diffusers", "U"]}))
    (tmp_path / "adapter").mkdir()
    config = {"_class_name": "MotionAdapter", "motion_max_seq_length": 32}
    (tmp_path / "adapter" / "config.json").write_text(json.dumps(config))
    with ClipWriter(tmp_path / "a.mp4", "mp4", 8, 16, 16) as writer:
        for number in range(12):
            writer.add(np.full((16, 16, 3), 20 * number, np.uint8))
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: 4 * len(data) // 5])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "a.avi").write_bytes(b"RIFF")
    Image.new("RGB", (16, 16)).save(tmp_path / "still.png")
    (tmp_path / "short.json").write_text('{"kind": "freeu-manifest", "schema": 1, "plan": {"command": "video"}}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_one_clear_line_and_nothing_written(case: str, work: Path) -> None:
    words, expected = CASES[case]
    before = sorted(path.relative_to(work.parent) for path in work.parent.rglob("*"))
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert err.startswith("freeu: ")
    assert expected in err
    assert sorted(path.relative_to(work.parent) for path in work.parent.rglob("*")) == before


def test_a_missing_extra_names_the_pip_command(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    code, _, err = run(*FOX)
    assert (code, err) == (2, "freeu: av is not installed: pip install 'freeu[video]'\n")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["--model", "mini-modelscope"]])
def test_a_video_model_that_is_not_installed_names_the_pip_command(
    work: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    pytest.importorskip("freeu_zoo")
    monkeypatch.setitem(sys.modules, "freeu_zoo_video", None)
    code, _, err = run("video", "a 3d rocket", *words)
    line = "mini-modelscope is not installed: pip install freeu-zoo-video, or give a model of yours with --model"
    assert (code, err) == (2, f"freeu: {line}\n")
    assert list(work.iterdir()) == []


def test_a_zoo_without_a_video_model_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = pytest.importorskip("freeu_zoo")
    monkeypatch.delattr(zoo, "DEFAULT_VIDEO_MODEL", raising=False)
    code, _, err = run("video", "a 3d rocket")
    assert code == 2
    assert "freeu-zoo holds no embedded video model: give one with --model" in err

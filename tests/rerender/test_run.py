"""``freeu rerender`` from a video to a video: made, gone on with, given back, refused."""

from __future__ import annotations

import html
import importlib
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_cli as cli
from made_clips import sliding

pytest.importorskip("cv2")
pytest.importorskip("av")

from made_videos import film, heard, timed, tone
from tiny_pipelines import save_pipeline, tiny_unet

from freeu.pipelines.io.clip_files import ClipWriter, read_clip
from freeu.pipelines.io.frames import FramesSha
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs.request import Request
from freeu.rerender.denoise.settings import DEFAULT_STAGES
from freeu.rerender.options import RerenderOptions
from freeu.rerender.request import Job, Rerender, check_rerender, prepare_rerender
from freeu.rerender.run import SOURCE, VIDEOS, run_rerender
from freeu.rerender.video.source import open_source

SIZE = 64
DRAWING = ("--steps", "4", "--width", SIZE, "--height", SIZE, "--threads", "1", "--key-every", "4")


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion of random weights."""
    return save_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of 64x64 that slide by a pixel."""
    return film(tmp_path_factory.mktemp("videos") / "in.mp4", 9, SIZE)


@pytest.fixture(scope="module")
def control(sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ControlNet for it whose additions are not zero."""
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel

    torch.manual_seed(1)
    made = ControlNetModel.from_unet(
        UNet2DConditionModel.from_pretrained(sd / "unet"), conditioning_embedding_out_channels=(4, 8)
    )
    for name, parameter in made.named_parameters():
        if name.startswith(("controlnet_down", "controlnet_mid")):
            torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("controls") / "canny"
    made.save_pretrained(folder)
    return folder


def job(video: Path, sd: Path, folder: Path, command: str = "generate", frames: int | None = None, **more: Any) -> Job:
    request = Request(
        command=command,
        prompts=("a red fox",),
        sampling=SamplingOptions(seeds="3", steps=4, width=SIZE, height=SIZE),
        model=ModelOptions(str(sd)),
        run=RunOptions(threads=1),
        freeu=FreeUOptions(b="1.3,1.4", s="0.9,0.2"),
    )
    run = Rerender(video, request, RerenderOptions(key_every=4, frames=frames, **more))
    return prepare_rerender(run, check_rerender(run, folder))


class Stopping:
    """Progress that is interrupted once so many key frames are written."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.drawn, self.kept_keys, self.frames = after, [], 0, 0

    def kept(self, count: int) -> None:
        self.kept_keys += count

    def key(self, arm: str, frame: int, fraction: float) -> None:
        if fraction == 1.0:
            self.drawn.append((arm, frame))
        # In the middle of the key frame after those: what it has generated so far is lost.
        elif self.after is not None and len(self.drawn) == self.after and fraction > 0.5:
            raise KeyboardInterrupt

    def frame(self, arm: str, frame: int) -> None:
        self.frames += 1


@pytest.fixture(scope="module")
def made(video: Path, sd: Path, control: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("films") / "compared"
    words = ("rerender", video, "a red fox", "--compare", "--b", "1.3,1.4", "--s", "0.9,0.2", "--model", sd)
    result = cli(*words, "--controlnet", control, "--skip-filter-order", "before", *DRAWING, "--output", folder)
    assert result[0] == 0, result[2]
    return folder, result[1]


class TestFilm:
    def test_both_films_are_as_long_as_the_video_and_differ(self, made: Any, video: Path) -> None:
        folder, said = made
        source, *films = (list(read_clip(folder / name)) for name in (SOURCE, *VIDEOS.values()))
        assert len(source) == len(films[0]) == len(films[1]) == len(read_clip(video)) == 9
        assert not np.array_equal(films[0], films[1])
        assert not np.array_equal(films[0], source)
        assert read_clip(folder / VIDEOS["freeu"]).fps == read_clip(video).fps
        assert "9 frames" in said
        assert "4 frames" in said

    def test_key_frames_are_kept_and_are_in_the_film(self, made: Any) -> None:
        folder, _ = made
        record = json.loads((folder / "manifest.json").read_text())
        for arm in VIDEOS:
            assert [key["frame"] for key in record["keys"][arm]] == [0, 4, 8]
            names = {path.name for path in (folder / f"keys-{arm}").iterdir()}
            assert names == {"000000.png", "000004.png", "000008.png", "000008.safetensors"}

    def test_the_manifest_says_what_was_done(self, made: Any, control: Path) -> None:
        record = json.loads((made[0] / "manifest.json").read_text())
        assert record["plan"]["config"]["control"] == "before"
        assert record["settings"]["stages"] == list(DEFAULT_STAGES)
        assert record["control"]["reference"] == str(control)
        assert (record["video"]["frames"], record["video"]["sound"]) == (9, False)

    def test_the_page_holds_every_pair(self, made: Any) -> None:
        page = (made[0] / "rerender.html").read_text()
        assert page.count("<video") == 6
        assert "freeu rerender in.mp4" in page
        assert "data:video/mp4" in page
        together = read_clip(made[0] / "side-by-side.mp4")
        assert len(together) == 9
        assert together.width > 3 * 256

    def test_the_python_on_the_page_imports_what_there_is(self, made: Any) -> None:
        page = html.unescape((made[0] / "rerender.html").read_text())
        found = re.findall(r"^from (freeu[\w.]+) import (\w+)$", page, re.MULTILINE)
        assert [name for _, name in found] == ["KeyFrameGenerator", "KeyFrameSettings"]
        for module, name in found:
            assert hasattr(importlib.import_module(module), name)
        assert "images = [generator.generate(frame) for frame in key_frames]" in page

    def test_no_path_of_the_machine_is_in_what_is_shown(self, made: Any, sd: Path) -> None:
        for name in ("rerender.html", VIDEOS["baseline"], VIDEOS["freeu"]):
            assert str(sd.parent).encode() not in (made[0] / name).read_bytes(), name
        assert b"a red fox" in (made[0] / VIDEOS["freeu"]).read_bytes()

    def test_it_is_not_made_twice(self, made: Any, video: Path, sd: Path, control: Path) -> None:
        folder, _ = made
        before = {path: path.stat().st_mtime_ns for path in folder.glob("*freeu*.mp4")}
        words = ("rerender", video, "a red fox", "--compare", "--b", "1.3,1.4", "--s", "0.9,0.2", "--model", sd)
        code, _, err = cli(
            *words, "--controlnet", control, "--skip-filter-order", "before", *DRAWING, "--output", folder
        )
        assert code == 0, err
        assert {path: path.stat().st_mtime_ns for path in folder.glob("*freeu*.mp4")} == before
        words = ("rerender", video, "a blue fox", "--compare", "--b", "1.3,1.4", "--s", "0.9,0.2", "--model", sd)
        code, _, err = cli(
            *words, "--controlnet", control, "--skip-filter-order", "before", *DRAWING, "--output", folder
        )
        assert code == 2
        assert "holds another video" in err


class TestGoingOn:
    @pytest.mark.parametrize("after", [1, 2])
    def test_a_run_that_was_stopped_ends_with_the_same_film(
        self, video: Path, sd: Path, tmp_path: Path, after: int
    ) -> None:
        whole = run_rerender(job(video, sd, tmp_path / "whole"), OutputFolder(tmp_path / "whole"), Stopping())
        output = OutputFolder(tmp_path / "broken")
        with pytest.raises(KeyboardInterrupt):
            run_rerender(job(video, sd, tmp_path / "broken"), output, Stopping(after))
        assert not (output.path / VIDEOS["freeu"]).exists()
        assert not list(output.path.glob(".*part"))
        again = Stopping()
        record = run_rerender(job(video, sd, tmp_path / "broken"), output, again)
        assert again.kept_keys == after
        assert len(again.drawn) == 3 - after
        assert record["films"] == whole["films"]
        assert record["keys"] == whole["keys"]

    def test_the_command_says_how_with_the_seed_that_was_drawn(
        self, video: Path, sd: Path, control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("freeu.rerender.run.run_rerender", stop)
        words = [*map(str, ("rerender", video, "a red fox", "--model", sd, "--controlnet", control, *DRAWING))]
        words += ["--seed", "-1", "--output", str(tmp_path / "film")]
        monkeypatch.setattr("sys.argv", ["freeu", *words])
        code, _, err = cli(*words)
        assert code == 130
        assert re.search(r"stopped after 0 key frames; go on with: freeu rerender .*--seed \d+ ", err)

    def test_a_damaged_key_frame_is_drawn_anew(self, video: Path, sd: Path, tmp_path: Path) -> None:
        output = OutputFolder(tmp_path / "film")
        with pytest.raises(KeyboardInterrupt):
            run_rerender(job(video, sd, output.path), output, Stopping(2))
        path = output.path / "keys-freeu" / "000000.png"
        path.write_bytes(path.read_bytes()[:100])
        again = Stopping()
        run_rerender(job(video, sd, output.path), output, again)
        assert again.kept_keys == 0
        assert [frame for _, frame in again.drawn] == [0, 4, 8]

    def test_the_model_is_what_it_was(self, video: Path, sd: Path, tmp_path: Path) -> None:
        import torch

        made = job(video, sd, tmp_path / "film", command="compare")
        unet = made.loaded.pipe.unet
        sample, words = torch.randn(1, 4, 16, 16), torch.randn(1, 5, unet.config.cross_attention_dim)
        with torch.no_grad():
            before = unet(sample, torch.tensor(500), words).sample
        processors = dict(unet.attn_processors)
        with pytest.raises(KeyboardInterrupt):
            run_rerender(made, OutputFolder(tmp_path / "film"), Stopping(4))  # in the video with FreeU
        with torch.no_grad():
            torch.testing.assert_close(unet(sample, torch.tensor(500), words).sample, before, rtol=0, atol=0)
        assert {name: type(one) for name, one in unet.attn_processors.items()} == {
            name: type(one) for name, one in processors.items()
        }
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in unet.modules())

    def test_new_scenes_and_a_last_short_segment(self, sd: Path, tmp_path: Path) -> None:
        path = tmp_path / "cut.mp4"
        other = 255 - sliding(1, 0, 3, SIZE)
        with ClipWriter(path, "mp4", 8, SIZE, SIZE) as writer:
            for frame in [*sliding(1, 0, 6, SIZE), *other]:
                writer.add(frame)
        told = Stopping()
        record = run_rerender(job(path, sd, tmp_path / "film"), OutputFolder(tmp_path / "film"), told)
        assert [frame for _, frame in told.drawn] == [0, 4, 5, 6, 8]
        assert len(read_clip(tmp_path / "film" / record["films"]["freeu"]["file"])) == 9


class TestAsItWas:
    def test_strength_0_gives_the_video_back(self, video: Path, sd: Path, tmp_path: Path) -> None:
        output = OutputFolder(tmp_path / "film")
        record = run_rerender(job(video, sd, output.path, denoising_strength=0.0), output, Stopping())
        wanted = FramesSha()
        for frame in open_source(video):
            wanted.add(frame)
        assert record["films"]["freeu"]["frames_sha256"] == wanted.hexdigest()
        assert record["keys"] == {}

    def test_sound_is_kept(self, sd: Path, tmp_path: Path) -> None:
        path = heard(tmp_path / "heard.mp4", "aac")
        output = OutputFolder(tmp_path / "film")
        run_rerender(job(path, sd, output.path, frames=9), output, Stopping())
        wave, rate = tone(output.path / VIDEOS["freeu"])
        assert rate == 48_000
        assert np.abs(wave).max() > 0.5
        assert len(read_clip(output.path / VIDEOS["freeu"])) == 9
        assert {path.suffix for path in output.path.iterdir()} <= {".mp4", ".json", ""}

    def test_memory_does_not_grow_with_the_video(self, sd: Path, tmp_path: Path) -> None:
        def peak(count: int) -> int:
            path = film(tmp_path / f"{count}.mp4", count, SIZE)
            made = job(path, sd, tmp_path / f"film-{count}", disable=["cross-frame"])
            tracemalloc.start()
            run_rerender(made, OutputFolder(tmp_path / f"film-{count}"), Stopping())
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return found

        peak(5)  # what is loaded once
        assert peak(33) < 1.15 * peak(9)


FOX = ("in.mp4", "a fox")
BAD: dict[str, tuple[tuple[object, ...], str]] = {
    "nothing there": (("no.mp4", "a fox"), "cannot read no.mp4 as MP4: No such file"),
    "empty": (("empty.mp4", "a fox"), "cannot read empty.mp4"),
    "text": (("text.mp4", "a fox"), "cannot read text.mp4"),
    "half": (("half.mp4", "a fox"), "half.mp4"),
    "one frame": (("one.mp4", "a fox"), "has 1 frame: a video has at least 2"),
    "uneven": (("uneven.mp4", "a fox"), "variable frame rate"),
    "another suffix": (("in.avi", "a fox"), "is no video that freeu reads"),
    "odd side": ((*FOX, "--width", 99), "--width must be a multiple of 8"),
    "strength": ((*FOX, "--denoising-strength", 2), "--denoising-strength must lie in 0 to 1, got 2"),
    "too little": ((*FOX, "--denoising-strength", 0.1, "--steps", 4), "is less than one step"),
    "stage": ((*FOX, "--disable", "colours"), "unknown --disable 'colours'"),
    "stage to add": ((*FOX, "--enable", "colors"), "unknown --enable 'colors'"),
    "both ways": ((*FOX, "--enable", "colour", "--disable", "colour"), "--enable and --disable name colour both"),
    "keys": ((*FOX, "--key-every", 0), "interval of key frames is a whole number of at least 1, got 0"),
    "frames": ((*FOX, "--frames", 1), "--frames must lie in 2"),
    "no prompt": (("in.mp4", ""), "a prompt is empty"),
    "control": ((*FOX, "--controlnet", "nowhere"), "no ControlNet 'nowhere'"),
    "scale": ((*FOX, "--controlnet-weight", 3), "--controlnet-weight must lie in 0 to 2, got 3"),
    "order": ((*FOX, "--skip-filter-order", "between"), "between"),
    "no FreeU": ((*FOX, "--no-freeu", "--preset", "sd14"), "--no-freeu leaves nothing"),
    "no FreeU twice": ((*FOX, "--no-freeu", "--compare"), "--no-freeu leaves nothing"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bad videos are."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    whole = film(folder / "in.mp4", 9, SIZE)
    (folder / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    film(folder / "one.mp4", 1, SIZE)
    timed(folder / "uneven.mp4", [40, 40, 120, 40, 40, 200])
    return folder


class TestBadInput:
    @pytest.mark.parametrize("name", BAD)
    def test_one_line_and_nothing_written(
        self, folder: Path, sd: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.chdir(folder)
        words, message = BAD[name]
        code, _, err = cli("rerender", *words, "--model", sd, "--output", "film")
        assert code == 2
        assert len(err.strip().splitlines()) == 1, err
        assert message in err
        assert not (folder / "film").exists()

    def test_a_controlnet_for_another_architecture(self, video: Path, sd: Path, tmp_path: Path) -> None:
        from diffusers import ControlNetModel

        other = ControlNetModel.from_unet(
            tiny_unet(block_out_channels=(16, 32, 64)), conditioning_embedding_out_channels=(4, 8)
        )
        other.save_pretrained(tmp_path / "other")
        words = ("rerender", video, "a fox", "--model", sd, "--controlnet", tmp_path / "other", *DRAWING)
        code, _, err = cli(*words, "--output", tmp_path / "film")
        assert code == 2
        assert "take one that was trained for the same kind of model" in err
        assert len(err.strip().splitlines()) == 1
        assert not (tmp_path / "film").exists()


def test_in_little_memory(sd: Path, tmp_path: Path) -> None:
    clip = film(tmp_path / "in.mp4", 3, SIZE)
    words = (
        "rerender",
        clip,
        "a fox",
        "--model",
        sd,
        "--steps",
        "2",
        "--width",
        SIZE,
        "--height",
        SIZE,
        "--threads",
        "1",
    )
    saving = ("--offload", "model", "--vae-tiling", "--attention-slicing")
    outcome = cli(*words, *saving, "--output", tmp_path / "out")
    assert outcome.code == 0
    assert "--offload model saves nothing on the cpu" in outcome.one_line()
    plan = json.loads((tmp_path / "out" / "manifest.json").read_text())["plan"]
    assert (plan["offload"], plan["vae_tiling"], plan["attention_slicing"]) == ("model", True, True)

"""Every family that ``freeu video`` takes, from end to end on tiny random pipelines, and what each needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from PIL import Image

from freeu.errors import FreeURuntimeError
from freeu.pipelines.io.clip_files import ClipWriter, read_clip
from freeu.pipelines.io.frames import frames_sha, read_frames
from freeu.pipelines.runs.manifest import read_manifest
from freeu.pipelines.video.decoding import decode_frames

SMALL = ("--width", "32", "--height", "16", "--steps", "2", "--threads", "1", "--format", "mp4")


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline of each family, a motion adapter, an image and a video to begin with."""
    folder = tmp_path_factory.mktemp("families")
    tiny.tiny_animatediff_pipeline().save_pretrained(folder / "animatediff")
    tiny.tiny_svd_pipeline().save_pretrained(folder / "svd")
    tiny.tiny_i2vgenxl_pipeline().save_pretrained(folder / "i2vgenxl")
    tiny.save_pipeline(folder / "modelscope", "TextToVideoSDPipeline", unet=tiny.tiny_video_unet())
    tiny.save_pipeline(folder / "sd")
    motion_adapter().save_pretrained(folder / "adapter")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((50, 40), Image.Resampling.BICUBIC).save(folder / "start.png")
    with ClipWriter(folder / "start.mp4", "mp4", 16, 48, 32) as writer:
        for number in range(12):
            frame = np.full((32, 48, 3), 40, np.uint8)
            frame[8:24, 3 * number : 3 * number + 12] = (230, 180, 40)
            writer.add(frame)
    return folder


def motion_adapter(**changes: Any) -> Any:
    """Motion modules for the tiny Stable Diffusion."""
    from diffusers import MotionAdapter

    torch.manual_seed(1)
    settings = {
        "block_out_channels": (8, 16, 32),
        "motion_layers_per_block": 1,
        "motion_norm_num_groups": 4,
        "motion_num_attention_heads": 2,
        "motion_max_seq_length": 8,
        "use_motion_mid_block": False,
    }
    adapter = MotionAdapter(**settings | changes)
    with torch.no_grad():
        for parameter in adapter.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.2)  # it ends in zeros before training, and would change nothing
    return adapter


CASES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "animatediff": (("a fox", "--model", "animatediff"), "AnimateDiffPipeline", "video"),
    "motion-adapter": (("a fox", "--model", "sd", "--motion-adapter", "adapter"), "AnimateDiffPipeline", "video"),
    "svd": (("--model", "svd", "--image", "start.png"), "StableVideoDiffusionPipeline", "image-to-video"),
    "i2vgenxl": (("a fox", "--model", "i2vgenxl", "--image", "start.png"), "I2VGenXLPipeline", "image-to-video"),
    "video-to-video": (
        ("a fox", "--model", "modelscope", "--video", "start.mp4", "--denoising-strength", "0.9"),
        "VideoToVideoSDPipeline",
        "video-to-video",
    ),
    "animatediff-video": (
        ("a fox", "--model", "animatediff", "--video", "start.mp4"),
        "AnimateDiffVideoToVideoPipeline",
        "video-to-video",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_from_end_to_end(
    case: str, families: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(families)
    words, cls, task = CASES[case]
    outcome = cli("video", *words, *SMALL, "--frames", "3", "--b", "1.4,1.4", "--output", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    manifest = read_manifest(tmp_path / "out")
    plan = manifest.plan
    assert (plan.model.class_name, plan.task, plan.frames, plan.width, plan.height) == (cls, task, 3, 32, 16)
    off, on = manifest.images.values()
    assert off.sha256 != on.sha256, "FreeU changes the video"
    clip = read_clip(tmp_path / "out" / off.file)
    assert (clip.frames, clip.width, clip.height) == (3, 32, 16)
    text = json.dumps((tmp_path / "out" / "video.html").read_text(encoding="utf-8"))
    assert str(families) not in text
    if case in ("svd", "motion-adapter", "video-to-video"):
        outcome = cli("video", "--from", tmp_path / "out", "--output", tmp_path / "again")
        assert (outcome.code, outcome.err) == (0, "")
        assert "2 of 2 videos are bit-identical" in outcome.out


def test_svd_draws_what_diffusers_draws(families: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    from diffusers import StableVideoDiffusionPipeline

    words = ("--model", families / "svd", "--image", families / "start.png", "--frames", "5", "--fps", "9")
    words = (*words, "--guidance-scale", "2.5", "--decode-chunk", "2", *SMALL)
    assert cli("video", *words, "--output", tmp_path / "out").code == 0
    pipe = StableVideoDiffusionPipeline.from_pretrained(families / "svd")
    pipe.set_progress_bar_config(disable=True)
    image = Image.open(families / "start.png").convert("RGB").resize((32, 16), Image.Resampling.LANCZOS)
    frames = pipe(
        image,
        width=32,
        height=16,
        num_frames=5,
        fps=9,
        num_inference_steps=2,
        max_guidance_scale=2.5,
        decode_chunk_size=2,
        generator=torch.Generator().manual_seed(0),
    ).frames[0]
    assert read_manifest(tmp_path / "out").images["p000-s0000-baseline.mp4"].sha256 == frames_sha(frames)


def test_an_input_video_is_read_at_the_wanted_rate(families: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    words = ("a fox", "--model", families / "modelscope", "--video", families / "start.mp4", *SMALL)
    assert cli("video", *words, "--fps", "4", "--output", tmp_path / "out").code == 0
    assert read_manifest(tmp_path / "out").plan.frames == 3, "12 frames at 16 a second are 3 at 4"
    given = read_frames(tmp_path / "out" / "input-video.png", 250)
    assert given is not None
    stored = read_clip(tmp_path / "out" / "input-video.png")
    assert (stored.frames, stored.fps) == (3, 4.0), "the command that the page shows reads it at its own rate"
    outcome = cli("generate", "--from", tmp_path / "out", "--output", tmp_path / "again")
    assert "2 of 2 videos are bit-identical" in outcome.out
    source = list(read_clip(families / "start.mp4"))
    for frame, place in zip(given, (0, 4, 8), strict=True):
        wanted = Image.fromarray(source[place]).resize((32, 16), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(frame), np.asarray(wanted))


def test_one_chunk_at_a_time_equals_all_at_once(families: Path) -> None:
    for make in (tiny.tiny_animatediff_pipeline, tiny.tiny_i2vgenxl_pipeline):
        pipe = make()
        latents = torch.randn(1, 4, 7, 8, 8)
        whole = list(decode_frames(pipe, latents, 100))
        parts = list(decode_frames(pipe, latents, 3))
        assert len(whole) == len(parts) == 7
        # Sums over other batches are rounded in another order: one step of 256 at most, and rarely.
        apart = np.abs(np.array(whole, int) - np.array(parts, int))
        assert apart.max() <= 1
        assert apart.mean() < 1e-3
        theirs = pipe.video_processor.postprocess_video(pipe.decode_latents(latents).detach(), output_type="pil")[0]
        assert np.array_equal(np.array(whole), np.array([np.asarray(one) for one in theirs]))


def test_frames_that_are_not_finite_are_refused(families: Path) -> None:
    pipe = tiny.tiny_animatediff_pipeline()
    latents = torch.randn(1, 4, 4, 8, 8)
    latents[:, :, 3] = float("nan")
    frames = decode_frames(pipe, latents, 2)
    assert len([next(frames), next(frames)]) == 2
    with pytest.raises(FreeURuntimeError, match=r"decoder of the VAE gave numbers that are not finite .* float32"):
        next(frames)


def test_the_temporal_decoder_sees_its_chunk(families: Path) -> None:
    pipe = tiny.tiny_svd_pipeline()
    latents = torch.randn(1, 5, 4, 8, 8)
    for chunk in (2, 5):
        ours = np.array(list(decode_frames(pipe, latents, chunk)))
        with torch.no_grad():
            pixels = pipe.decode_latents(latents, 5, chunk)
        theirs = pipe.video_processor.postprocess_video(pixels, output_type="pil")[0]
        assert np.array_equal(ours, np.array([np.asarray(one) for one in theirs]))


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    """Latents of 8 and of 64 frames, decoded and encoded: the most tensors and frames alive at once are the same."""
    import gc
    import tracemalloc
    import weakref

    pipe = tiny.tiny_animatediff_pipeline()

    def peak(count: int) -> tuple[int, int, int]:
        latents = torch.randn(1, 4, count, 32, 32)
        sizes: list[int] = []
        decode = pipe.vae.decode
        pipe.vae.decode = lambda z, *rest, **more: (sizes.append(len(z)), decode(z, *rest, **more))[1]
        seen: dict[int, Any] = {}
        most = 0
        gc.collect()
        tracemalloc.start()
        with ClipWriter(tmp_path / f"{count}.mp4", "mp4", 8, 64, 64) as writer:
            for frame in decode_frames(pipe, latents, 4):
                chunk = frame.base if frame.base is not None else frame
                seen[id(chunk)] = weakref.ref(chunk)
                del chunk
                writer.add(frame)
                most = max(most, sum(one() is not None for one in seen.values()))
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        del pipe.vae.decode
        assert sum(sizes) == count
        return max(sizes), most, held

    peak(8)  # the first call imports and fills caches
    small, large = peak(8), peak(64)
    assert small[:2] == large[:2]
    assert small[0] == 4
    assert large[1] <= 2
    frame = 64 * 64 * 3
    assert large[2] < small[2] + 4 * frame, "numpy counts its arrays with tracemalloc"


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "svd without an image": (("--model", "svd"), "svd (StableVideoDiffusionPipeline) needs an image to begin with"),
    "svd with a prompt": (("a fox", "--model", "svd", "--image", "start.png"), "takes no prompt, only an image"),
    "svd with a negative prompt": (
        ("--model", "svd", "--image", "start.png", "--negative-prompt", "x"),
        "leave --negative-prompt out",
    ),
    "i2vgen without an image": (("a fox", "--model", "i2vgenxl"), "needs an image to begin with: give --image FILE"),
    "i2vgen without a prompt": (("--model", "i2vgenxl", "--image", "start.png"), "no prompt: write one"),
    "image for modelscope": (("a fox", "--model", "modelscope", "--image", "start.png"), "leave --image out"),
    "video for svd": (("--model", "svd", "--image", "start.png", "--video", "start.mp4"), "not both"),
    "video for i2vgen": (("a", "--model", "i2vgenxl", "--video", "start.mp4"), "needs an image to begin with"),
    "still model": (
        ("a fox", "--model", "sd"),
        "sd (StableDiffusionPipeline) generates still images: use freeu compare",
    ),
    "adapter and video model": (
        ("a fox", "--model", "modelscope", "--motion-adapter", "adapter"),
        "generates video by itself: leave --motion-adapter out",
    ),
    "adapter is none": (("a fox", "--model", "sd", "--motion-adapter", "sd/unet"), "is a UNet2DConditionModel, no mot"),
    "adapter is nowhere": (("a fox", "--model", "sd", "--motion-adapter", "nowhere"), "no motion adapter 'nowhere'"),
    "more than the adapter": (
        ("a fox", "--model", "sd", "--motion-adapter", "adapter", "--frames", "9"),
        "adapter was made for up to 8 frames, got 9: lower --frames",
    ),
    "more than animatediff": (("a fox", "--model", "animatediff", "--frames", "99"), "was made for up to 32 frames"),
    "more than the video": (
        ("a fox", "--model", "modelscope", "--video", "start.mp4", "--frames", "20", "--fps", "16"),
        "has 12 frames at 16 a second (12 at 16), and 20 are wanted: lower --frames",
    ),
    "strength leaves nothing": (
        ("a fox", "--model", "modelscope", "--video", "start.mp4", "--denoising-strength", "0.1", "--steps", "2"),
        "--denoising-strength 0.1 leaves none of 2 steps to do",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_one_clear_line_and_nothing_written(
    case: str, families: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(families)
    words, expected = BAD[case]
    outcome = cli("video", *words, "--output", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert expected in outcome.one_line()
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_kind_is_one_line(families: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    motion_adapter(block_out_channels=(16, 32, 64)).save_pretrained(tmp_path / "wide")
    words = ("video", "a fox", "--model", families / "sd", "--motion-adapter", tmp_path / "wide", *SMALL)
    outcome = cli(*words, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert "the motion adapter wide does not fit sd" in outcome.one_line()

"""What a video takes on the embedded miniature ModelScope: time with and without FreeU, and memory of long videos.

    python benchmarks/bench_video.py [--clips 3] [--steps 20] [--rounds 10]

Videos of 8 frames of 128x128 are generated in interleaved runs without and with FreeU; so are steps of the U-Net for
every way to treat the frames; random latents of 8, 64 and 256 frames are decoded and encoded in separate processes,
whose peak memory is measured. Writes results/video.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import conditions, interleaved, save, summary

import freeu
from freeu.pipelines.io.clip_files import ClipWriter
from freeu.pipelines.models.loading import load
from freeu.pipelines.models.sources.sources import find_model
from freeu.pipelines.video.decoding import decode_frames

BASE = "b1=1.2 b2=1.4 s1=0.9 s2=0.2"
WAYS = {
    "modelscope-v1": "",
    "version 2, frame": f"{BASE} v=2",
    "version 2, clip": f"{BASE} v=2 over_time=clip",
    "version 2, smooth": f"{BASE} v=2 over_time=smooth",
    "version 2, shared": f"{BASE} v=2 over_time=shared",
    "version 2, band over time": f"{BASE} v=2 time_threshold=1",
    "version 2, strength by frame": f"{BASE} v=2 frame_strength=1.0:0.5",
}
PROMPT = "a 3d rocket flying up on a blue background"
LENGTHS = (8, 64, 256)


def config(name: str) -> freeu.FreeUConfig:
    return freeu.FreeUConfig.parse(WAYS[name]) if WAYS[name] else freeu.preset(name)


def videos(pipe: Any, count: int, steps: int) -> dict[str, list[float]]:
    """Seconds of whole videos, decoding included, in interleaved runs."""

    def generate() -> None:
        generator = torch.Generator().manual_seed(0)
        pipe(PROMPT, num_frames=8, num_inference_steps=steps, guidance_scale=3.0, generator=generator)

    def with_freeu() -> None:
        with freeu.enabled(pipe, "modelscope-v1"):
            generate()

    return interleaved({"none": generate, "modelscope-v1": with_freeu}, count, warmup=0)


def unet_steps(pipe: Any, rounds: int) -> dict[str, dict[str, float]]:
    """Time of one guided call of the U-Net for every way in interleaved runs, and its ratio to that without FreeU."""
    unet = pipe.unet
    sample, words = torch.randn(2, 4, 8, 32, 32), torch.randn(2, 32, unet.config.cross_attention_dim)

    def call() -> None:
        unet(sample, torch.tensor(500), words)

    def acting(name: str) -> Any:
        def run() -> None:
            with freeu.enabled(unet, config(name)):
                call()

        return run

    with torch.inference_mode():
        seconds = interleaved({"none": call, **{name: acting(name) for name in WAYS}}, rounds, warmup=1)
    rows = {name: summary(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        rows[name]["paired_ratio"] = statistics.median(
            one / none for one, none in zip(values, seconds["none"], strict=True)
        )
    return rows


def decode(frames: int) -> None:
    """Decode and encode random latents; prints the peak memory of this process before and after, in MiB."""
    pipe = load(find_model(None, "DEFAULT_VIDEO_MODEL")).pipe
    latents = torch.randn(1, 4, frames, 32, 32, generator=torch.Generator().manual_seed(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ClipWriter(Path(folder) / "x.mp4", "mp4", 8, 128, 128, "") as writer:
        for frame in decode_frames(pipe, latents, 4):
            writer.add(frame)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.perf_counter() - began
    print(json.dumps({"frames": frames, "before_mib": before, "peak_mib": after, "seconds": seconds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--decode", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.decode:
        decode(options.decode)
        return
    memory = []
    for frames in LENGTHS:
        command = [sys.executable, __file__, "--decode", str(frames)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        memory.append(json.loads(done.stdout.splitlines()[-1]))
    pipe = load(find_model(None, "DEFAULT_VIDEO_MODEL")).pipe
    whole = videos(pipe, options.clips, options.steps)
    data = {
        "conditions": conditions(),
        "clip": {"frames": 8, "size": 128, "steps": options.steps, "guidance": 3.0},
        "seconds_per_clip": {name: {"median": statistics.median(s), "all": s} for name, s in whole.items()},
        "unet_step": unet_steps(pipe, options.rounds),
        "decoding": memory,
    }
    print(json.dumps(data, indent=1))
    print(f"written to {save('video', data)}")


if __name__ == "__main__":
    main()

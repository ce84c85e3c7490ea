"""Scenes per second on one core, from number to picture and captions; and seconds of a picture of mini-sd.

    python benchmarks/bench_scenes.py [--rounds 9] [--pictures 7]

Scenes are of every noun, style and layout. A picture has 20 steps with guidance, on all threads, one at a time.
Writes results/scenes.json.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import freeu_zoo
import torch
from common import conditions, save
from diffusers import StableDiffusionPipeline
from freeu_zoo import recipe
from freeu_zoo.world import captions, scenes

EACH = 500


def scene_seconds(rounds: int) -> list[float]:
    """Seconds of ``EACH`` scenes, round by round, after one round that reads the sprites."""
    maker = scenes.SceneMaker(recipe.shipped("reader").world, seed=1, held_out=False)
    draw = random.Random(0)
    seconds = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        for place in range(number * EACH, (number + 1) * EACH):
            scene = maker.scene(place)
            scenes.compose(scene)
            captions.full_caption(scene, draw)
        seconds.append(time.perf_counter() - start)
    return seconds


def picture_seconds(count: int) -> list[float]:
    """Seconds of single pictures, after one to warm up."""
    pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    pipe.set_progress_bar_config(disable=True)
    seconds = []
    for seed in range(count + 1):
        start = time.perf_counter()
        pipe("a 3d fox on a blue background", num_inference_steps=20, generator=torch.Generator().manual_seed(seed))
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pictures", type=int, default=7)
    options = parser.parse_args()
    first, *rest = scene_seconds(options.rounds)
    pictures = picture_seconds(options.pictures)
    low, middle, high = (EACH / value for value in statistics.quantiles(rest, n=4)[::-1])
    cold, drawn = EACH / first, statistics.median(pictures)
    print(f"scenes/s on one core: median {middle:.0f} (quartiles {low:.0f}, {high:.0f}); the first {EACH}: {cold:.0f}")
    print(f"mini-sd, 20 steps: median {drawn:.2f} s a picture, on {torch.get_num_threads()} threads")
    data = {"conditions": conditions(), "scenes_per_round": EACH, "seconds": rest, "first_seconds": first}
    print(f"written to {save('scenes', {**data, 'scenes_per_second': middle, 'picture_seconds': pictures})}")


if __name__ == "__main__":
    main()

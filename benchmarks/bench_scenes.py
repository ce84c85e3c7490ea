"""Scenes per second on one core, from number to image and captions; and seconds per image of mini-sd.

    python benchmarks/bench_scenes.py [--rounds 9] [--images 7]

Scenes are of every noun, style and layout. An image has 20 steps with guidance, on all threads, one at a time.
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


def image_seconds(count: int) -> list[float]:
    """Seconds of single images, after one to warm up."""
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
    parser.add_argument("--images", type=int, default=7)
    options = parser.parse_args()
    first, *rest = scene_seconds(options.rounds)
    images = image_seconds(options.images)
    low, middle, high = (EACH / value for value in statistics.quantiles(rest, n=4)[::-1])
    cold, median = EACH / first, statistics.median(images)
    print(f"scenes/s on one core: median {middle:.0f} (quartiles {low:.0f}, {high:.0f}); the first {EACH}: {cold:.0f}")
    print(f"mini-sd, 20 steps: median {median:.2f} s per image, on {torch.get_num_threads()} threads")
    data = {"conditions": conditions(), "scenes_per_round": EACH, "seconds": rest, "first_seconds": first}
    print(f"written to {save('scenes', {**data, 'scenes_per_second': middle, 'image_seconds': images})}")


if __name__ == "__main__":
    main()

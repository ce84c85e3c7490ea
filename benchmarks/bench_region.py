"""What a region of FreeU costs, and how far it keeps FreeU's change within the mask.

    python benchmarks/bench_region.py [--rounds 40] [--seeds 1] [--threads 1]

By the embedded model. The cost is that of a step of its U-Net, two rows as with CFG: interleaved runs without FreeU,
with it everywhere, and with it in a region. The reach is measured over eight prompts: the mean change of a pixel
(0..255, mean of the colours) against the image without FreeU, within the left half and outside of it, with FreeU
everywhere and with the left half as the region. Writes benchmarks/results/region.json and docs/images/region.png.
"""

from __future__ import annotations

import argparse
import copy
import io
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, conditions, interleaved, save, summary
from PIL import Image, ImageDraw

import freeu
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import load, quiet
from freeu.pipelines.models.sources.sources import find_model

PROMPTS = (
    "a 3d fox on a blue background",
    "a flat red apple on a white background",
    "a 3d penguin on a green background",
    "a flat yellow star on a black background",
    "a 3d cat left of a 3d dog",
    "a line tree on a white background",
    "a 3d duck above a 3d sailboat",
    "a flat house on a purple background",
)
PRESETS = ("mild", "sd14")
STEPS = 10


def cost(pipe: Any, rounds: int) -> dict[str, Any]:
    """A step of the U-Net; the extra of each pair, in percent of the step without FreeU."""
    unet, side = pipe.unet, pipe.unet.config.sample_size
    sample = torch.randn(2, unet.config.in_channels, side, side, generator=torch.Generator().manual_seed(0))
    words = torch.randn(2, 77, unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(1))
    nets = {name: copy.deepcopy(unet) for name in ("without", "everywhere", "region")}
    freeu.apply(nets["everywhere"], "sd14")
    freeu.apply(nets["region"], "sd14", region=left_half(8 * side))
    functions = {name: partial(net, sample, torch.tensor(500), words) for name, net in nets.items()}
    with torch.inference_mode():
        seconds = interleaved(functions, rounds)
    found: dict[str, Any] = {name: summary(values) for name, values in seconds.items()}
    for name in ("everywhere", "region"):
        extra = [100 * (a / b - 1) for a, b in zip(seconds[name], seconds["without"], strict=True)]
        found[f"{name}_extra_percent"] = spread(extra)
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 3), "q1": round(low, 3), "q3": round(high, 3)}


def left_half(side: int) -> torch.Tensor:
    mask = torch.zeros(side, side)
    mask[:, : side // 2] = 1.0
    return mask


def generate(pipe: Any, prompt: str, seed: int, preset: str | None, region: Any) -> np.ndarray:
    settings = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "output_type": "np"}
    generator = torch.Generator().manual_seed(seed)
    if preset is None:
        return np.asarray(pipe(prompt, generator=generator, **settings).images[0])
    with freeu.enabled(pipe, preset, region=region):
        return np.asarray(pipe(prompt, generator=generator, **settings).images[0])


def reach(pipe: Any, seeds: int) -> dict[str, Any]:
    """Mean changes within and outside of the left half, per preset, and the median of each over all images."""
    side = pipe.vae_scale_factor * pipe.unet.config.sample_size
    mask = left_half(side)
    inside = mask.numpy() == 1.0
    found: dict[str, Any] = {}
    plain = {(p, s): generate(pipe, p, s, None, None) for p in PROMPTS for s in range(seeds)}
    for preset in PRESETS:
        rows = []
        for (prompt, seed), without in plain.items():
            row: dict[str, Any] = {"prompt": prompt, "seed": seed}
            for name, region in (("everywhere", None), ("region", mask)):
                change = 255 * np.abs(generate(pipe, prompt, seed, preset, region) - without).mean(axis=2)
                row[name] = {
                    "inside": round(float(change[inside].mean()), 4),
                    "outside": round(float(change[~inside].mean()), 4),
                }
            rows.append(row)
            print(preset, row, flush=True)
        medians = {
            f"{name}_{where}": spread([row[name][where] for row in rows])
            for name in ("everywhere", "region")
            for where in ("inside", "outside")
        }
        kept = [row["region"]["outside"] / max(row["everywhere"]["outside"], 1e-9) for row in rows]
        ratio = [row["region"]["inside"] / max(row["region"]["outside"], 1e-9) for row in rows]
        found[preset] = {
            **medians,
            "outside_of_region_over_everywhere": spread(kept),
            "inside_over_outside": spread(ratio),
            "images": rows,
        }
    return found


def picture(pipe: Any, path: Path) -> None:
    """Two prompts: without FreeU, everywhere, in the left half, and four times the change in the left half."""
    side, scale, bar = pipe.vae_scale_factor * pipe.unet.config.sample_size, 2, 22
    titles = ("without FreeU", "everywhere", "left half", "its change, x4")
    sheet = Image.new("RGB", (len(titles) * side * scale, 2 * side * scale + bar), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * side * scale + 6, 5), title, fill="black")
    for row, prompt in enumerate((PROMPTS[0], PROMPTS[4])):
        without = generate(pipe, prompt, 0, None, None)
        everywhere = generate(pipe, prompt, 0, "sd14", None)
        regional = generate(pipe, prompt, 0, "sd14", left_half(side))
        change = np.clip(4 * np.abs(regional - without), 0, 1)
        for column, pixels in enumerate((without, everywhere, regional, change)):
            image = Image.fromarray((255 * pixels).round().astype(np.uint8)).resize((side * scale, side * scale))
            sheet.paste(image, (column * side * scale, bar + row * side * scale))
        for column in (2, 3):
            x = column * side * scale + side * scale // 2
            top = bar + row * side * scale
            draw.line((x, top, x, top + side * scale), fill="white")
    OutputFolder(path.parent).write(path.name, png(sheet))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with quiet():
        pipe = load(find_model(None)).pipe
        pipe.set_progress_bar_config(disable=True)
        data = {"conditions": conditions(), "step": cost(pipe, options.rounds), "preset_of_step": "sd14"}
        print(data["step"], flush=True)
        picture(pipe, RESULTS.parent.parent / "docs" / "images" / "region.png")
        data |= {"steps": STEPS, "guidance": 3.0, "region": "left half", "change": reach(pipe, options.seeds)}
    print(f"written to {save('region', data)}")


if __name__ == "__main__":
    main()

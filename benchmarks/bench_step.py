"""What FreeU costs in a whole denoising step of a U-Net with the size of Stable Diffusion 1.5.

    python benchmarks/bench_step.py [--pairs 20] [--batch 2] [--dtype bfloat16]

Random weights (the time does not depend on them), 64x64 latents, batch of 2 as with CFG. Interleaved pairs of steps
without and with FreeU, and the time of the hooks alone, which is less affected by noise of the machine. Writes
results/step.json.
"""

from __future__ import annotations

import argparse

import torch
from common import conditions, save
from diffusers import UNet2DConditionModel

import freeu
from freeu.pipelines.check.check import Step, check_overhead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).to(dtype).eval()
    sample = torch.randn(options.batch, 4, 64, 64, dtype=dtype)
    text = torch.randn(options.batch, 77, 768, dtype=dtype)
    step = Step((sample, torch.tensor(500), text), {}, 1, 1)
    with torch.inference_mode():
        verdict = check_overhead(unet, freeu.preset("sd15"), step, options.pairs)
    print(verdict.text)
    data = {
        "conditions": conditions(),
        "batch": options.batch,
        "dtype": options.dtype,
        "preset": "sd15",
        **verdict.data,
    }
    print(f"written to {save('step', data)}")


if __name__ == "__main__":
    main()

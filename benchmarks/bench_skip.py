"""filter_skip against diffusers' fourier_filter, on a slice of a concatenated buffer, as in a U-Net.

    python benchmarks/bench_skip.py [--rounds 60] [--forms]

Interleaved runs of three functions on the same features: diffusers' FFT form, the closed form out of place and in
place. One thread and all threads, float32 and bfloat16. Writes results/skip.json and prints the table.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from common import conditions, interleaved, save, summary
from diffusers.utils.torch_utils import fourier_filter

from freeu.ops import _lowband, filter_skip

SHAPES = [(2, 1280, 8, 8), (2, 1280, 16, 16), (2, 1280, 32, 32), (2, 640, 32, 32), (2, 640, 64, 64)]
SCALE = 0.9


def measure(shape: tuple[int, ...], dtype: torch.dtype, rounds: int) -> dict[str, object]:
    """Median times and paired ratios at one shape and dtype."""
    batch, channels, height, width = shape
    # The skip is the second half of what the decoder concatenated. The version in place has its own buffer, since
    # thousands of rounds reduce its values to 0.
    buffer = torch.randn(batch, 2 * channels, height, width).to(dtype)
    skip, own = buffer[:, channels:], buffer.clone()[:, channels:]
    seconds = interleaved(
        {
            "fft": lambda: fourier_filter(skip, threshold=1, scale=SCALE),
            "out_of_place": lambda: filter_skip(skip, SCALE),
            "in_place": lambda: filter_skip(own, SCALE, inplace=True),
        },
        rounds,
    )
    row: dict[str, object] = {"shape": shape, "dtype": str(dtype).removeprefix("torch.")}
    for name, values in seconds.items():
        row[name] = summary(values)
        if name != "fft":
            ratios = [a / b for a, b in zip(seconds["fft"], values, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            row[f"speedup_{name}"] = {"median": middle, "q1": low, "q3": high}
    return row


def compare_forms(rounds: int) -> None:
    """Print the microseconds of the dense and the separable form in place over map sizes: where they cross."""
    for side in (4, 8, 12, 14, 16, 20, 24):
        skip = torch.randn(2, 2560, side, side)[:, 1280:]

        def form(limit: int, skip: torch.Tensor = skip) -> None:
            _lowband.DENSE_PIXELS = limit
            filter_skip(skip, SCALE, inplace=True)

        medians = []
        for limit in (side * side, 0):
            _lowband._cache.clear()
            seconds = interleaved({"form": lambda limit=limit, form=form: form(limit)}, rounds)
            medians.append(summary(seconds["form"])["median_us"])
        print(f"{side:>3} x {side:<3} dense {medians[0]:6.0f}   separable {medians[1]:6.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forms", action="store_true", help="compare the two forms of the projection instead")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    rounds = options.rounds
    torch.manual_seed(0)
    everything = torch.get_num_threads()
    if options.forms:
        with torch.inference_mode():
            compare_forms(rounds)
        return
    data = {"conditions": conditions(), "rounds": rounds, "rows": []}
    with torch.inference_mode():
        for threads in sorted({1, everything}):
            torch.set_num_threads(threads)
            for dtype in (torch.float32, torch.bfloat16):
                rows = [measure(shape, dtype, rounds) | {"threads": threads} for shape in SHAPES]
                data["rows"] += rows
                print(f"\n{threads} thread(s), {rows[0]['dtype']}")
                print(f"{'shape':>20} {'fft us':>9} {'out us':>9} {'in us':>9} {'out x':>7} {'in x':>7}")
                for row in rows:
                    times = [row[name]["median_us"] for name in ("fft", "out_of_place", "in_place")]
                    gains = [row[f"speedup_{name}"]["median"] for name in ("out_of_place", "in_place")]
                    print(
                        f"{row['shape']!s:>20} " + " ".join(f"{t:9.0f}" for t in times), *(f"{g:7.1f}" for g in gains)
                    )
                for name in ("out_of_place", "in_place"):
                    gains = [row[f"speedup_{name}"]["median"] for row in rows]
                    print(f"{name}: geometric mean {statistics.geometric_mean(gains):.1f}x, least {min(gains):.1f}x")
    print(f"\nwritten to {save('skip', data)}")


if __name__ == "__main__":
    main()

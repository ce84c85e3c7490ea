"""What spectral analysis costs: a 20-step image of mini-sd measured at every site and step, against a plain one.

    python benchmarks/bench_analyze.py [--pairs 9]

Time in interleaved pairs; memory as the growth of the process's peak in fresh processes. Writes results/analyze.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

import torch
from common import conditions, interleaved, save

from freeu.analysis.measurement.trace import trace
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs.generate import generate_image
from freeu.pipelines.runs.prepare import Prepared, prepare
from freeu.pipelines.runs.request import Request, check_request

SHOWN = (0, 4, 8, 11, 15, 19)


def prepared() -> Prepared:
    from pathlib import Path

    request = Request(
        "generate",
        ("a 3d fox on a blue background",),
        SamplingOptions(steps=20),
        freeu=FreeUOptions(preset="sd14"),
    )
    return prepare(request, check_request(request, Path("nothing-is-written-here")))


def peak_megabytes(watched: bool) -> float:
    """Peak resident memory of this process after one image."""
    made = prepared()
    planned = next(made.plan.images())
    with quiet():
        generate_image(made.loaded.pipe, made.plan, planned)
        if watched:
            trace(made.loaded.pipe, made.plan, planned, maps_at=SHOWN, decode_at=SHOWN)
        else:
            generate_image(made.loaded.pipe, made.plan, planned)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--peak", choices=("plain", "watched"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(json.dumps(peak_megabytes(options.peak == "watched")))
        return
    made = prepared()
    pipe, plan = made.loaded.pipe, made.plan
    planned = next(plan.images())
    runs = {
        "plain": lambda: generate_image(pipe, plan, planned),
        "watched": lambda: trace(pipe, plan, planned, maps_at=SHOWN, decode_at=SHOWN),
    }
    with quiet():
        seconds = interleaved(runs, options.pairs, warmup=1)
    ratios = [b / a for a, b in zip(seconds["plain"], seconds["watched"], strict=True)]
    peaks = {
        name: [
            json.loads(
                subprocess.run([sys.executable, __file__, "--peak", name], capture_output=True, text=True).stdout
            )
            for _ in range(3)
        ]
        for name in runs
    }
    more = statistics.median(peaks["watched"]) - statistics.median(peaks["plain"])
    threads = torch.get_num_threads()
    print(f"watched over plain: median {statistics.median(ratios):.2f} in {len(ratios)} pairs, {threads} threads")
    print(f"peak memory beyond the plain run: {more:.0f} MB")
    data = {"conditions": conditions(), "seconds": seconds, "ratios": ratios, "peak_megabytes": peaks}
    print(f"written to {save('analyze', data)}")


if __name__ == "__main__":
    main()

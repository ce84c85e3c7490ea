"""Images per second of ``freeu evaluate`` on the embedded model: one by one in float32, and as ``--dtype auto`` does.

    python benchmarks/bench_evaluate.py [--rounds 5] [--images 32]

Generating alone, without scoring; 20 steps with guidance, on all threads. Four ways, in interleaved runs: one image at
a time or as many as ``--batch`` takes by default, the U-Net in float32 or, where the processor multiplies in it, in
bfloat16. Writes results/evaluate-speed.json.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from dataclasses import replace
from pathlib import Path

from common import conditions, interleaved, save

from freeu.pipelines.models.loading import quiet
from freeu.pipelines.options.run import SpeedOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs.generate import generate_images
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.runs.prepare import prepare
from freeu.pipelines.runs.request import Request, check_request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=32, help="of each run; a multiple of the batch")
    options = parser.parse_args()
    sampling = SamplingOptions(seeds=f"0-{options.images - 1}", steps=20)
    request = Request("generate", ("a 3d fox on a blue background",), sampling, speed=SpeedOptions())
    prepared = prepare(request, check_request(request, Path("new")))
    fast = prepared.plan
    plans = {
        "one by one, float32": replace(fast, batch=1, autocast=None),
        "one by one": replace(fast, batch=1),
        f"{fast.batch} at a time, float32": replace(fast, autocast=None),
        f"{fast.batch} at a time": fast,
    }

    def run(plan: Plan) -> None:
        # One image at a time costs the same each time: a quarter of them tells as much.
        count = options.images if plan.batch > 1 else max(1, options.images // 4)
        with quiet():
            for batch in itertools.islice(plan.batches(), count // plan.batch):
                generate_images(prepared.loaded.pipe, plan, batch)

    seconds = interleaved({name: lambda plan=plan: run(plan) for name, plan in plans.items()}, options.rounds, warmup=1)
    each = {
        name: [(options.images if plan.batch > 1 else max(1, options.images // 4)) / one for one in seconds[name]]
        for name, plan in plans.items()
    }
    first, *_, last = each.values()
    gain = [b / a for a, b in zip(first, last, strict=True)]
    for name, found in each.items():
        print(f"{name}: median {statistics.median(found):.2f} images/s ({min(found):.2f} to {max(found):.2f})")
    print(f"in all {statistics.median(gain):.2f}x ({min(gain):.2f} to {max(gain):.2f})")
    data = {"conditions": conditions(), "autocast": fast.autocast, "images_per_second": each, "gain": gain}
    print(f"written to {save('evaluate-speed', data)}")


if __name__ == "__main__":
    main()

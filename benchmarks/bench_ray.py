"""Images a second of two workers with one thread each, one worker with one thread, and one process with two threads.

    python benchmarks/bench_ray.py [--rounds 2] [--images 32]

Images of 64x64 in two steps by the embedded model, through the same functions as ``freeu generate --ray``; the three
take turns (A B C, C B A), and loading the model is not counted. Writes benchmarks/results/ray.json.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from common import conditions, save

from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import PromptOptions, SamplingOptions
from freeu.pipelines.runs.executors import Executor, InProcess
from freeu.pipelines.runs.prepare import Prepared, prepare
from freeu.pipelines.runs.ray_executor import LOCAL, ray_cluster
from freeu.pipelines.runs.request import Request, check_request
from freeu.pipelines.runs.run import ImageMaker, make_run


def rate(prepared: Prepared, executor: Executor, threads: int, count: int) -> float:
    """Images a second of a run."""
    plan = replace(prepared.plan, seeds=tuple(range(count)), threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        make_run(replace(prepared, plan=plan), OutputFolder(Path(folder)), ImageMaker(), executor=executor)
        return count / (time.perf_counter() - began)


def of_workers(prepared: Prepared, workers: int, count: int) -> float:
    """``rate`` of so many workers with a thread each."""
    import ray

    ray.init(address="local", num_cpus=workers, include_dashboard=False, logging_level=logging.CRITICAL)
    try:
        with ray_cluster(LOCAL) as executor:
            while len(executor.pids) < workers:  # each has loaded the model
                rate(prepared, executor, 1, 2 * workers)
            return rate(prepared, executor, 1, count)
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--images", type=int, default=32)
    options = parser.parse_args()
    request = Request(
        "generate",
        PromptOptions(["a 3d fox on a blue background"]).collect(),
        SamplingOptions(steps=2, width=64, height=64),
        run=RunOptions(threads=1),
        freeu=FreeUOptions(),
    )
    prepared = prepare(request, check_request(request, Path("unused")))
    cases = {
        "two workers, one thread each": lambda: of_workers(prepared, 2, options.images),
        "one worker, one thread": lambda: of_workers(prepared, 1, options.images),
        "one process, two threads": lambda: rate(prepared, InProcess(), 2, options.images),
    }
    rates: dict[str, list[float]] = {name: [] for name in cases}
    load = [os.getloadavg()[0]]
    for _, names in zip(range(options.rounds), itertools.cycle([list(cases), list(cases)[::-1]])):
        for name in names:
            rates[name].append(cases[name]())
            print(f"{name}: {rates[name][-1]:.2f} images a second", flush=True)
        load.append(os.getloadavg()[0])
    first, *others = rates
    ratios = {
        f"{first} / {other}": statistics.median(a / b for a, b in zip(rates[first], rates[other], strict=True))
        for other in others
    }
    print(ratios)
    found = {"images": options.images, "images_per_second": rates, "median_ratio": ratios, "load_average": load}
    save("ray", {"conditions": conditions(), **found})


if __name__ == "__main__":
    main()

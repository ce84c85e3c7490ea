"""What a run costs besides its images: seconds of manifest and journal per image, for runs of 10 to 10,000 images.

    python benchmarks/bench_bookkeeping.py [--most 10000]

Images of 64x64 in one step by the embedded model, through the same functions as ``freeu generate``.
Writes benchmarks/results/bookkeeping.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from common import conditions, save

from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import PromptOptions, SamplingOptions
from freeu.pipelines.runs.prepare import Prepared, prepare
from freeu.pipelines.runs.request import Request, check_request
from freeu.pipelines.runs.run import ImageMaker, make_run


def measure(prepared: Prepared, count: int) -> dict[str, float]:
    """One run of that many images, and the same command once more, which finds all of them there."""
    one = replace(prepared, plan=replace(prepared.plan, seeds=tuple(range(count))))
    with tempfile.TemporaryDirectory() as folder:
        output = OutputFolder(Path(folder))
        began = time.perf_counter()
        manifest = make_run(one, output, ImageMaker())
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        make_run(one, output, ImageMaker())
        again = time.perf_counter() - began
        size = (output.path / "manifest.json").stat().st_size
    images = sum(record.seconds for record in manifest.images.values())
    return {
        "images": count,
        "ms_per_image": 1e3 * images / count,
        "bookkeeping_ms_per_image": 1e3 * (seconds - images) / count,
        "verified_ms_per_image": 1e3 * again / count,
        "manifest_bytes": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=10_000)
    most = parser.parse_args().most
    request = Request(
        "generate",
        PromptOptions(["a 3d fox on a blue background"]).collect(),
        SamplingOptions(steps=1, width=64, height=64),
        run=RunOptions(threads=1),
        freeu=FreeUOptions(),
    )
    prepared = prepare(request, check_request(request, Path("unused")))
    rows = []
    for count in (10, 100, 1_000, 10_000):
        if count <= most:
            rows.append(measure(prepared, count))
            print(rows[-1], flush=True)
    save("bookkeeping", {"conditions": conditions(), "runs": rows})


if __name__ == "__main__":
    main()

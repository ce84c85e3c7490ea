"""What every benchmark shares: the conditions of a run, interleaved timing, results on disk."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def conditions() -> dict[str, Any]:
    """Versions, processor and commit, so that a number can be understood years later."""
    import diffusers

    import freeu

    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "freeu": freeu.__version__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
        "processor": processor,
        "cores": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def interleaved(functions: dict[str, Callable[[], Any]], rounds: int, warmup: int = 3) -> dict[str, list[float]]:
    """Seconds of each function in interleaved runs (A B C, C B A, ...): drift of the machine affects all alike."""
    for _ in range(warmup):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds):
        for name in list(functions) if number % 2 else reversed(list(functions)):
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and quartiles in microseconds."""
    low, middle, high = statistics.quantiles(seconds, n=4)
    return {"median_us": middle * 1e6, "q1_us": low * 1e6, "q3_us": high * 1e6, "runs": len(seconds)}


def save(name: str, data: dict[str, Any]) -> Path:
    """Write results/NAME.json atomically."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)
    return path


def write_sheet(images: list[tuple[str, Path]], title: str, path: Path) -> None:
    """Images, four in a row, each under its caption, as PNG."""
    from PIL import Image

    from freeu.personalize.training.samples import sheet

    opened = [(caption, Image.open(file).convert("RGB")) for caption, file in images]
    part = path.with_suffix(".part")
    sheet(opened, title).save(part, format="PNG")
    part.replace(path)

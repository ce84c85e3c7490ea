"""Seconds that `import freeu` adds to `import torch`, each in fresh interpreters.

    python benchmarks/bench_import.py [--rounds 11]

The public names are touched once, since those that need torch are loaded at first use. Writes results/import.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from common import conditions, save

CODE = """
import time, torch
start = time.perf_counter()
import freeu
for name in freeu.__all__:
    getattr(freeu, name)
print(time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    seconds = []
    # As for an installed package: compiled once, by the first round.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(rounds + 1):
        out = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
        seconds.append(float(out.stdout))
    seconds = seconds[1:]  # the first one compiles the files and reads them from disk
    low, middle, high = statistics.quantiles(seconds, n=4)
    print(
        f"import freeu beyond import torch: median {middle * 1e3:.0f} ms (quartiles {low * 1e3:.0f}, {high * 1e3:.0f})"
    )
    print(f"written to {save('import', {'conditions': conditions(), 'seconds': seconds, 'median': middle})}")


if __name__ == "__main__":
    main()

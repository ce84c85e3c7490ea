"""Seconds from `freeu compare` to its first line and to the first image on disk, on the embedded model.

    python benchmarks/bench_first_image.py [--rounds 7]

Each round is a fresh process. Wall time tells what a user waits on this machine as busy as it is; processor time of
the same moments tells what the command itself costs. Writes results/first_image.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import conditions, save

PROMPT = "a 3d fox on a blue background"


def processor_seconds(process: int) -> float | None:
    """Seconds of processor time that a process has used; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_round() -> dict[str, float | None]:
    """One run of the command, measured from outside."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        command = [sys.executable, "-m", "freeu", "compare", PROMPT, "--output", str(output)]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            line = process.stderr.readline()
            said = time.perf_counter() - began
            assert line.startswith(b"freeu: loading"), line
            while not any(output.glob("p*.png")):
                if process.poll() is not None:
                    raise SystemExit(process.stderr.read().decode())
                time.sleep(0.005)
            found: dict[str, float | None] = {
                "first_line": said,
                "first_image": time.perf_counter() - began,
                "first_image_processor": processor_seconds(process.pid),
            }
            process.stderr.read()
        found["all"] = time.perf_counter() - began
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    one_round()  # compiles the files and reads them from disk
    found = [one_round() for _ in range(rounds)]
    medians = {}
    for name in found[0]:
        values = [one[name] for one in found if one[name] is not None]
        medians[name] = statistics.median(values) if values else None
        print(f"{name}: median {medians[name]:.2f} s" if values else f"{name}: not measured on this system")
    print(f"written to {save('first_image', {'conditions': conditions(), 'rounds': found, 'medians': medians})}")


if __name__ == "__main__":
    main()

"""A disk that fails now and then, for programs started by tests and benchmarks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("faulty_disk.c")


def why_not():
    """Why there can be no such disk here, or ""."""
    if not sys.platform.startswith("linux"):
        return "only Linux preloads libraries in this way"
    return "" if shutil.which("cc") else "no C compiler: apt install gcc"


def build(folder):
    """Compile the library into a folder."""
    library = Path(folder) / "faulty_disk.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def environment(library, share, *, errors=(), calls="rw", while_there=None, count=None, file="study.sqlite"):
    """Variables under which a program meets the disk.

    Args:
        library: of ``build``.
        share: of the calls that fail, 0 to 1.
        errors: their numbers; by default ESTALE, ETIMEDOUT, EIO and ENOSPC.
        calls: letters: r(ead), w(rite), s(ync).
        while_there: calls fail only while this file exists.
        count: gets a byte for each failed call.
        file: a word in the path of the files.
    """
    found = {**os.environ, "LD_PRELOAD": str(library), "FAULTY_FILE": file, "FAULTY_CALLS": calls}
    found["FAULTY_PER_MILLION"] = str(round(share * 1_000_000))
    for name, value in (
        ("FAULTY_ERRORS", ",".join(str(int(one)) for one in errors)),
        ("FAULTY_WHILE", while_there),
        ("FAULTY_COUNT", count),
    ):
        if value:
            found[name] = str(value)
    return found

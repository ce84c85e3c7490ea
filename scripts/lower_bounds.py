"""Install the lowest versions that pyproject.toml declares, on the lowest Python it takes, and run freeu there.

    python scripts/lower_bounds.py FOLDER [--python PYTHON] [--keep]

FOLDER is for the environment (some 7 GB: the lowest torch is a CUDA build; deleted at the end unless --keep). Only what
freeu and its extras name is held at its bound; what those packages ask for in turn is the newest that they accept.
Writes benchmarks/results/lower-bounds.json.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import checks
import tomllib
from environments import ROOT, Environment, build_wheels, write_results

BOUND = re.compile(r"(?P<name>[\w.-]+)(\[[\w,-]+\])?>=(?P<version>[\w.]+)\s*(;.*)?$")
TESTS = ("tests/ops/test_*.py", "tests/core/test_*.py", "tests/adapters/test_*.py", "tests/test_config.py")
LEFT_OUT = {
    "compile": "compiling is tested with the versions of constraints.txt",
    "UNetSD": "needs modelscope, which freeu does not ask for",
    "halves_of_guidance": "needs modelscope, which freeu does not ask for",
    "test_video_pipelines": "makes its pipelines as transformers 5 does",
}
"""Parts of names of files and tests that are not run, and why."""


def lowest() -> dict[str, str]:
    """The lower bound of every requirement of freeu and of its extras (those for development apart), by name.

    Raises:
        SystemExit: a requirement without a lower bound.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in extras.keys() - {"dev"} for line in extras[name])]
    found = {}
    for line in lines:
        if re.match(r"freeu(-zoo)?(-video)?(\[|$)", line):
            continue
        bound = BOUND.match(line)
        if bound is None:
            raise SystemExit(f"{line!r} has no lower bound")
        found[bound["name"].lower()] = bound["version"]
    return dict(sorted(found.items()))


def lowest_python() -> str:
    """The interpreter of the lowest Python that freeu takes.

    Raises:
        SystemExit: it is not installed.
    """
    wanted = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert wanted is not None
    found = shutil.which(f"python{wanted[1]}")
    if found is None:
        raise SystemExit(f"there is no python{wanted[1]}: name an interpreter with --python")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", help="the interpreter to use")
    parser.add_argument("--keep", action="store_true", help="leave the environment, and use it again the next time")
    given = parser.parse_args()
    folder = given.folder.resolve()
    wheels = build_wheels(folder)
    bounds = lowest()
    shutil.rmtree(folder / "work", ignore_errors=True)
    env = Environment(folder / "lowest", folder / "work", given.python or lowest_python())
    (folder / "bounds.txt").write_text("".join(f"{name}=={version}\n" for name, version in bounds.items()))
    pinned = ("--constraint", folder / "bounds.txt", "--find-links", folder / "wheels")
    env.install(*pinned, f"freeu[all] @ {wheels['freeu'].as_uri()}", "pytest", "hypothesis", "jaxtyping", "beartype")
    env.install("--no-deps", *wheels.values(), "--force-reinstall")

    sources = folder / "sources"  # of the same moment as the wheels
    for path in sorted(path for pattern in TESTS for path in sources.glob(pattern)):
        if any(part in path.name for part in LEFT_OUT):
            continue
        # Warnings of old versions are theirs to mend.
        options = (
            "-m",
            "pytest",
            "-o",
            "filterwarnings=",
            "-k",
            " and ".join(f"not {part}" for part in LEFT_OUT),
            "--rootdir",
            sources,
        )
        env.check(f"pytest {path.relative_to(sources)}", *options, path)
    checks.everything(env)
    installed = env.versions()
    data = {
        "python": subprocess.run(
            [env.folder / "bin" / "python", "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip(),
        "system": sys.platform,
        "bounds": bounds,
        "left out": LEFT_OUT,
        "held": {name: installed.get(name, "") for name in bounds},
        "others": {name: version for name, version in installed.items() if name not in bounds},
        "checks": env.checks,
    }
    failed = write_results("lower-bounds", data, [env])
    if not given.keep:
        shutil.rmtree(folder)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())

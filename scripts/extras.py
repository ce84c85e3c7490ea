"""Install freeu in fresh virtual environments, plainly and with each extra, and run what each is for.

    python scripts/extras.py FOLDER [--only EXTRA ...] [--keep]

FOLDER is for the environments (some gigabytes; deleted at the end unless --keep) and must not exist, or be of an
earlier run with --keep. Versions are those of constraints.txt. Writes benchmarks/results/extras.json.
"""

from __future__ import annotations

import argparse
import platform
import shutil
from pathlib import Path

import checks
from environments import ROOT, Environment, build_wheels, write_results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(checks.BY_EXTRA), metavar="EXTRA")
    parser.add_argument("--keep", action="store_true", help="leave the environments")
    given = parser.parse_args()
    folder = given.folder.resolve()
    wheels = build_wheels(folder)
    zoo = [path for name, path in wheels.items() if name != "freeu"]
    pinned = ("--constraint", ROOT / "constraints.txt", "--find-links", folder / "wheels")

    plain = Environment(folder / "plain", folder / "work-plain")
    plain.install(*pinned, wheels["freeu"])
    brought, size = plain.versions(), plain.megabytes()
    found = {"freeu": {"packages": sorted(brought), "megabytes": size, "checks": plain.checks}}
    environments = [plain]
    if not given.only:
        checks.base(plain)
        near = plain.copy(folder / "near", folder / "work-plain")
        near.install(*pinned, "diffusers")
        checks.beside(near)
        plain.checks += near.checks
        shutil.rmtree(near.folder)

    for extra, tests in checks.BY_EXTRA.items():
        if given.only and extra not in given.only:
            continue
        print(f"-- freeu[{extra}]", flush=True)
        env = plain.copy(folder / extra, folder / ("work-all" if extra == "all" else "work"))
        env.install(*pinned, f"freeu[{extra}] @ {wheels['freeu'].as_uri()}")
        more = sorted(env.versions().keys() - brought.keys())
        found[extra] = {"packages": more, "megabytes": env.megabytes() - size, "checks": env.checks}
        if extra not in ("demo", "all"):  # the model for the checks
            env.install("--no-deps", *zoo)
        for test in tests:
            test(env)
        environments.append(env)
        if not given.keep:
            shutil.rmtree(env.folder)
    data = {
        "python": platform.python_version(),
        "system": platform.system(),
        "torch": brought["torch"],
        "extras": found,
    }
    if given.only:
        data["only"] = given.only
    failed = write_results("extras", data, environments)
    if not given.keep:
        shutil.rmtree(folder)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())

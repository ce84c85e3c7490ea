"""Virtual environments in which freeu is installed as a user installs it, and commands that are run there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PATIENCE = 900
"""Seconds that a command may take."""
ADDRESS = re.compile(r"http://[\w.:]+\S*")


def build_wheels(folder: Path) -> dict[str, Path]:
    """Wheels of freeu and of the zoo, built from copies of the files that git knows, so that nothing stale gets in.

    Args:
        folder: for the copies and the wheels; they are replaced.

    Returns:
        the wheels by the name of their distribution.
    """
    sources, wheels = folder / "sources", folder / "wheels"
    for old in (sources, wheels):
        shutil.rmtree(old, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, sources / name)
    projects = [sources, *(path.parent for path in sorted(sources.glob("*/pyproject.toml")))]
    for project in projects:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, project]
        subprocess.run(list(map(str, command)), check=True)
    return {path.name.split("-")[0].replace("_", "-"): path for path in sorted(wheels.glob("*.whl"))}


class Environment:
    """A virtual environment, and what became of the commands that were run in it.

    Args:
        folder: of the environment; made if it does not exist.
        python: the interpreter to make it with.
        work: where its commands are run and write.
    """

    def __init__(self, folder: Path, work: Path, python: str = sys.executable) -> None:
        self.folder, self.work = folder, work
        self.checks: list[dict[str, Any]] = []
        work.mkdir(parents=True, exist_ok=True)
        if not (folder / "bin" / "python").exists():
            subprocess.run([python, "-m", "venv", str(folder)], check=True)

    def copy(self, folder: Path, work: Path) -> Environment:
        """The same environment once more, in hard links: files that pip replaces there stay as they are here."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder, symlinks=True, copy_function=os.link)
        return Environment(folder, work)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """The environment's Python with these arguments; nothing of the surroundings gets in, no model hub is asked."""
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
        surroundings |= {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
        return subprocess.Popen(
            [str(self.folder / "bin" / "python"), *map(str, arguments)],
            cwd=self.work,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: object) -> tuple[int, str]:
        """Exit code and output of the environment's Python."""
        process = self.start(*arguments)
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        return process.returncode, output

    def install(self, *arguments: object) -> None:
        """``pip install``; its own words if it fails."""
        code, output = self.run("-m", "pip", "install", "--disable-pip-version-check", *arguments)
        if code:
            raise SystemExit(f"pip install {' '.join(map(str, arguments))} failed:\n{output}")

    def versions(self) -> dict[str, str]:
        """Every distribution in it but pip and setuptools, by name."""
        _, output = self.run("-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
        found = json.loads(output[output.index("[") :].splitlines()[0])
        return {one["name"].lower(): one["version"] for one in found if one["name"] not in ("pip", "setuptools")}

    def megabytes(self) -> int:
        """What its packages take on disk."""
        files = (path.lstat() for path in (self.folder / "lib").rglob("*") if not path.is_dir())
        return round(sum(status.st_size for status in files) / 1e6)

    # -- checks -----------------------------------------------------------------------------------------------------

    def check(self, name: str, *arguments: object, code: int = 0, words: str = "") -> str:
        """Run and note whether it ended as it should.

        Args:
            name: what to call the check.
            arguments: of Python.
            code: the exit code that is right.
            words: a regular expression that the output must match somewhere.
        """
        begun = time.monotonic()
        found, output = self.run(*arguments)
        fine = found == code and re.search(words, output) is not None
        self.note(name, fine, time.monotonic() - begun, output, f"exit code {found}")
        return output

    def freeu(self, *words: object, code: int = 0, says: str = "") -> str:
        """``check`` of a command of freeu."""
        return self.check(" ".join(map(str, ("freeu", *words))), "-m", "freeu", *words, code=code, words=says)

    def serves(self, *words: object) -> None:
        """A command of freeu that serves a page: the address that it prints answers, and Ctrl-C ends it."""
        begun = time.monotonic()
        process = self.start("-u", "-m", "freeu", *words, "--port", "0")
        seen, fine, why = "", False, "no address"
        assert process.stdout is not None
        for line in process.stdout:
            seen += line
            address = ADDRESS.search(line)
            if address:
                with urllib.request.urlopen(address[0], timeout=60) as answer:
                    fine, why = answer.status == 200 and b"<html" in answer.read().lower(), f"HTTP {answer.status}"
                break
        process.send_signal(signal.SIGINT)
        try:
            rest, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            rest, _ = process.communicate()
            why = "Ctrl-C does not end it"
        name = " ".join(map(str, ("freeu", *words)))
        self.note(name, fine and process.returncode in (0, 130), time.monotonic() - begun, seen + rest, why)

    def holds(self, name: str, test: Callable[[], bool]) -> None:
        """Note whether something is so."""
        begun = time.monotonic()
        self.note(name, test(), time.monotonic() - begun, "", "it does not hold")

    def note(self, name: str, fine: bool, seconds: float, output: str, why: str) -> None:
        check = {"check": self._shortened(name), "passed": fine, "seconds": round(seconds, 1)}
        if not fine:
            check["output"] = [why, *map(self._shortened, output.strip().splitlines()[-12:])]
        self.checks.append(check)
        print(f"{'passed' if fine else 'FAILED'}  {check['check']}", *check.get("output", ()), sep="\n    ", flush=True)

    def _shortened(self, text: str) -> str:
        for folder in (self.folder, self.work, self.work.parent, ROOT):
            text = text.replace(f"{folder}/", "")
        return text


def write_results(name: str, data: dict[str, Any], environments: Sequence[Environment]) -> int:
    """Write ``benchmarks/results/NAME.json`` and count what failed."""
    path = RESULTS / f"{name}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    checks = [check for one in environments for check in one.checks]
    failed = sum(not check["passed"] for check in checks)
    print(f"{len(checks) - failed} of {len(checks)} checks passed; wrote {path.relative_to(ROOT)}")
    return 1 if failed else 0

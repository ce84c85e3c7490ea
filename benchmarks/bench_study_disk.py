"""A study over a disk that fails now and then: what was acknowledged must be there.

Reads and writes of the database files return ESTALE, ETIMEDOUT, EIO or ENOSPC for two of a hundred calls (a preloaded
library, tests/study/faulty_disk.c; Linux and a C compiler are needed). Raters vote over HTTP, several times a second,
and send a vote again until it is acknowledged; the server is killed with SIGKILL several times on the way.

    python benchmarks/bench_study_disk.py --votes 1600 --kills 3
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from bench_study import RATERS, join, make_study, quantiles
from common import conditions, save

from freeu.study.store.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from study import faulty_disk

SHARE = 0.02
AT_ONCE = 24
ERRORS = ("ESTALE", "ETIMEDOUT", "EIO", "ENOSPC")


@dataclass
class Tally:
    """What the raters heard."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)


class Server:
    """The server in a process of its own, on a disk that fails while the file ``on`` exists."""

    def __init__(self, study: Path, port: int, folder: Path) -> None:
        self._command = [sys.executable, "-m", "freeu", "study", "serve", str(study), "--port", str(port)]
        self.on, self.count, self.log = folder / "on", folder / "count", folder / "log"
        numbers = [getattr(errno, name) for name in ERRORS]
        library = faulty_disk.build(folder)
        self._settings = faulty_disk.environment(library, SHARE, errors=numbers, while_there=self.on, count=self.count)
        self._process: subprocess.Popen[str] | None = None
        self.address = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Start it while the disk works: a server that cannot write or read its database does not start."""
        self.on.unlink(missing_ok=True)
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, env=self._settings
            )
        assert self._process.stdout is not None
        if "freeu study:" not in self._process.stdout.readline():
            raise SystemExit("the server did not start")
        self.on.touch()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Stop it with SIGTERM while the disk fails; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)


async def again(tally: Tally, send: Any) -> Any:
    """What an answer says that is sent for until it is one."""
    while True:
        try:
            answer = await send()
        except httpx.TransportError:
            tally.answers["no answer"] += 1
        else:
            tally.answers[str(answer.status_code)] += 1
            if answer.status_code < 400:
                return answer
            if answer.status_code not in (429, 503):
                raise SystemExit(f"{answer.status_code} {answer.text[:200]}")
        await asyncio.sleep(0.05)


async def rate(address: str, number: int, votes: int, tally: Tally) -> None:
    """One rater: as many votes, one after the other."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        while True:
            try:
                await join(client)
                break
            except (httpx.TransportError, AssertionError, ValueError, KeyError):
                client.cookies.clear()
                await asyncio.sleep(0.05)
        state = (await again(tally, lambda: client.get("/api/state"))).json()
        for place in range(votes):
            choice = ("left", "right", "tie")[(number + place) % 3]
            task = state["task"]
            body = {"task": task["task"], "revision": task["revision"], "choice": choice, "seconds": 2.5}
            start = time.perf_counter()
            answer = (await again(tally, lambda body=body: client.post("/api/vote", json=body))).json()
            tally.seconds.append(time.perf_counter() - start)
            tally.acknowledged[task["task"]] = answer["choice"]
            state = answer["state"]
            await asyncio.sleep(0.2)


async def run(server: Server, votes: int, kills: int) -> Tally:
    """Let the raters vote, and kill the server when so many of the votes are in."""
    tally, each = Tally(), -(-votes // AT_ONCE)
    people = [asyncio.create_task(rate(server.address, number, each, tally)) for number in range(AT_ONCE)]
    for number in range(kills):
        while len(tally.acknowledged) < votes * (number + 1) / (kills + 1):
            await asyncio.sleep(0.05)
        server.kill()
        await asyncio.to_thread(server.start)
    await asyncio.gather(*people)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--votes", type=int, default=1_600)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--no-save", action="store_true", help="do not write results/study-disk.json")
    options = parser.parse_args()
    if reason := faulty_disk.why_not():
        raise SystemExit(f"there is no faulty disk here: {reason}")
    assert AT_ONCE <= RATERS
    folder = Path(tempfile.mkdtemp(prefix="freeu-study-", dir=Path(__file__).parent))  # on a real disk
    try:
        # Some raters join twice where the answer to the first time was lost, so there are more slots than raters.
        study = make_study(folder / "study", tasks=options.votes // AT_ONCE + 5)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server, begun = Server(study.path, port, folder), time.perf_counter()
        server.start()
        tally = asyncio.run(run(server, options.votes, options.kills))
        seconds, status = time.perf_counter() - begun, server.stop()
        with Store(f"sqlite:///{study.path / 'study.sqlite'}", study.plan, access="read") as store:
            stored = store.counted_votes()
        with contextlib.closing(sqlite3.connect(study.path / "study.sqlite")) as connection:
            sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
        failed, lines = server.count.stat().st_size, server.log.read_text().splitlines()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    choices, times = {vote.task: vote.choice for vote in stored}, Counter(vote.task for vote in stored)
    data = {
        "conditions": conditions(),
        "database": "SQLite, WAL, synchronous=FULL, group commit",
        "errors": list(ERRORS),
        "share_of_calls_that_fail": SHARE,
        "calls_that_failed": failed,
        "kills": options.kills,
        "seconds": round(seconds, 1),
        "answers": dict(sorted(tally.answers.items())),
        "votes_until_acknowledged": {"count": len(tally.seconds), **quantiles(tally.seconds)},
        "acknowledged": len(tally.acknowledged),
        "stored": len(stored),
        "lost": sum(task not in choices for task in tally.acknowledged),
        "changed": sum(choices.get(task, choice) != choice for task, choice in tally.acknowledged.items()),
        "doubled": sum(count > 1 for count in times.values()),
        "integrity_check": sound,
        "log_lines": len(lines),
        "causes": sorted({line.partition("freeu study: ")[2] for line in lines}),
        "exit_status_after_sigterm": status,
    }
    print(json.dumps(data, indent=1))
    if not options.no_save:
        print(f"wrote {save('study-disk', data)}")
    if data["lost"] or data["changed"] or data["doubled"] or sound != "ok":
        raise SystemExit("a vote that was acknowledged is not there as it was")


if __name__ == "__main__":
    main()

"""Load test: 120 raters vote over HTTP while the server is killed. Latency of votes, and lost votes.

Each rater waits 3 s between votes, 40 votes per second in all, and fetches the two images that a browser would
preload. The server is a process of its own with SQLite and every commit synced. It is killed with SIGKILL several times
and restarted. A rater sends a vote again until it is acknowledged.

    python benchmarks/bench_study.py --seconds 60 --kills 5
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from common import conditions, save
from PIL import Image

from freeu.study.plan.folder import KIND, SCHEMA, StudyFolder
from freeu.study.plan.plan import QUESTIONS, Arm, Item, Pair, StudyPlan, Task
from freeu.study.store.store import Store

RATERS, EVERY = 120, 3.0
TARGET_MS = 150.0
FILE_BYTES = 30_000


@dataclass
class Tally:
    """Counts and times on the side of the raters."""

    seconds: list[float] = field(default_factory=list)  # latency of votes while the server was up
    disturbed: list[float] = field(default_factory=list)  # latency of votes during a restart, from the first try on
    acknowledged: dict[str, str] = field(default_factory=dict)
    waiting: int = 0  # votes not yet acknowledged
    recovery: list[float] = field(default_factory=list)  # from each start until no vote was waiting
    retries: int = 0
    images: int = 0
    problems: Counter[str] = field(default_factory=Counter)


def make_study(path: Path, tasks: int) -> StudyFolder:
    """A study with a slot for every rater: 60 pairs of noise, files of equal size."""
    media = path / "media"
    media.mkdir(parents=True)
    dice = random.Random(0)
    items, pairs = [], []
    for number in range(60):
        names = []
        for arm in ("off", "on"):
            small = Image.frombytes("RGB", (8, 8), dice.randbytes(192))
            buffer = io.BytesIO()
            small.resize((128, 128), Image.Resampling.BICUBIC).save(buffer, "PNG")
            data = buffer.getvalue().ljust(FILE_BYTES, b"\0")
            name = dice.randbytes(12).hex()
            (media / f"{name}.png").write_bytes(data)
            items.append(Item(name, arm, 0, number, "image", 128, 128, hashlib.sha256(data).hexdigest()))
            names.append(name)
        pairs.append(Pair(f"p{number}", 0, *names))
    slots = tuple(
        tuple(
            Task(dice.randbytes(12).hex(), dice.choice(pairs).id, dice.choice(QUESTIONS).name, dice.random() < 0.5)
            for _ in range(tasks)
        )
        for _ in range(RATERS)
    )
    arms = (Arm("off", "without"), Arm("on", "with"))
    plan = StudyPlan(
        "Benchmark", 0, ("en",), True, QUESTIONS, ("noise",), arms, tuple(items), tuple(pairs), slots, RATERS
    )
    data = {"kind": KIND, "schema": SCHEMA, "sha256": plan.sha256, "plan": plan.to_dict()}
    (path / "plan.json").write_text(json.dumps(data))
    return StudyFolder.open(path)


class Server:
    """The server in a process of its own."""

    def __init__(self, study: Path, port: int) -> None:
        self._command = [sys.executable, "-m", "freeu", "study", "serve", str(study), "--port", str(port)]
        self._process: subprocess.Popen[str] | None = None
        self.address = f"http://127.0.0.1:{port}"
        self.starts: list[float] = []

    def start(self) -> None:
        begun = time.perf_counter()
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if "freeu study:" not in self._process.stdout.readline():
            raise SystemExit("the server did not start")
        self.starts.append(time.perf_counter() - begun)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Stop it with SIGTERM; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)


async def join(client: httpx.AsyncClient) -> Any:
    """Give consent and return the first state."""
    page = await client.get("/")
    token = re.search(r'name="csrf" value="(\w+)"', page.text)
    assert token
    begun = await client.post("/start", data={"csrf": token[1], "consent": "yes"})
    assert begun.status_code == 303, begun.text
    page = await client.get("/vote")
    csrf = re.search(r'data-csrf="(\w+)"', page.text)
    assert csrf
    client.headers["x-csrf-token"] = csrf[1]
    return (await client.get("/api/state")).json()


async def rate(
    client: httpx.AsyncClient, state: Any, number: int, tally: Tally, begin: float, end: float, down: asyncio.Event
) -> None:
    """One rater: a vote every three seconds, sent until it is acknowledged."""
    dice = random.Random(number)
    due = begin + EVERY * number / RATERS
    while due < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        due += EVERY
        state = await _vote(client, tally, state, dice.choice(("left", "right", "tie")), down)
        if state["following"]:
            await _images(client, tally, state["following"])


async def _vote(
    client: httpx.AsyncClient, tally: Tally, state: dict[str, Any], choice: str, down: asyncio.Event
) -> Any:
    task = state["task"]
    body = {"task": task["task"], "revision": task["revision"], "choice": choice, "seconds": 2.5}
    start, disturbed = time.perf_counter(), False
    tally.waiting += 1
    while True:
        disturbed = disturbed or down.is_set()
        try:
            answer = await client.post("/api/vote", json=body)
        except httpx.TransportError:
            disturbed = True
        else:
            if answer.status_code == 200 and answer.json()["choice"] == choice:
                break
            tally.problems[f"{answer.status_code} {answer.text[:60]}"] += 1
        tally.retries += 1
        await asyncio.sleep(0.3)
    tally.waiting -= 1
    (tally.disturbed if disturbed or down.is_set() else tally.seconds).append(time.perf_counter() - start)
    tally.acknowledged[task["task"]] = choice
    return answer.json()["state"]


async def _images(client: httpx.AsyncClient, tally: Tally, following: dict[str, str]) -> None:
    for side in ("left", "right"):
        with contextlib.suppress(httpx.TransportError):
            answer = await client.get(f"/media/{following[side]}")
            tally.images += answer.status_code == 200
            tally.problems[f"image {answer.status_code}"] += answer.status_code not in (200,)


async def run(server: Server, seconds: float, kills: int) -> tuple[Tally, float]:
    """Let all raters vote and kill the server several times; the tally and the seconds without a server."""
    tally, down, off = Tally(), asyncio.Event(), 0.0
    plain = ssl.create_default_context()  # shared: no request needs it, and creating it takes time
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=server.address, timeout=20, verify=plain))
            for _ in range(RATERS)
        ]
        gc.collect()
        gc.freeze()  # garbage collection of the raters must not count as latency of the server
        states = [await join(client) for client in clients]
        begin = time.perf_counter() + 0.5
        people = [
            asyncio.create_task(rate(client, state, number, tally, begin, begin + seconds, down))
            for number, (client, state) in enumerate(zip(clients, states, strict=True))
        ]
        for number in range(kills):
            await asyncio.sleep(max(0.0, begin + seconds * (number + 1) / (kills + 1) - time.perf_counter()))
            gone = time.perf_counter()
            down.set()
            server.kill()
            await asyncio.to_thread(server.start)
            off += time.perf_counter() - gone
            back = time.perf_counter()
            while tally.waiting > 1 and time.perf_counter() - back < 10.0:  # the backlog belongs to the restart
                await asyncio.sleep(0.02)
            tally.recovery.append(time.perf_counter() - back)
            down.clear()
        await asyncio.gather(*people)
    return tally, off


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Quantiles in milliseconds."""
    ordered = sorted(seconds)
    places = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}
    return {
        name: round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
        for name, share in places.items()
        if ordered
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--no-save", action="store_true", help="do not write results/study.json")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="freeu-study-", dir=Path(__file__).parent))  # on a real disk
    try:
        study = make_study(folder / "study", tasks=int(options.seconds / EVERY) + 5)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = Server(study.path, port)
        server.start()
        tally, off = asyncio.run(run(server, options.seconds, options.kills))
        status = server.stop()
        with Store(f"sqlite:///{study.path / 'study.sqlite'}", study.plan) as store:
            stored = Counter(vote.task for vote in store.counted_votes())
            choices = {vote.task: vote.choice for vote in store.counted_votes()}
        with contextlib.closing(sqlite3.connect(study.path / "study.sqlite")) as connection:
            sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = quantiles(tally.seconds)
    data = {
        "conditions": conditions() | {"logical_cores": os.cpu_count()},
        "raters": RATERS,
        "seconds_between_votes": EVERY,
        "seconds": options.seconds,
        "database": "SQLite, WAL, synchronous=FULL, group commit",
        "votes": {"count": len(tally.seconds), **found, "target_p99_ms": TARGET_MS},
        "votes_that_met_a_kill": {"count": len(tally.disturbed), **quantiles(tally.disturbed)},
        "votes_per_second": round((len(tally.seconds) + len(tally.disturbed)) / options.seconds, 1),
        "pictures": tally.images,
        "processor_seconds": {
            "server": round(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]), 1),
            "raters": round(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), 1),
        },
        "kills": options.kills,
        "seconds_without_server": round(off, 2),
        "recovery_seconds": [round(one, 2) for one in tally.recovery],
        "start_seconds": [round(one, 2) for one in server.starts],
        "retries": tally.retries,
        "problems": {name: count for name, count in tally.problems.items() if count},
        "acknowledged": len(tally.acknowledged),
        "lost": sum(task not in stored for task in tally.acknowledged),
        "changed": sum(choices.get(task) not in (None, choice) for task, choice in tally.acknowledged.items()),
        "doubled": sum(count > 1 for count in stored.values()),
        "stored": sum(stored.values()),
        "integrity_check": sound,
        "exit_status_after_sigterm": status,
    }
    print(json.dumps(data, indent=1))
    if not options.no_save:
        print(f"wrote {save('study', data)}")
    if data["lost"] or data["doubled"] or data["changed"] or found.get("p99_ms", 1e9) > TARGET_MS:
        raise SystemExit("a target was missed")


if __name__ == "__main__":
    main()

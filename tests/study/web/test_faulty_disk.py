"""Disks that are full, read-only, damaged or fail now and then: nothing is acknowledged and lost, and it is told."""

import contextlib
import errno
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time

import httpx2
import pytest
from study import faulty_disk
from study.handmade import make_study
from study.web.test_study_serving import SERVE, begin, serving

from freeu.cli import main
from freeu.study.store.database import FILE, database_url
from freeu.study.store.store import Store
from freeu.study.web.secrets import FILE as SECRETS


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The library that makes a disk fail."""
    reason = faulty_disk.why_not()
    if reason:
        pytest.skip(reason)
    return faulty_disk.build(tmp_path_factory.mktemp("faulty"))


VOTING = """
import os, sys, threading
from pathlib import Path
from freeu.errors import FreeUError
from freeu.study.plan.folder import StudyFolder
from freeu.study.store.store import Store
study = StudyFolder.open(Path(sys.argv[1]))
store = Store(sys.argv[2], study.plan)
people = [store.claim_slot("en")[0] for _ in range(4)]
Path(sys.argv[3]).touch()
def vote(rater):
    for task in store.tasks(rater):
        for _ in range(1000):
            try:
                if store.vote(rater, task.id, 0, "left", 1.0).outcome != "counted":
                    os._exit(3)
            except FreeUError:
                continue
            os.write(1, f"{task.id}\\n".encode())
            break
threads = [threading.Thread(target=vote, args=(rater,)) for rater in people]
for thread in threads: thread.start()
for thread in threads: thread.join()
os._exit(0)
"""


@pytest.mark.parametrize(
    "errors",
    [(), (errno.ESTALE,), (errno.ETIMEDOUT,), (errno.EIO,), (errno.ENOSPC,)],
    ids=lambda one: str(*one) or "all",
)
def test_what_was_acknowledged_over_a_faulty_disk_is_there(library, tmp_path, errors):
    study = make_study(tmp_path / "long", seeds=20)
    url, on, count = database_url(study.path), tmp_path / "on", tmp_path / "count"
    command = [sys.executable, "-c", VOTING, str(study.path), url, str(on)]
    settings = faulty_disk.environment(library, 0.02, errors=errors, while_there=on, count=count)
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    acknowledged = done.stdout.split()
    with Store(url, study.plan) as store:
        stored = [vote.task for vote in store.counted_votes()]
        assert len(store.events()) == len(stored) == len(set(stored))
    assert set(acknowledged) == set(stored)
    assert len(acknowledged) == 4 * 82
    assert count.stat().st_size > 5


def refused(folder, *options, **settings):
    """What a server says that does not start."""
    command = [*SERVE, str(folder), "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **settings)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(("error", "fix"), [(errno.ENOSPC, "free disk space"), (errno.EIO, "check the disk")])
def test_a_disk_that_cannot_be_written_is_told_before_serving(library, folder, fresh, error, fix):
    if not fresh:
        with Store(database_url(folder.path), folder.plan) as store:
            store.claim_slot("en")
    settings = faulty_disk.environment(library, 1.0, errors=(error,), calls="w")
    assert fix in refused(folder.path, env=settings)
    # No password was made up that nobody has seen.
    assert not (folder.path / SECRETS).exists()
    with serving(folder.path) as (_, said, _):
        assert "shown this once" in said[1]


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs another user, for whom modes of files count")
def test_a_database_that_cannot_be_written_is_told_before_serving(folder):
    with Store(database_url(folder.path), folder.plan) as store:
        store.claim_slot("en")
    file = folder.path / FILE
    file.chmod(0o400)
    # The file cannot be written by anyone: as on a disk that is mounted read-only.
    subprocess.run(["chattr", "+i", file], capture_output=True)
    try:
        if os.access(file, os.W_OK):
            pytest.skip("this file system does not make files immutable")
        assert "writable" in refused(folder.path)
    finally:
        subprocess.run(["chattr", "-i", file], capture_output=True)


@pytest.mark.parametrize("damage", ["pages", "text", "table", "plan"])
def test_a_damaged_database_is_not_served(folder, damage):
    with Store(database_url(folder.path), folder.plan) as store:
        store.claim_slot("en")
    file = folder.path / FILE
    if damage == "pages":
        file.write_bytes(file.read_bytes()[:8192] + bytes(range(256)) * 64)
    elif damage == "text":
        file.write_text("no database " * 1000)
    else:
        with contextlib.closing(sqlite3.connect(file)) as other:
            other.execute("DROP TABLE freeu_raters" if damage == "table" else "DELETE FROM freeu_study")
            other.commit()
    assert "or restore a backup" in refused(folder.path)


def test_a_disk_that_fills_up_is_told_and_nothing_is_lost(library, folder, tmp_path):
    """One line in the log for the cause, 503 for every vote, and afterwards the same vote counts."""
    on = tmp_path / "on"
    settings = faulty_disk.environment(library, 1.0, errors=(errno.ENOSPC,), calls="w", while_there=on)
    with serving(folder.path, env=settings) as (address, said, process), httpx2.Client() as http:
        task = begin(http, address)["task"]
        body = {"task": task["task"], "revision": 0, "choice": "left", "seconds": 2.0}
        on.touch()
        for _ in range(5):
            assert http.post(f"{address}/api/vote", json=body).status_code == 503
            assert http.get(f"{address}/privacy").status_code == 200
        on.unlink()
        assert http.post(f"{address}/api/vote", json=body).json()["outcome"] == "counted"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    lines = [line for line in said[-1].splitlines() if "full" in line]
    assert len(lines) == 1
    assert re.search(r"cannot write to the study's database: .*full.*: free disk space", lines[0])
    assert task["task"] not in "".join(said)
    with Store(database_url(folder.path), folder.plan, access="read") as store:
        assert len(store.events()) == 1


def test_a_new_database_is_named(folder, tmp_path):
    """A mistyped path shows at once."""
    with serving(folder.path, "--database", str(tmp_path / "mistyped.sqlite")) as (_, said, process):
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert re.search(r"^new database: .*mistyped\.sqlite$", said[-1], re.M)
    with serving(folder.path, "--database", str(tmp_path / "mistyped.sqlite")) as (_, said, process):
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert "new database" not in "".join(said)


def test_a_taken_port_does_not_use_up_the_password(folder, tmp_path):
    other = make_study(tmp_path / "other")
    with serving(folder.path) as (address, _, _):
        assert "cannot listen" in refused(other.path, "--port", address.rpartition(":")[2])
    assert not (other.path / SECRETS).exists()


@pytest.mark.parametrize("path", ["/..", "/.", "/a/..", "/../a", "/a/./b"])
def test_sub_paths_that_lead_elsewhere(folder, path, capsys):
    start = time.monotonic()
    assert main(["study", "serve", str(folder.path), "--port", "0", "--root-path", path]) == 2
    assert "--root-path must look like" in capsys.readouterr().err
    assert time.monotonic() - start < 20

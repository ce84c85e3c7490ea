"""The web application while its database or disk fails: 503, one line in the log, and nothing lost."""

import contextlib
import logging
import sqlite3
import threading
import time

import httpx2
import pytest
from sqlalchemy.exc import (
    DatabaseError,
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
    ResourceClosedError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from study.webapp import KEYS, Browser, served

from freeu.study.store.database import FILE, database_url
from freeu.study.store.store import Store
from freeu.study.web.app import Told, create_app

ERRORS = [
    OperationalError("SELECT", {}, sqlite3.OperationalError("disk I/O error")),
    DatabaseError("SELECT", {}, sqlite3.DatabaseError("database disk image is malformed")),
    InternalError("SELECT", {}, sqlite3.InternalError("x")),
    InterfaceError("SELECT", {}, sqlite3.InterfaceError("x")),
    PendingRollbackError("Can't reconnect until invalid savepoint transaction is rolled back"),
    ResourceClosedError("This Connection is closed"),
    PoolTimeoutError("QueuePool limit reached"),
    sqlite3.DatabaseError("file is not a database"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_fault_of_the_database_is_503(client, store, monkeypatch, caplog, error):
    client.start()
    client.log_in()
    token, task = client.token(), client.state()["task"]["task"]

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(type(store.engine), "connect", fail)
    monkeypatch.setattr(type(store.engine), "begin", fail)
    body = {"task": task, "revision": 0, "choice": "left", "seconds": 1.0}
    answers = [client.get(path) for path in ("/", "/vote", "/privacy", "/api/state", "/nothing", "/admin", "/media/x")]
    answers += [client.get(f"/admin/{page}") for page in ("report", "export/votes.csv", "export/study.zip")]
    answers.append(client.post("/api/vote", json=body, headers={"x-csrf-token": token}))
    answers.append(client.post("/forget", data={"csrf": token}))
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.url
        assert "freeu_" not in answer.text
    lines = [record.getMessage() for record in caplog.records if record.name == "freeu.study"]
    assert 1 <= len(lines) <= 2  # reading and writing
    assert all("\n" not in line and token not in line and task not in line for line in lines)
    monkeypatch.undo()
    assert client.vote().status_code == 200


@pytest.mark.parametrize(
    "damage", ["DROP TABLE freeu_events", "ALTER TABLE freeu_raters RENAME TO gone", "DROP TABLE freeu_raters"]
)
def test_tables_that_vanish_while_it_is_served(client, folder, damage, caplog):
    client.start()
    token = client.token()
    with contextlib.closing(sqlite3.connect(folder.path / FILE)) as other:
        other.execute("PRAGMA foreign_keys=OFF")
        other.execute(damage)
        other.commit()
    for path in ("/", "/vote", "/api/state"):
        assert client.get(path).status_code == 503
    assert client.post("/start", data={"csrf": token, "consent": "yes"}).status_code == 503
    assert "no such table" in caplog.text
    assert len([record for record in caplog.records if record.name == "freeu.study"]) == 1


def test_media_that_cannot_be_read(client, folder, caplog):
    client.start()
    item = client.state()["task"]["left"]
    folder.media(item).unlink()
    answer = client.get(f"/media/{item}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert str(folder.path) not in answer.text
    assert "No such file" in caplog.text


def test_a_cause_is_told_once_in_a_while(caplog):
    clock = [0.0]
    told = Told(lambda: clock[0])
    with caplog.at_level(logging.ERROR, "freeu.study"):
        for cause in ("full", "full", "locked", "full"):
            told.warn(cause)
        assert [record.getMessage() for record in caplog.records] == ["freeu study: full", "freeu study: locked"]
        clock[0] = Told.AGAIN
        told.warn("full")
    assert len(caplog.records) == 3


def test_pages_answer_while_another_program_holds_the_database(folder):
    """Votes wait or are told to come again; whoever only reads is served."""
    with Store(database_url(folder.path), folder.plan) as store, served(create_app(folder, store, KEYS)) as address:
        raters = [Browser(create_app(folder, store, KEYS)) for _ in range(4)]
        for rater in raters:
            rater.start()
        tokens = [rater.token() for rater in raters]
        tasks = [rater.state()["task"]["task"] for rater in raters]

        def vote(number):
            rater = number % len(raters)
            cookie = "; ".join(f"{name}={value}" for name, value in raters[rater].cookies.items())
            body = {"task": tasks[rater], "revision": 0, "choice": "left", "seconds": 1.0}
            headers = {"x-csrf-token": tokens[rater], "cookie": cookie}
            found.append(http.post(f"{address}/api/vote", json=body, headers=headers).status_code)

        found, waited = [], []
        with (
            contextlib.closing(sqlite3.connect(folder.path / FILE, isolation_level=None)) as other,
            httpx2.Client(timeout=60, limits=httpx2.Limits(max_connections=200)) as http,
        ):
            other.execute("BEGIN IMMEDIATE")
            crowd = [threading.Thread(target=vote, args=(number,)) for number in range(48)]
            for thread in crowd:
                thread.start()
            time.sleep(0.5)
            for _ in range(10):
                start = time.monotonic()
                assert http.get(f"{address}/privacy").status_code == 200
                waited.append(time.monotonic() - start)
            other.execute("ROLLBACK")
            for thread in crowd:
                thread.join()
        assert max(waited) < 3.0
        assert set(found) <= {200, 429, 503}
        assert {200, 503} <= set(found)
        assert len(store.events()) == len(raters)

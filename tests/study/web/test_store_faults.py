"""A database under faults: nothing is acknowledged and lost, every fault is one line, and deleted data is gone."""

import contextlib
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DatabaseError
from study.handmade import make_study

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.study.results.exporting import vote_rows
from freeu.study.store.database import FILE, database_url
from freeu.study.store.store import Store
from freeu.study.store.tables import raters
from freeu.study.store.writer import Writer


@pytest.fixture
def both(url, folder):
    """A store over either database."""
    with Store(url, folder.plan) as store:
        yield store


def voted(store, nickname=None):
    """A rater with one vote, and the personal code."""
    rater, code = store.claim_slot("en", nickname)
    store.vote(rater, store.tasks(rater)[0].id, 0, "left", 1.0)
    return rater, code


# A transaction that is gone before its commit.


def add(number):
    """Work of the writer: a rater of a number."""
    values = {"id": f"x{number}", "slot": number, "language": "en", "deleted": False}
    return lambda connection: connection.execute(raters.insert().values(values)) and number


def rolled_back_by_itself(connection):
    """As SQLite does after an error of a network file system; the error itself is caught like any other."""
    duplicate = "INSERT OR ROLLBACK INTO freeu_raters (key, id, slot, language, deleted) SELECT key, id, slot, "
    connection.execute(text(duplicate + "language, deleted FROM freeu_raters"))


def rolled_back(connection):
    connection.connection.dbapi_connection.rollback()


def rolled_back_and_begun_again(connection):
    driver = connection.connection.dbapi_connection
    driver.rollback()
    driver.execute("BEGIN")


def rolled_back_behind_an_error(connection):
    rolled_back(connection)
    raise ValueError("something else")


@pytest.mark.parametrize(
    "end", [rolled_back_by_itself, rolled_back, rolled_back_and_begun_again, rolled_back_behind_an_error]
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_batch_that_lost_its_transaction_is_not_acknowledged(both, end, place):
    """Every write of the batch gets an error, also those before and after the one that lost it."""
    if end is rolled_back_by_itself and both.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL ends a transaction by an error only, which needs a rollback of ours")
    both.claim_slot("en")
    writer, held = Writer(both.engine), threading.Event()
    jobs = [add(1), add(2), add(3)]
    jobs.insert(place, end)
    with ThreadPoolExecutor(5) as pool:
        waiting = pool.submit(writer.do, lambda _: held.wait(10))
        time.sleep(0.05)
        found = []
        for job in jobs:
            found.append(pool.submit(writer.do, job))
            time.sleep(0.05)
        held.set()
        assert waiting.result()
        acknowledged = {job.result() for job in found if job.exception() is None}
    stored = {rater.slot for rater in both.raters()} - {0}
    assert acknowledged <= stored
    assert stored == set()  # nothing half done
    # The writer goes on.
    assert writer.do(add(1)) == 1
    assert {rater.slot for rater in both.raters()} == {0, 1}
    writer.close()


def test_a_commit_without_a_transaction_is_an_error(both):
    """Whatever code writes: the drivers would call it done."""

    def write():
        with both.engine.begin() as connection:
            add(1)(connection)
            rolled_back(connection)

    with pytest.raises(FreeURuntimeError, match="rolled back"):
        write()
    assert both.raters() == []


def test_a_connection_that_broke_is_no_acknowledgement(fresh_postgres, folder):
    with Store(fresh_postgres, folder.plan) as store:
        rater, _ = store.claim_slot("en")
        writer = store._writer

        def cut(connection):
            number = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            add(2)(connection)
            with store.engine.connect() as other:
                other.execute(text(f"SELECT pg_terminate_backend({number})"))
            connection.execute(text("SELECT 1"))

        with pytest.raises(Exception, match=r"(?i)terminat|closed|rolled back|invalid"):
            writer.do(cut)
        assert [one.slot for one in store.raters()] == [0]
        assert store.vote(rater, store.tasks(rater)[0].id, 0, "left", 1.0).outcome == "counted"


def test_writes_that_wait_for_a_lock_leave_room_for_others(both, monkeypatch):
    """So many writes wait and no more: a web server's other threads keep answering."""
    monkeypatch.setattr("freeu.study.store.writer.PATIENCE", 0.05)
    held, writer = threading.Event(), Writer(both.engine)
    with ThreadPoolExecutor(60) as pool:
        jobs = [pool.submit(writer.do, lambda _: held.wait(20)) for _ in range(60)]
        start = time.monotonic()
        while sum(job.done() for job in jobs) < 30 and time.monotonic() - start < 10:
            time.sleep(0.02)
        refused = [job.exception() for job in jobs if job.done()]
        held.set()
    assert len(refused) >= 30
    assert all("busy" in str(error) for error in refused)
    writer.close()


# Votes that cannot be changed.


def execute(engine, statement):
    """Run a statement as another program might."""
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_replacing_is_changing(store):
    rater, _ = voted(store)
    for statement in (
        "REPLACE INTO freeu_events SELECT id, rater, task, kind, 'right', revision, seconds, time, place, \"left\", "
        "plan FROM freeu_events",
        'REPLACE INTO freeu_events (rater, task, kind, choice, revision, seconds, time, place, "left", plan) '
        "SELECT rater, task, kind, 'right', revision, seconds, time, place, \"left\", plan FROM freeu_events",
        "UPDATE OR REPLACE freeu_events SET choice = 'right'",
    ):
        with pytest.raises(DatabaseError, match="append-only"):
            execute(store.engine, statement)
    assert [vote.choice for vote in store.counted_votes()] == ["left"]
    assert store.vote(rater, store.tasks(rater)[1].id, 0, "tie", 1.0).outcome == "counted"


def test_an_older_database_is_protected_too(folder):
    url = database_url(folder.path)
    with Store(url, folder.plan) as store:
        voted(store)
        execute(store.engine, "DROP TRIGGER freeu_events_no_replace")
    with Store(url, folder.plan) as store, pytest.raises(DatabaseError, match="append-only"):
        execute(store.engine, "REPLACE INTO freeu_events SELECT * FROM freeu_events")


# Deleted data.


def bytes_of(folder):
    """Everything that the files of the database hold."""
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.name.startswith(FILE))


def test_what_was_deleted_is_in_no_file(folder, store):
    """Neither in the database nor in its log, at once and without a restart."""
    rater, code = voted(store, "Adelheid-Gwendolyn")
    kept, _ = voted(store, "Bartholomew")
    with store.engine.connect() as connection:
        token = connection.execute(text(f"SELECT token FROM freeu_raters WHERE key = {rater.key}")).scalar()
    assert b"Adelheid-Gwendolyn" in bytes_of(folder.path)
    store.forget(rater)
    found = bytes_of(folder.path)
    for word in ("Adelheid-Gwendolyn", token, rater.id, code):
        assert word.encode() not in found
    assert b"Bartholomew" in found
    assert store.vote(kept, store.tasks(kept)[1].id, 0, "left", 1.0).outcome == "counted"


def test_what_was_deleted_while_somebody_reads_goes_when_they_are_done(folder, store):
    rater, _ = voted(store, "Adelheid-Gwendolyn")
    with contextlib.closing(sqlite3.connect(folder.path / FILE, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM freeu_raters").fetchone()
        start = time.monotonic()
        store.forget(rater)
        assert time.monotonic() - start < 5
        reader.execute("ROLLBACK")
    start = time.monotonic()
    while b"Adelheid-Gwendolyn" in bytes_of(folder.path) and time.monotonic() - start < 20:
        time.sleep(0.1)
    assert b"Adelheid-Gwendolyn" not in bytes_of(folder.path)


def test_a_deleted_rater_has_a_new_name(both):
    """In tables before and after, nothing that was called so before is called so now, nor by the slot."""
    rater, _ = voted(both)
    other, _ = voted(both)
    before = vote_rows(both.plan, both.counted_votes())
    assert [row["rater"] for row in before] == ["R001", "R002"]
    both.forget(rater)
    after = vote_rows(both.plan, both.counted_votes())
    name, same = (row["rater"] for row in after)
    assert same == "R002"
    assert (name[0], len(name)) == ("X", 9)
    assert [row["rater"] for row in vote_rows(both.plan, both.counted_votes())] == [name, same]  # and keeps it
    gone = next(one for one in both.raters() if one.deleted)
    assert gone.name == name
    assert both.find("x" * 24) is None
    assert {one.name for one in both.raters()} == {name, other.name}


# What is read at one moment.


def test_a_snapshot_is_of_one_moment(both):
    rater, _ = voted(both)
    with both._reading.connect() as connection:
        count = text("SELECT count(*) FROM freeu_events")
        assert connection.execute(count).scalar() == 1
        both.vote(rater, both.tasks(rater)[1].id, 0, "left", 1.0)
        assert connection.execute(count).scalar() == 1
    people, votes = both.snapshot()
    assert (len(people), len(votes)) == (1, 2)


def test_raters_and_votes_are_read_together(both):
    """Somebody who deletes their data in between is not found under two ids."""
    rater, _ = voted(both)
    once = threading.Event()

    def between(connection, cursor, statement, *_):
        if statement.lstrip().startswith("SELECT") and "freeu_raters" in statement and not once.is_set():
            once.set()
            both.forget(rater)

    event.listen(both.engine, "after_cursor_execute", between)
    people, votes = both.snapshot()
    event.remove(both.engine, "after_cursor_execute", between)
    assert once.is_set()
    assert {vote.rater for vote in votes} == {one.id for one in people}


# What cannot be opened.


def test_only_those_who_may_create_a_database(folder, tmp_path):
    for access in ("read", "write"):
        with pytest.raises(FreeUValueError, match=r"there is no database .*: serve the study first"):
            Store(database_url(folder.path), folder.plan, access=access)
        (tmp_path / "empty.sqlite").touch()
        with pytest.raises(FreeUValueError, match=r"is empty \(0 bytes\)"):
            Store(database_url(tmp_path, str(tmp_path / "empty.sqlite")), folder.plan, access=access)
        with contextlib.closing(sqlite3.connect(tmp_path / "other.sqlite")) as other:
            other.execute("CREATE TABLE IF NOT EXISTS mine (x)")
        with pytest.raises(FreeUValueError, match="holds no study of freeu"):
            Store(database_url(tmp_path, str(tmp_path / "other.sqlite")), folder.plan, access=access)
    assert not (folder.path / FILE).exists()
    with Store(database_url(folder.path), folder.plan) as store:
        assert store.created
        with Store(database_url(folder.path), folder.plan, access="read") as reader:
            assert not reader.created
            with pytest.raises(FreeURuntimeError, match="reading only"):
                reader.claim_slot("en")


def test_an_empty_postgresql_is_not_filled_by_readers(fresh_postgres, folder):
    for access in ("read", "write"):
        with pytest.raises(FreeUValueError, match="holds no study of freeu"):
            Store(fresh_postgres, folder.plan, access=access)
    with Store(fresh_postgres, folder.plan) as store:
        voted(store)
        with Store(fresh_postgres, folder.plan, access="read") as reader:
            assert len(reader.counted_votes()) == 1
            with pytest.raises(DatabaseError, match="read-only"), reader.engine.begin() as connection:
                connection.execute(text("DELETE FROM freeu_raters"))


def filled(path, votes=60):
    """A study whose database has several pages."""
    study = make_study(path, seeds=20)
    with Store(database_url(study.path), study.plan) as store:
        rater, _ = store.claim_slot("en", "Ada")
        for task in store.tasks(rater)[:votes]:
            store.vote(rater, task.id, 0, "left", 1.0)
    return study


@pytest.mark.parametrize("access", ["create", "write", "read"])
@pytest.mark.parametrize("page", [1, 2, 3, 5, 7, 9])
def test_random_pages_are_one_line(tmp_path, page, access):
    study = filled(tmp_path / "study")
    file = study.path / FILE
    data = bytearray(file.read_bytes())
    assert len(data) > 10 * 4096
    data[page * 4096 : (page + 1) * 4096] = bytes(range(255, -1, -1)) * 16
    file.write_bytes(data)
    with pytest.raises(FreeURuntimeError, match=r"cannot open the study's database .*(damaged|malformed)") as caught:
        Store(database_url(study.path), study.plan, access=access)
    assert "\n" not in str(caught.value)
    assert "or restore a backup" in str(caught.value)


@pytest.mark.parametrize("access", ["create", "write", "read"])
@pytest.mark.parametrize("table", ["freeu_events", "freeu_raters", "freeu_study"])
def test_a_dropped_table_is_one_line(folder, table, access):
    with Store(database_url(folder.path), folder.plan) as store:
        voted(store)
    with contextlib.closing(sqlite3.connect(folder.path / FILE)) as other:
        other.execute(f"DROP TABLE {table}")
    with pytest.raises((FreeURuntimeError, FreeUValueError)) as caught:
        Store(database_url(folder.path), folder.plan, access=access)
    assert "\n" not in str(caught.value)
    assert table in str(caught.value) or "holds no study" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("UPDATE freeu_raters SET slot = 'first'", lambda store: store.raters()),
        ("UPDATE freeu_raters SET id = x'00ff'", lambda store: store.raters()),
        ("UPDATE freeu_raters SET id = x'00ff'", lambda store: store.counted_votes()),
        ("UPDATE freeu_raters SET slot = 4000", lambda store: store.progress(store.raters()[0])),
        ("DROP TRIGGER freeu_events_no_update; UPDATE freeu_events SET seconds = 'x'", lambda store: store.snapshot()),
        ("DROP TABLE freeu_events", lambda store: store.events()),
    ],
)
def test_values_that_nobody_wrote_are_one_line(folder, store, change, read):
    """While it is served, too."""
    voted(store)
    with contextlib.closing(sqlite3.connect(folder.path / FILE)) as other:
        other.executescript(change)
    with pytest.raises(FreeURuntimeError) as caught:
        read(store)
    assert "\n" not in str(caught.value)


def test_votes_of_nobody_are_damage(folder):
    with Store(database_url(folder.path), folder.plan) as store:
        voted(store)
    with contextlib.closing(sqlite3.connect(folder.path / FILE)) as other:
        other.execute("DELETE FROM freeu_raters")
        other.commit()
    with pytest.raises(FreeURuntimeError, match="rater who is not there"):
        Store(database_url(folder.path), folder.plan)


def test_a_database_that_is_taken_away_does_not_come_back_empty(folder, store):
    rater, _ = voted(store)
    store.engine.dispose()
    shutil.move(folder.path / FILE, folder.path / "elsewhere")
    with pytest.raises(FreeURuntimeError, match="unable to open"):
        store.counted_votes()
    with pytest.raises(FreeURuntimeError, match="unable to open"):
        store.vote(rater, store.tasks(rater)[1].id, 0, "left", 1.0)
    assert not (folder.path / FILE).exists()
    assert Path(folder.path / "elsewhere").is_file()

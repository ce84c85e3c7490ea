"""Raters and votes over SQLite and PostgreSQL: counted once, never edited, on disk when acknowledged."""

import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text
from sqlalchemy.exc import DatabaseError
from study.handmade import make_study

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.study.store import codes, slots
from freeu.study.store.backup import back_up
from freeu.study.store.database import database_url
from freeu.study.store.progress import UNDO, VOTE, LogEntry, progress_of
from freeu.study.store.store import Store
from freeu.study.store.tables import raters
from freeu.study.store.writer import Writer


@pytest.fixture
def both(url, folder):
    """A store over either database."""
    with Store(url, folder.plan) as store:
        yield store


def choices(store):
    return [(vote.task, vote.choice) for vote in store.counted_votes()]


def test_a_vote_is_counted_once(both):
    rater, _ = both.claim_slot("en")
    task = both.tasks(rater)[0]
    assert both.vote(rater, task.id, 0, "left", 1.25).outcome == "counted"
    again = both.vote(rater, task.id, 0, "left", 9.0)
    other = both.vote(rater, task.id, 0, "right", 1.0)
    assert (again.outcome, again.choice) == ("counted", "left")
    assert (other.outcome, other.choice) == ("conflict", "left")
    (vote,) = both.counted_votes()
    assert (vote.rater, vote.task, vote.choice, vote.seconds) == (rater.id, task.id, "left", 1.25)
    assert vote.plan == both.plan.sha256
    (written,) = both.events()
    pair = both.plan.pair(task.pair)
    assert written.left == (pair.first if task.first_left else pair.second)
    assert (written.place, written.kind, written.time) == (0, "vote", vote.time)


def test_undo_and_vote_again(both):
    rater, _ = both.claim_slot("en")
    first, second, third = both.tasks(rater)[:3]
    both.vote(rater, first.id, 0, "left", 1.0)
    both.vote(rater, second.id, 0, "left", 1.0)
    assert both.undo(rater, first.id, 0).outcome == "stale"  # only the last one
    assert both.undo(rater, second.id, 0).outcome == "undone"
    assert both.undo(rater, second.id, 0).outcome == "undone"  # sent twice, done once
    assert choices(both) == [(first.id, "left")]
    assert both.vote(rater, third.id, 0, "left", 1.0).outcome == "stale"
    assert both.vote(rater, second.id, 0, "right", 1.0).outcome == "conflict"  # of before the undo
    assert both.vote(rater, second.id, 1, "right", 1.0).outcome == "counted"
    assert both.undo(rater, second.id, 1).outcome == "undone"
    assert both.undo(rater, first.id, 0).outcome == "undone"  # one after the other
    assert choices(both) == []
    assert both.undo(rater, first.id, 0).outcome == "undone"
    assert len(both.events()) == 6
    assert both.vote(rater, first.id, 1, "tie", 1.0).outcome == "counted"
    assert choices(both) == [(first.id, "tie")]


def test_only_the_current_task_of_the_own_slot(both):
    rater, _ = both.claim_slot("en")
    other, _ = both.claim_slot("en")
    tasks = both.tasks(rater)
    for task, revision in ((tasks[1].id, 0), (tasks[0].id, 1), (both.tasks(other)[0].id, 0), ("nothing", 0)):
        assert both.vote(rater, task, revision, "left", 1.0).outcome == "stale"
        assert both.undo(rater, task, revision).outcome == "stale"
    with pytest.raises(FreeUValueError, match="choice must be one of"):
        both.vote(rater, tasks[0].id, 0, "up", 1.0)
    assert both.events() == []


def test_no_ties_where_the_plan_has_none(tmp_path):
    study = make_study(tmp_path / "study", ties=False)
    with Store(database_url(study.path), study.plan) as store:
        rater, _ = store.claim_slot("en")
        with pytest.raises(FreeUValueError, match="'tie' only where"):
            store.vote(rater, store.tasks(rater)[0].id, 0, "tie", 1.0)


def test_events_cannot_be_changed(both):
    rater, _ = both.claim_slot("en")
    both.vote(rater, both.tasks(rater)[0].id, 0, "left", 1.0)
    statements = ["UPDATE freeu_events SET choice = 'right'", "DELETE FROM freeu_events"]
    if both.engine.dialect.name == "postgresql":
        statements.append("TRUNCATE freeu_events")
    for statement in statements:
        with pytest.raises(DatabaseError, match="append-only"), both.engine.begin() as connection:
            connection.execute(text(statement))
    # Nor can a second answer be written beside the first, whatever program tries.
    copy = 'INSERT INTO freeu_events (rater, task, kind, choice, revision, seconds, time, place, "left", plan) '
    copy += "SELECT rater, task, kind, 'right', revision, seconds, time, place, \"left\", plan FROM freeu_events"
    with pytest.raises(DatabaseError, match=r"(?i)unique"), both.engine.begin() as connection:
        connection.execute(text(copy))
    assert [vote.choice for vote in both.counted_votes()] == ["left"]


def test_many_at_once_count_once(both):
    """Two windows, double clicks and retries of four raters: whoever is first counts, and everybody hears the same."""
    people = [both.claim_slot("en")[0] for _ in range(4)]
    dice = random.Random(1)
    wishes = [(rater, choice) for rater in people for choice in ("left", "right", "left", "tie") * 3]
    dice.shuffle(wishes)

    def vote(wish):
        rater, choice = wish
        return rater.id, choice, both.vote(rater, both.tasks(rater)[0].id, 0, choice, 1.0)

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(vote, wishes))
    stored = {vote.rater: vote.choice for vote in both.counted_votes()}
    assert len(both.events()) == len(stored) == 4
    for rater, choice, receipt in found:
        assert receipt.choice == stored[rater]
        assert receipt.outcome == ("counted" if choice == stored[rater] else "conflict")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from(["left", "right", "undo"])), max_size=25)
)
def test_the_progress_is_that_of_a_plain_list(folder, acts):
    """Against a model: a list of answers that votes append to and undos shorten."""
    tasks = folder.plan.slots[0][:4]
    entries, model, revisions = [], [], [0] * 4
    for place, revision, act in acts:
        at = progress_of(tasks, entries)
        assert (at.done, at.undoable) == (len(model), (len(model) - 1, revisions[len(model) - 1]) if model else None)
        assert at.revision == (revisions[len(model)] if len(model) < 4 else 0)
        if act == "undo" and model and (place, revision) == (len(model) - 1, revisions[place]):
            model.pop()
            revisions[place] += 1
            entries.append(LogEntry(tasks[place].id, UNDO, revision, ""))
        elif act != "undo" and place == len(model) and revision == revisions[place]:
            model.append(act)
            entries.append(LogEntry(tasks[place].id, VOTE, revision, act))
    random.Random(0).shuffle(entries)
    assert progress_of(tasks, entries).done == len(model)


def test_slots_are_taken_in_order_and_run_out(both, monkeypatch):
    found = [both.claim_slot("en", f"n{number}")[0] for number in range(4)]
    assert [rater.slot for rater in found] == [0, 1, 2, 3]
    assert len({rater.id for rater in found}) == 4
    assert both.claim_slot("en") is None
    # Somebody who came long ago and never voted loses the place; somebody who voted does not.
    both.vote(found[0], both.tasks(found[0])[0].id, 0, "left", 1.0)
    monkeypatch.setattr(slots, "ABANDONED", -slots.ABANDONED)
    fresh, _ = both.claim_slot("en")
    assert fresh.slot == 1
    assert both.vote(found[1], both.tasks(found[1])[0].id, 0, "left", 1.0).outcome == "stale"
    assert both.vote(fresh, both.tasks(fresh)[0].id, 0, "left", 1.0).outcome == "counted"


def test_claims_at_once_get_different_slots(both):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: both.claim_slot("en"), range(8)))
    assert sorted(one[0].slot for one in found if one) == [0, 1, 2, 3]


def test_invitations(both):
    links = both.invite(3)
    rater, progress = both.find(links[1])
    assert (rater.slot, rater.joined, progress.done) == (1, None, 0)
    both.join(rater, "zh", "Li")
    assert both.find(links[1])[0].joined is not None
    both.join(rater, "en", "other")  # only once
    assert both.find(links[1])[0].nickname == "Li"
    with pytest.raises(FreeUValueError, match="has 1 free slot of 4"):
        both.invite(2)
    assert len(both.raters()) == 3  # all or none
    assert both.claim_slot("en")[0].slot == 3


def test_only_the_hash_of_a_code_is_stored(both):
    rater, code = both.claim_slot("en")
    assert both.find(code)[0] == rater
    assert codes.normalized(code.lower().replace("-", " ").replace("0", "o").replace("1", "l")) == code
    for wrong in ("", code[:-1], code + "A", "U" * 20, code.replace("-", "/")):
        assert codes.normalized(wrong) is None
    assert both.find(codes.new_code()) is None
    with both.engine.connect() as connection:
        row = connection.execute(raters.select()).one()
    assert code not in str(row)
    assert row.token == codes.hashed(code)


def test_forgetting(both):
    rater, code = both.claim_slot("en", "Ada")
    both.vote(rater, both.tasks(rater)[0].id, 0, "left", 1.0)
    both.forget(rater)
    assert both.find(code) is None
    assert both.vote(rater, both.tasks(rater)[1].id, 0, "left", 1.0).outcome == "stale"
    (found,) = both.raters()
    assert (found.nickname, found.joined, found.deleted) == (None, None, True)
    (vote,) = both.counted_votes()
    assert vote.rater == found.id != rater.id
    assert both.claim_slot("en")[0].slot == 1  # the answers keep their slot


def test_a_database_keeps_its_plan(url, folder, tmp_path):
    with Store(url, folder.plan) as store:
        rater, code = store.claim_slot("en")
        store.vote(rater, store.tasks(rater)[0].id, 0, "left", 1.0)
    other = make_study(tmp_path / "other", seed=1).plan
    with pytest.raises(FreeUValueError, match="belongs to another study"):
        Store(url, other)
    with Store(url, folder.plan) as store:
        assert store.find(code)[1].done == 1


def test_addresses_of_databases(tmp_path, folder):
    for wrong, message in (
        ("mysql://host/name", "must be SQLite or PostgreSQL, got mysql"),
        ("sqlite://", "must name a file"),
        ("no address: secret", "not a database URL"),
    ):
        with pytest.raises(FreeUValueError, match=message) as caught:
            Store(wrong, folder.plan)
        assert "secret" not in str(caught.value)
    with pytest.raises(FreeURuntimeError, match="cannot open") as refused:
        Store("postgresql://me:secret@127.0.0.1:1/none", folder.plan)
    assert "secret" not in str(refused.value)
    with pytest.raises(FreeURuntimeError, match="cannot open"):
        Store(database_url(tmp_path / "missing"), folder.plan)


def test_commits_wait_for_the_disk(store):
    with store.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2


def test_postgresql_waits_for_the_disk(fresh_postgres, folder):
    with psycopg.connect(fresh_postgres, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with Store(fresh_postgres, folder.plan) as store, store.engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_one_failure_does_not_take_its_neighbours_along(both):
    """Writes that share a commit: one of them breaks a rule of the database, the others are there."""
    held, writer = threading.Event(), Writer(both.engine)

    def insert(number):
        def work(connection):
            values = {"id": f"x{number}", "slot": number if number != 2 else 1, "language": "en", "deleted": False}
            connection.execute(raters.insert().values(values))
            return number

        return lambda: writer.do(work)

    with ThreadPoolExecutor(5) as pool:
        waiting = pool.submit(writer.do, lambda _: held.wait(10))
        time.sleep(0.05)
        jobs = [pool.submit(insert(number)) for number in range(4)]
        time.sleep(0.1)
        held.set()
        assert waiting.result()
        errors = [job.exception() for job in jobs]
    assert [isinstance(error, DatabaseError) for error in errors].count(True) == 1
    assert len(both.raters()) == 3
    writer.close()
    with pytest.raises(FreeURuntimeError, match="closed"):
        writer.do(lambda _: None)


def test_nothing_is_acknowledged_before_the_commit(both):
    rater, _ = both.claim_slot("en")
    task = both.tasks(rater)[0]

    def fail(_):
        raise OSError("the disk is full")

    event.listen(both.engine, "commit", fail)
    with pytest.raises(OSError, match="disk is full"):
        both.vote(rater, task.id, 0, "left", 1.0)
    event.remove(both.engine, "commit", fail)
    assert both.events() == []
    assert both.vote(rater, task.id, 0, "right", 1.0).outcome == "counted"


CRASH = """
import os, sys, threading
from pathlib import Path
from freeu.study.plan.folder import StudyFolder
from freeu.study.store.store import Store
study = StudyFolder.open(Path(sys.argv[1]))
store = Store(sys.argv[2], study.plan)
def vote(number):
    rater, _ = store.claim_slot("en")
    for task in store.tasks(rater):
        store.vote(rater, task.id, 0, "left", 1.0)
        os.write(1, f"{task.id}\\n".encode())
for number in range(4):
    threading.Thread(target=vote, args=(number,)).start()
"""


def test_what_was_acknowledged_survives_a_kill(url, tmp_path):
    study = make_study(tmp_path / "long", seeds=40)
    command = [sys.executable, "-c", CRASH, str(study.path), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        acknowledged = [process.stdout.readline().strip() for _ in range(40)]
        process.kill()
        acknowledged += process.stdout.read().split("\n")[:-1]
    with Store(url, study.plan) as store:
        stored = [vote.task for vote in store.counted_votes()]
    assert len(acknowledged) >= 40
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    assert len(stored) <= len(acknowledged) + 4  # at most one on its way for each rater


def test_a_backup_while_votes_come_in(folder, store, tmp_path):
    rater, code = store.claim_slot("en", "Ada")
    tasks = store.tasks(rater)
    store.vote(rater, tasks[0].id, 0, "left", 1.0)
    stop = threading.Event()

    def writing():
        revision = 0
        while not stop.is_set():
            store.vote(rater, tasks[1].id, revision, "left", 1.0)
            store.undo(rater, tasks[1].id, revision)
            revision += 1

    thread = threading.Thread(target=writing)
    thread.start()
    try:
        count = back_up(database_url(folder.path), tmp_path / "copy.sqlite")
    finally:
        stop.set()
        thread.join()
    assert 1 <= count <= len(store.events())
    assert [path.name for path in tmp_path.iterdir() if path.name != "study"] == ["copy.sqlite"]
    with Store(database_url(tmp_path, str(tmp_path / "copy.sqlite")), folder.plan) as copy:
        assert len(copy.events()) == count
        assert copy.find(code)[0].nickname == "Ada"
        assert copy.events() == store.events()[:count]


def test_backups_that_cannot_be(folder, store, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(FreeUValueError, match="exists: name another"):
        back_up(database_url(folder.path), tmp_path / "taken")
    with pytest.raises(FreeUValueError, match="pg_dump"):
        back_up("postgresql://host/name", tmp_path / "copy")
    with pytest.raises(FreeUValueError, match="serve the study first"):
        back_up(database_url(tmp_path), tmp_path / "copy")
    (tmp_path / "study.sqlite").write_text("no database at all, but long enough to be looked at" * 50)
    with pytest.raises(FreeURuntimeError, match="cannot copy"):
        back_up(database_url(tmp_path), tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study", "study.sqlite", "taken"]

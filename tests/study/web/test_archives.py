"""Reading a study's database: an archive stays as it is, a mistyped path makes nothing, an export is of one moment."""

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import tempfile
from pathlib import Path

import pytest
from study.handmade import make_study

from freeu.cli import main
from freeu.study.results.live import LiveResults
from freeu.study.store import archive
from freeu.study.store.backup import back_up
from freeu.study.store.database import FILE, database_url
from freeu.study.store.store import Store

NOBODY = 65534


@contextlib.contextmanager
def without_privileges():
    """As a user for whom modes of files count."""
    if os.getuid():
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def place():
    """A folder that other users can look into."""
    path = Path(tempfile.mkdtemp(prefix="freeu-archive-"))
    path.chmod(0o755)
    (path / "out").mkdir(mode=0o777)
    (path / "out").chmod(0o777)
    yield path
    for folder in path.glob("**/"):
        folder.chmod(0o755)
    shutil.rmtree(path)


def voted(path, votes=5):
    """A study with some votes, whose server has ended."""
    study = make_study(path)
    with Store(database_url(path), study.plan) as store:
        rater, _ = store.claim_slot("en", "Ada")
        for task in store.tasks(rater)[:votes]:
            store.vote(rater, task.id, 0, "left", 1.0)
    return study


def killed(path, votes=5, endings=("", "-wal", "-shm")):
    """A study whose server was killed: the last change is in the log alone."""
    voted(path.with_name("alive"), votes)
    study = make_study(path)
    with contextlib.closing(sqlite3.connect(path.with_name("alive") / FILE)) as alive:
        alive.execute("SELECT count(*) FROM freeu_events").fetchone()
        alive.execute("UPDATE freeu_raters SET language = 'zh'")
        alive.commit()
        for ending in endings:
            shutil.copyfile(path.with_name("alive") / f"{FILE}{ending}", path / f"{FILE}{ending}")
    assert (path / f"{FILE}-wal").stat().st_size
    return study


def copied(path, votes=5):
    """A copy of such a study, made without the index of the log."""
    return killed(path, votes, ("", "-wal"))


def backup_of(path, votes=5):
    """A study beside a backup of its database, which takes the place of the database."""
    study = voted(path, votes)
    back_up(database_url(path), path / "copy.sqlite")
    (path / "copy.sqlite").replace(path / FILE)
    return study


def archived(path):
    """What is in a folder: names, modes, times and bytes; without the index of the log, which holds no data."""
    return {
        str(file.relative_to(path)): (file.stat().st_mode, file.stat().st_mtime_ns, file.read_bytes())
        for file in sorted(path.glob("**/*"))
        if file.is_file() and not file.name.endswith("-shm")
    }


def lock(path):
    """Make a folder and everything in it readable only."""
    for file in sorted(path.glob("**/*"), reverse=True):
        file.chmod(0o555 if file.is_dir() else 0o444)
    path.chmod(0o555)


@pytest.mark.parametrize("make", [voted, killed, copied, backup_of])
@pytest.mark.parametrize("locked", [True, False], ids=["read-only", "writable"])
def test_an_archive_is_read_and_stays_as_it_is(place, make, locked, capsys):
    path = place / "study"
    make(path)
    if locked:
        lock(path)
    # Whatever is imported on the way is imported first: Python itself may lie where other users cannot look.
    assert main(["study", "results", str(voted(place / "other").path), "--output", str(place / "other" / "out")]) == 0
    assert main(["study", "status", str(place / "other")]) == 0
    capsys.readouterr()
    before = archived(path)
    with without_privileges() if locked else contextlib.nullcontext():
        out = str(place / "out")
        assert main(["study", "status", str(path)]) == 0
        assert main(["study", "results", str(path), "--json"]) == 0
        assert main(["study", "results", str(path), "--output", out]) == 0
        assert main(["study", "export", str(path), "--output", out]) == 0
        assert main(["study", "backup", str(path), "--output", f"{out}/copy.sqlite"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "votes: 5\n" in said.out
    assert "copy.sqlite: 5 events" in said.out
    assert (place / "out" / "votes.csv").read_text().count("\n") == 6
    assert archived(path) == before
    with contextlib.closing(sqlite3.connect(place / "out" / "copy.sqlite")) as copy:
        assert copy.execute("SELECT count(*) FROM freeu_events").fetchone() == (5,)
        language = "zh" if make in (killed, copied) else "en"  # what was in the log only
        assert copy.execute("SELECT language FROM freeu_raters").fetchone() == (language,)


@pytest.mark.parametrize("option", ["results", "status", "export"])
def test_a_backup_is_read_and_stays_as_it_is(place, option, capsys):
    path = place / "study"
    voted(path)
    back_up(database_url(path), place / "copy.sqlite")
    before = archived(place)
    arguments = [] if option == "status" else ["--output", str(place / "out")]
    assert main(["study", option, str(path), "--database", str(place / "copy.sqlite"), *arguments]) == 0
    after = {name: value for name, value in archived(place).items() if not name.startswith("out")}
    assert after == before
    capsys.readouterr()


def test_a_database_in_use_is_read_in_place(place):
    """With the votes of a moment ago, and without a copy."""
    path = place / "study"
    study = make_study(path)
    with Store(database_url(path), study.plan) as store:
        rater, _ = store.claim_slot("en")
        with archive.readable(path / FILE) as address:
            assert str(path) in address
        with Store(database_url(path), study.plan, access="read") as reader:
            for number, task in enumerate(store.tasks(rater)[:3], 1):
                store.vote(rater, task.id, 0, "left", 1.0)
                assert len(reader.counted_votes()) == number
        assert len(store.counted_votes()) == 3


def test_a_copy_that_was_taken_while_the_database_changed_is_taken_again(place, monkeypatch):
    path = place / "study"
    study = voted(path)
    copy, tries = shutil.copyfile, []

    def disturbed(source, target):
        done = copy(source, target)
        if source == path / FILE and len(tries) < 2:
            tries.append(source)
            os.utime(source, ns=(len(tries), len(tries)))
        return done

    monkeypatch.setattr(shutil, "copyfile", disturbed)
    with Store(database_url(path), study.plan, access="read") as reader:
        assert len(reader.counted_votes()) == 5
    assert len(tries) == 2
    monkeypatch.setattr(archive, "_TRIES", 0)
    with pytest.raises(Exception, match="changes all the time"):
        Store(database_url(path), study.plan, access="read")


def test_copies_are_private_and_removed(place, monkeypatch):
    path, seen = place / "study", []
    study = voted(path)
    monkeypatch.setattr(tempfile, "tempdir", str(place / "out"))
    with Store(database_url(path), study.plan, access="read"):
        seen += list((place / "out").iterdir())
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in seen] == [0o700]
    assert not list((place / "out").iterdir())


@pytest.mark.parametrize("command", ["status", "tokens", "backup", "results", "export"])
@pytest.mark.parametrize("size", [None, 0])
def test_a_mistyped_database_creates_nothing(place, command, size, capsys):
    path, other = place / "study", place / "none.sqlite"
    voted(path)
    if size is not None:
        other.touch()
    before = archived(place)
    arguments = {"tokens": ["3"], "status": []}.get(command, ["--output", str(place / "out" / "x")])
    assert main(["study", command, str(path), *arguments, "--database", str(other)]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert ("there is no database" if size is None else "is empty (0 bytes)") in said.err
    assert archived(place) == before


@pytest.mark.parametrize("command", ["status", "tokens", "backup", "results", "export"])
@pytest.mark.parametrize("damage", ["no database", "pages", "table"])
def test_a_damaged_database_is_one_line(place, command, damage, capsys):
    path = place / "study"
    voted(path)
    file = path / FILE
    if damage == "table":
        with contextlib.closing(sqlite3.connect(file)) as other:
            other.execute("DROP TABLE freeu_events")
    elif damage == "pages":
        data = file.read_bytes()
        file.write_bytes(data[:8192] + bytes(range(256)) * 48 + data[8192 + 256 * 48 :])
    else:
        file.write_bytes(b"no database at all " * 1000)
    arguments = {"tokens": ["3"], "status": []}.get(command, ["--output", str(place / "out" / "x")])
    assert main(["study", command, str(path), *arguments]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "Traceback" not in said.err
    assert not list((place / "out").iterdir())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"plan": ' * 100_000, "[" * 50_000 + "]" * 50_000, "\xff", ""])
def test_a_plan_that_is_none_is_one_line(place, text, capsys):
    path = place / "study"
    make_study(path)
    (path / "plan.json").write_text(text, encoding="latin-1")
    for command in (["status"], ["results"], ["export"], ["tokens", "1"], ["serve"]):
        assert main(["study", command[0], str(path), *command[1:]]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert "plan.json is" in said.err


def test_an_export_is_of_one_moment(place, monkeypatch):
    """Votes that come while the files are made are in all of them or in none."""
    path = place / "study"
    study = make_study(path)
    with Store(database_url(path), study.plan) as store:
        rater, _ = store.claim_slot("en")
        tasks = iter(store.tasks(rater))
        store.vote(rater, next(tasks).id, 0, "left", 1.0)
        read = Store.counted_votes

        def busy(self):
            store.vote(rater, next(tasks).id, 0, "left", 1.0)
            return read(self)

        monkeypatch.setattr(Store, "counted_votes", busy)
        assert main(["study", "export", str(path), "--format", "json", "--output", str(place / "out")]) == 0
        results = json.loads((place / "out" / "results.json").read_text())
        assert len(json.loads((place / "out" / "votes.json").read_text())) == results["everyone"]["votes"] + counted(
            results
        )
        made = LiveResults(store).exports("votes.json", "results.json", "votes.csv")
        assert len(json.loads(made["votes.json"])) == made["votes.csv"].count(b"\r\n") - 1


def counted(results):
    """Answers to checks and repeats, which are no votes of the results."""
    return sum((results["everyone"][name] or {"count": 0})["count"] for name in ("checks", "consistency"))

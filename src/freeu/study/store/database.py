"""Opening a study's database: SQLite in a file or PostgreSQL by URL, with durable commits."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.study.store.archive import readable
from freeu.study.store.faults import StoreError, fault

FILE = "study.sqlite"
BUSY_MS = 15_000
CONNECTIONS = 48
"""More than the number of request threads, so that no request waits for a connection."""

Access = Literal["create", "write", "read"]
"""Create the database if there is none; write to one that is there; read one without changing anything."""


def database_url(folder: Path, database: str | None = None) -> str:
    """The URL of a study's database, by default ``study.sqlite`` in its folder.

    Args:
        folder: of the study.
        database: a URL such as ``postgresql://user@host/name``, or the path of an SQLite file.
    """
    if database and "://" in database:
        return database
    return URL.create(
        "sqlite", database=str(Path(database).absolute() if database else folder / FILE)
    ).render_as_string()


def parse_url(url: str) -> URL:
    """Read a URL and choose the driver.

    Raises:
        FreeUValueError: not a URL, or another kind of database. The message omits the URL: it may contain a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise FreeUValueError(
            "--database is not a database URL: use postgresql://user@host/name or the path of an SQLite file"
        ) from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise FreeUValueError(f"--database must be SQLite or PostgreSQL, got {backend}")
    if backend == "sqlite" and not parsed.database:
        raise FreeUValueError("--database must name a file: an in-memory database would lose the votes")
    return parsed.set(drivername={"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}[backend])


def existing(url: URL) -> Path:
    """The file of an SQLite database that must be there.

    Raises:
        FreeUValueError: there is no such file, or it is empty.
    """
    file = Path(url.database or "")
    if not file.is_file():
        raise FreeUValueError(f"there is no database {file}: serve the study first, or check --database")
    if not file.stat().st_size:
        raise FreeUValueError(f"the database {file} is empty (0 bytes): serve the study first, or check --database")
    return file


def open_engine(url: str, access: Access = "create", resources: contextlib.ExitStack | None = None) -> Engine:
    """An engine whose commits are durable, and fail where the transaction is gone.

    SQLite runs in WAL mode with ``synchronous=FULL`` (each commit waits for the disk) and begins writing transactions
    with ``IMMEDIATE``. PostgreSQL runs with ``synchronous_commit=on``, also where the server has another default, and
    reads with ``REPEATABLE READ``: all that one transaction reads is of one moment.

    Args:
        url: of the database.
        access: see ``Access``.
        resources: closed after the engine was disposed of; needed for reading.

    Raises:
        FreeUValueError: see ``parse_url`` and ``existing``; or PostgreSQL without its driver.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        engine = _open_postgresql(parsed, access)
    else:
        engine = _open_sqlite(parsed, access, resources or contextlib.ExitStack())

    @event.listens_for(engine, "commit")
    def _check(connection: Connection) -> None:
        # The drivers take a commit without a transaction for done: what was written before is not there.
        require_transaction(connection)

    return engine


def _open_postgresql(url: URL, access: Access) -> Engine:
    need("postgres", "psycopg")
    options = "-csynchronous_commit=on" + (" -cdefault_transaction_read_only=on" if access == "read" else "")
    return create_engine(
        url,
        connect_args={"options": options, "connect_timeout": 10},
        hide_parameters=True,
        pool_size=8,
        max_overflow=CONNECTIONS - 8,
        pool_pre_ping=True,
    )


def _open_sqlite(url: URL, access: Access, resources: contextlib.ExitStack) -> Engine:
    file = Path(url.database or "")
    if access == "create":
        _create_private(file)
    else:
        existing(url)
    address = (
        resources.enter_context(readable(file)) if access == "read" else f"{file.absolute().as_uri()}?mode=rw"
    )  # without "c" for create: nothing appears where a database was taken away

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, timeout=BUSY_MS / 1_000, check_same_thread=False, uri=True)

    engine = create_engine(url, creator=connect, hide_parameters=True, pool_size=8, max_overflow=CONNECTIONS - 8)
    settings = ["foreign_keys=ON"]
    if access != "read":
        # Overwritten with zeros, so that nothing of deleted data stays in the file.
        settings += ["journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "secure_delete=ON"]

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself: _begin does
        for setting in settings:
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        reading = connection.get_execution_options().get("freeu_reading") or access == "read"
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def reading(engine: Engine) -> Engine:
    """The engine for transactions that only read: each sees one moment, and none waits for a writer."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ")
    return engine.execution_options(freeu_reading=True)


def require_transaction(connection: Connection) -> None:
    """Check that the transaction that was begun is still there.

    SQLite rolls back by itself after some errors, such as those of a network file system; PostgreSQL turns the commit
    of a failed transaction into a rollback, without an error.

    Raises:
        StoreError: it is gone. Nothing that was written in it is in the database.
    """
    driver: Any = None if connection.invalidated or connection.closed else connection.connection.dbapi_connection
    if driver is None:
        alive = False
    elif connection.dialect.name == "sqlite":
        alive = driver.in_transaction
    else:
        alive = driver.info.transaction_status.name == "INTRANS"
    if not alive:
        raise StoreError("the database rolled back what was written, by itself: try again, and check the disk")


def _create_private(file: Path) -> None:
    """Create a new database file readable by its owner only; SQLite gives -wal and -shm the same mode."""
    with contextlib.suppress(OSError):  # prepare() reports a folder that is missing or not writable
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def empty_log(engine: Engine, wait_ms: int = 100) -> bool:
    """Move SQLite's write-ahead log into the database and empty it, so that nothing of deleted data stays in it.

    Args:
        engine: of the database.
        wait_ms: how long to wait for readers. Nobody can write meanwhile.

    Returns:
        whether the log is empty; True for PostgreSQL, whose log is its own matter.

    Raises:
        StoreError: the database cannot be written.
    """
    if engine.dialect.name != "sqlite":
        return True
    connection = engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout={wait_ms}")
        busy = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        driver.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    except sqlite3.Error as error:
        raise fault("cannot empty the log of the study's database", error) from None
    finally:
        connection.close()
    return not busy

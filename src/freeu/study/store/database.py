"""Opening a study's database: SQLite in a file or PostgreSQL by URL, with durable commits."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.extras import need
from freeu.study.store import tables

FILE = "study.sqlite"
BUSY_MS = 15_000
CONNECTIONS = 48
"""More than the number of request threads, so that no request waits for a connection."""


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


def open_engine(url: str) -> Engine:
    """An engine whose commits are durable.

    SQLite runs in WAL mode with ``synchronous=FULL`` (each commit waits for the disk) and begins writing transactions
    with ``IMMEDIATE``. PostgreSQL runs with ``synchronous_commit=on``, also where the server has another default.

    Raises:
        FreeUValueError: see ``parse_url``; or PostgreSQL without its driver.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        need("postgres", "psycopg")
        return create_engine(
            parsed,
            connect_args={"options": "-csynchronous_commit=on", "connect_timeout": 10},
            hide_parameters=True,
            pool_size=8,
            max_overflow=CONNECTIONS - 8,
            pool_pre_ping=True,
        )
    _create_private(Path(parsed.database or ""))
    engine = create_engine(parsed, hide_parameters=True, pool_size=8, max_overflow=CONNECTIONS - 8)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself: _begin does
        for pragma in (
            f"busy_timeout={BUSY_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "fullfsync=ON",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        reading = connection.get_execution_options().get("freeu_reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _create_private(file: Path) -> None:
    """Create a new database file readable by its owner only; SQLite gives -wal and -shm the same mode."""
    with contextlib.suppress(OSError):  # prepare() reports a folder that is missing or not writable
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def prepare(engine: Engine, plan: str, now: str) -> None:
    """Create the tables, or check that existing ones belong to this plan.

    Args:
        engine: of the database.
        plan: hash of the plan.
        now: time of creation for a new database.

    Raises:
        FreeUValueError: a database of another plan or of a newer freeu.
        FreeURuntimeError: the database cannot be opened.
    """
    name = engine.url.render_as_string(hide_password=True)
    try:
        with engine.begin() as connection:
            if not inspect(connection).has_table(tables.study.name):
                tables.metadata.create_all(connection)
                connection.execute(
                    tables.study.insert().values({"schema": tables.SCHEMA, "plan": plan, "created": now})
                )
            found = connection.execute(select(tables.study)).one()
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise FreeURuntimeError(f"cannot open the study's database {name}: {reason}") from None
    if found.schema != tables.SCHEMA:
        raise FreeUValueError(f"the database {name} has schema {found.schema}, not {tables.SCHEMA}: use a newer freeu")
    if found.plan != plan:
        raise FreeUValueError(
            f"the database {name} belongs to another study (plan {found.plan[:12]}, this one is {plan[:12]}): "
            "name another --database"
        )

"""Checks of a database before it is used: its plan, its tables, its integrity, and that it can be written."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from freeu.errors import FreeUValueError
from freeu.study.store import tables
from freeu.study.store.database import Access, empty_log
from freeu.study.store.faults import StoreError, fault, reason_of


def prepare(engine: Engine, plan: str, now: str, access: Access) -> bool:
    """Create the tables, or check that those that are there are sound and belong to this plan.

    Args:
        engine: of the database.
        plan: hash of the plan.
        now: time of creation for a new database.
        access: with "create" a real write is tried as well.

    Returns:
        whether the database is new.

    Raises:
        FreeUValueError: a database of another plan or of a newer freeu; or without votes of freeu, unless ``access``
            is "create".
        StoreError: the database cannot be opened or written, or is damaged.
    """
    name = engine.url.render_as_string(hide_password=True)
    try:
        with engine.begin() as connection:
            fresh = _find_or_create(connection, name, plan, now, access)
            found = connection.execute(select(tables.study)).all()
            if not fresh:
                _check(connection, name)
    except SQLAlchemyError as error:
        raise fault(f"cannot open the study's database {name}", reason_of(error)) from None
    if len(found) != 1:
        raise fault(f"cannot open the study's database {name}", f"it is damaged: it names {len(found)} studies")
    if found[0].schema != tables.SCHEMA:
        raise FreeUValueError(
            f"the database {name} has schema {found[0].schema}, not {tables.SCHEMA}: use a newer freeu"
        )
    if found[0].plan != plan:
        raise FreeUValueError(
            f"the database {name} belongs to another study (plan {str(found[0].plan)[:12]}, this one is {plan[:12]}): "
            "name another --database"
        )
    if access == "create":
        _try_to_write(engine, name)
    return fresh


def _find_or_create(connection: Connection, name: str, plan: str, now: str, access: Access) -> bool:
    known = inspect(connection).get_table_names()
    if tables.study.name in known:
        return False
    if access != "create":
        raise FreeUValueError(
            f"the database {name} holds no study of freeu: serve the study first, or check --database"
        )
    if {table.name for table in tables.metadata.tables.values()} & set(known):
        raise fault(f"cannot open the study's database {name}", f"it is damaged: no such table: {tables.study.name}")
    tables.metadata.create_all(connection)
    connection.execute(tables.study.insert().values({"schema": tables.SCHEMA, "plan": plan, "created": now}))
    return True


def _check(connection: Connection, name: str) -> None:
    """Every column of every table can be read, and SQLite finds no damage in its pages and references."""
    for table in tables.metadata.tables.values():
        connection.execute(select(table).limit(1)).all()
    if connection.dialect.name != "sqlite":
        return
    found = connection.execute(text("PRAGMA integrity_check(1)")).scalar()
    lost = connection.execute(text("PRAGMA foreign_key_check")).first()
    if found != "ok" or lost is not None:
        what = str(found).splitlines()[-1] if found != "ok" else "votes of a rater who is not there"
        raise fault(f"cannot open the study's database {name}", f"it is damaged ({what})")


def _try_to_write(engine: Engine, name: str) -> None:
    """One real commit: a full disk or a read-only file must show before the first rater does."""
    try:
        with engine.begin() as connection:
            tables.protect(connection)  # a database of version 0.1 lacks a trigger
            connection.execute(tables.study.update().values(created=tables.study.c.created))
        empty_log(engine)  # what a server that was killed may have left of deleted data
    except (SQLAlchemyError, StoreError) as error:
        raise fault(f"cannot write to the study's database {name}", reason_of(error)) from None

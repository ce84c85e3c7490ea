"""The tables of a study's database, and the triggers that keep events append-only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    event,
)

SCHEMA = 1

metadata = MetaData()

study = Table(
    "freeu_study",
    metadata,
    Column("schema", Integer, nullable=False, primary_key=True, autoincrement=False),
    Column("plan", String(64), nullable=False),
    Column("created", String(32), nullable=False),
)

# Events refer to "key". "id" is the public id: when a rater asks for deletion it is replaced, and no event changes.
raters = Table(
    "freeu_raters",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("slot", Integer, unique=True),
    Column("token", String(64), unique=True),
    Column("nickname", String(80)),
    Column("language", String(8), nullable=False),
    Column("joined", String(32)),
    Column("deleted", Boolean, nullable=False, default=False),
)

events = Table(
    "freeu_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("rater", Integer, ForeignKey("freeu_raters.key"), nullable=False, index=True),
    Column("task", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("choice", String(8), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("time", String(32), nullable=False),
    Column("place", Integer, nullable=False),
    Column("left", String(64), nullable=False),
    Column("plan", String(64), nullable=False),
    UniqueConstraint("rater", "task", "revision", "kind"),
    CheckConstraint("kind IN ('vote', 'undo')"),
    CheckConstraint("choice IN ('left', 'right', 'tie') OR (kind = 'undo' AND choice = '')"),
    sqlite_autoincrement=True,
)

_TRIGGERS = {
    "sqlite": [
        *(
            f"CREATE TRIGGER IF NOT EXISTS freeu_events_no_{change.lower()} BEFORE {change} ON freeu_events "
            "BEGIN SELECT RAISE(ABORT, 'votes are append-only'); END"
            for change in ("UPDATE", "DELETE")
        ),
        # REPLACE INTO deletes the old row without firing the trigger of DELETE.
        "CREATE TRIGGER IF NOT EXISTS freeu_events_no_replace BEFORE INSERT ON freeu_events WHEN EXISTS "
        "(SELECT 1 FROM freeu_events WHERE id = NEW.id OR (rater = NEW.rater AND task = NEW.task "
        "AND revision = NEW.revision AND kind = NEW.kind)) "
        "BEGIN SELECT RAISE(ABORT, 'votes are append-only and unique'); END",
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION freeu_events_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'votes are append-only'; END $$",
        "DROP TRIGGER IF EXISTS freeu_events_no_change ON freeu_events",
        "CREATE TRIGGER freeu_events_no_change BEFORE UPDATE OR DELETE ON freeu_events "
        "FOR EACH ROW EXECUTE FUNCTION freeu_events_append_only()",
        "DROP TRIGGER IF EXISTS freeu_events_no_truncate ON freeu_events",
        "CREATE TRIGGER freeu_events_no_truncate BEFORE TRUNCATE ON freeu_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION freeu_events_append_only()",
    ],
}


def protect(connection: Connection) -> None:
    """Make the database refuse to change or delete events, where it does not yet."""
    if connection.dialect.name == "postgresql":
        # Asked first: who may use the tables need not own them.
        query = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'freeu_events'::regclass"
        if {"freeu_events_no_change", "freeu_events_no_truncate"} <= set(connection.exec_driver_sql(query).scalars()):
            return
    for statement in _TRIGGERS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


@event.listens_for(events, "after_create")
def _append_only(_: Table, connection: Connection, **__: Any) -> None:
    protect(connection)

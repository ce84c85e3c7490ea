"""The pairs and votes of one search in an SQLite file: a vote that was taken is on the disk.

Records are only added. A vote that was taken back is followed by a record that says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
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
    insert,
    select,
)

from freeu.errors import FreeUValueError
from freeu.study.store.database import database_url, open_engine
from freeu.study.store.faults import translated
from freeu.tuning.votes.space import Settings

SCHEMA = 1
CHOICES = ("left", "right", "tie")
UNDO, BROKEN = "undo", "broken"
"""Records that are no votes: the last one is taken back; no image could be made of one of the settings."""
SEARCH, FINAL, DONE = "search", "final", "done"
"""Stages of a search, in order."""
_AT = "cannot use the votes of the search"

metadata = MetaData()
searches = Table(
    "freeu_vote_search",
    metadata,
    Column("schema", Integer, primary_key=True, autoincrement=False),
    Column("identity", String(64), nullable=False),
)
pairs = Table(
    "freeu_vote_pairs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("stage", String(8), nullable=False),
    Column("first", String, nullable=False),
    Column("second", String, nullable=False),
    Column("prompt", Integer, nullable=False),
    Column("seed", String(24), nullable=False),  # up to 2^64, which SQLite's integers do not reach
    Column("first_left", Boolean, nullable=False),
)
records = Table(
    "freeu_vote_records",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("pair", Integer, ForeignKey("freeu_vote_pairs.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("choice", String(8), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("time", String(32), nullable=False),
    UniqueConstraint("pair", "revision"),
    CheckConstraint("choice IN ('left', 'right', 'tie', 'undo', 'broken')"),
    sqlite_autoincrement=True,
)
stages = Table(
    "freeu_vote_stages",
    metadata,
    Column("stage", String(8), primary_key=True),
    Column("settings", String, nullable=False),
    Column("time", String(32), nullable=False),
)


@dataclass(frozen=True)
class Pair:
    """Two settings that are shown with one prompt and one seed.

    Args:
        id: from 0, in the order in which pairs were chosen.
        stage: SEARCH or FINAL.
        first, second: the settings.
        prompt: its number.
        seed: of the noise of both images.
        first_left: on which side the first is shown.
        choice: of the counted vote, BROKEN, or None while there is none.
        revision: how many records there are of it.
        seconds: that the vote took.
    """

    id: int
    stage: str
    first: Settings
    second: Settings
    prompt: int
    seed: int
    first_left: bool
    choice: str | None = None
    revision: int = 0
    seconds: float = 0.0

    @property
    def left(self) -> Settings:
        return self.first if self.first_left else self.second

    @property
    def right(self) -> Settings:
        return self.second if self.first_left else self.first

    @property
    def voted(self) -> bool:
        return self.choice in CHOICES

    @property
    def outcome(self) -> float:
        """1 where the first was chosen, 0 where the second was, 0.5 for neither."""
        assert self.voted
        if self.choice == "tie":
            return 0.5
        return float((self.choice == "left") == self.first_left)


class Ballots:
    """The file; use ``open_ballots``.

    Args:
        connect: gives a transaction.
        identity: of the search.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def begin(self, identity: str, path: Path) -> None:
        """Make the tables, or check that those that are there belong to this search.

        Raises:
            FreeUValueError: the votes of another search, or of a newer freeu.
            StoreError: the file cannot be read or written, or is damaged.
        """
        with self._writing() as connection:
            metadata.create_all(connection)
            found = connection.execute(select(searches)).all()
            if not found:
                connection.execute(insert(searches).values({"schema": SCHEMA, "identity": identity}))
            elif (found[0].schema, found[0].identity) != (SCHEMA, identity):
                raise FreeUValueError(
                    f"{path} holds the votes of another search: name a folder that does not exist yet"
                )

    def pairs(self) -> list[Pair]:
        """All pairs with their counted votes, in the order in which they were chosen."""
        with translated(_AT), self._engine.connect() as connection:
            chosen = connection.execute(select(pairs).order_by(pairs.c.id)).all()
            last = {row.pair: row for row in connection.execute(select(records).order_by(records.c.id))}
        return [_pair(row, last.get(row.id)) for row in chosen]

    def add(self, one: Pair) -> None:
        """A new pair."""
        with self._writing() as connection:
            connection.execute(
                insert(pairs).values(
                    id=one.id,
                    stage=one.stage,
                    first=json.dumps(dict(one.first)),
                    second=json.dumps(dict(one.second)),
                    prompt=one.prompt,
                    seed=str(one.seed),
                    first_left=one.first_left,
                )
            )

    def record(self, pair: int, revision: int, choice: str, seconds: float) -> None:
        """A vote, or a record that is none; it is on the disk when this returns."""
        with self._writing() as connection:
            connection.execute(
                insert(records).values(pair=pair, revision=revision, choice=choice, seconds=seconds, time=_now())
            )

    def stages(self) -> dict[str, dict[str, float]]:
        """The stages that were reached after the first, each with the settings that it is about."""
        with translated(_AT), self._engine.connect() as connection:
            return {row.stage: json.loads(row.settings) for row in connection.execute(select(stages))}

    def reach(self, stage: str, settings: Settings) -> None:
        """Begin a stage."""
        with self._writing() as connection:
            connection.execute(insert(stages).values(stage=stage, settings=json.dumps(dict(settings)), time=_now()))

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with translated(_AT), self._engine.begin() as connection:
            yield connection


@contextmanager
def open_ballots(path: Path, identity: str) -> Iterator[Ballots]:
    """The votes of a search for a ``with`` block; the file is made if there is none.

    Args:
        path: of the SQLite file.
        identity: whatever decides which pairs there are; a file of another search is refused.

    Raises:
        FreeUValueError: the votes of another search.
        StoreError: the file cannot be read or written, or is damaged.
    """
    with translated(_AT):
        engine = open_engine(database_url(path.parent, str(path)))
    try:
        found = Ballots(engine)
        found.begin(identity, path)
        yield found
    finally:
        engine.dispose()


def _pair(row: Any, last: Any) -> Pair:
    counted = last is not None and last.choice != UNDO
    return Pair(
        row.id,
        row.stage,
        json.loads(row.first),
        json.loads(row.second),
        row.prompt,
        int(row.seed),
        row.first_left,
        last.choice if counted else None,
        0 if last is None else last.revision + 1,
        last.seconds if counted else 0.0,
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")

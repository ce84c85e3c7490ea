"""Assignment of slots to raters."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from sqlalchemy import Connection, select

from freeu.study.store import codes
from freeu.study.store.records import Rater, rater_of
from freeu.study.store.tables import events, raters, study

ABANDONED = timedelta(hours=2)
"""A rater who has not voted after this time loses the slot if no other slot is free."""


def now() -> str:
    """The current time, ISO 8601 in UTC with milliseconds."""
    return timestamp(datetime.now(timezone.utc))


def timestamp(time: datetime) -> str:
    """A time as events store it: ISO 8601 with milliseconds."""
    return time.isoformat(timespec="milliseconds")


def claim(
    connection: Connection, slots: int, code: str, language: str, nickname: str | None = None, *, invited: bool = False
) -> Rater | None:
    """Take the lowest free slot. If none is free, take the slot of a rater who started long ago and never voted.

    Args:
        connection: inside a transaction.
        slots: number of slots in the plan.
        code: the personal code.
        language: of the pages.
        nickname: chosen by the rater, or None.
        invited: reserve the slot for a rater who starts later. A reservation takes no slot from a rater.

    Returns:
        the rater, or None if no slot is free.
    """
    connection.execute(select(study.c.schema).with_for_update())  # serializes claims on PostgreSQL too
    taken = set(connection.execute(select(raters.c.slot).where(raters.c.slot.is_not(None))).scalars())
    slot = next((number for number in range(slots) if number not in taken), None)
    if slot is None and not invited:
        slot = _reclaim(connection)
    if slot is None:
        return None
    values = {"id": codes.new_id(), "slot": slot, "token": codes.hashed(code), "nickname": nickname}
    values |= {"language": language, "joined": None if invited else now(), "deleted": False}
    return rater_of(connection.execute(raters.insert().values(values).returning(raters)).one())


def _reclaim(connection: Connection) -> int | None:
    limit = timestamp(datetime.now(timezone.utc) - ABANDONED)
    voted = select(events.c.id).where(events.c.rater == raters.c.key).exists()
    query = select(raters.c.key, raters.c.slot).where(
        raters.c.slot.is_not(None), raters.c.joined < limit, ~raters.c.deleted, ~voted
    )
    found = connection.execute(query.order_by(raters.c.joined).limit(1)).one_or_none()
    if found is None:
        return None
    gone = {"slot": None, "token": None, "nickname": None, "deleted": True}
    connection.execute(raters.update().where(raters.c.key == found.key).values(gone))
    return int(found.slot)

"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def wide_console() -> Console:
    """Standard output; wide where it is no terminal, so that a file or pipe gets whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def plain_table() -> Table:
    """A table without lines."""
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)


def needed(table: Table) -> int:
    """Columns of a terminal that a table takes without breaking anything."""
    console = Console(width=10_000)
    return table.__rich_measure__(console, console.options).maximum


def turned_table(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[Table]:
    """Rows as columns, so that many heads stay readable; more than one table where they do not fit side by side.

    Args:
        heads: the first names the rows.
        rows: as many cells as heads.
        width: of the terminal.
    """

    def table_of(some: Sequence[Sequence[str]]) -> Table:
        table = plain_table()
        table.add_column(heads[0], no_wrap=True)
        for row in some:
            table.add_column(row[0], justify="right", no_wrap=True)
        for place, head in enumerate(heads[1:], start=1):
            table.add_row(head, *(row[place] for row in some))
        return table

    for count in range(len(rows), 0, -1):
        tables = [table_of(rows[start : start + count]) for start in range(0, len(rows), count)]
        if count == 1 or all(needed(table) <= width for table in tables):
            break
    return tables

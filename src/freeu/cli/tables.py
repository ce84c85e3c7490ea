"""Tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def wide_console() -> Console:
    """Standard output; wide where it is no terminal, so that a file or pipe gets whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def plain_table() -> Table:
    """A table without lines."""
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)

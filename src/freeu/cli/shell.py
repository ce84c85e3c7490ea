"""What a command says: summaries on standard output, notes and errors on standard error, or JSON in their place."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.pipelines.options.run import ShellOptions


@dataclass
class _Manner:
    """How the command that runs speaks."""

    quiet: bool = False
    as_json: bool = False
    opens: bool = False


_manner = _Manner()


@contextlib.contextmanager
def speaking(options: ShellOptions) -> Iterator[None]:
    """Speak as the options say, for a ``with`` block: that of a command."""
    global _manner
    before, _manner = _manner, _Manner(options.quiet, options.as_json, options.open_page)
    try:
        yield
    finally:
        _manner = before


def quiet() -> bool:
    """Whether progress is not shown."""
    return _manner.quiet


def summarises() -> bool:
    """Whether summaries are printed: the command is neither quiet nor prints JSON."""
    return not _manner.quiet and not _manner.as_json


def say(*lines: object) -> None:
    """Print a summary, unless the command is quiet or prints JSON."""
    if summarises():
        for line in lines:
            print(line, flush=True)


def tell(*lines: str) -> None:
    """What a user should know, on standard error."""
    for line in lines:
        print(f"freeu: {line}", file=sys.stderr, flush=True)


def loading(what: str) -> None:
    """Say that a model is being loaded. It comes before libraries are imported, which takes seconds by itself."""
    if not _manner.quiet:
        tell(f"loading {what} ...")


def result(data: Any) -> None:
    """Print what a command found, or which files it wrote, if JSON was asked for."""
    if _manner.as_json:
        print(json.dumps(data, indent=2, ensure_ascii=False, default=str), flush=True)


def written(folder: Path, *names: str, **more: Any) -> None:
    """The result of a command that wrote files of its folder, the one to look at first; it is opened with ``--open``.

    Args:
        folder: that was written.
        names: of files in it.
        more: fields of the JSON beside them.
    """
    files = [str(folder / name) for name in names]
    result({"folder": str(folder), "files": files, **more})
    if _manner.opens and files:
        show(Path(files[0]))


def show(path: Path) -> None:
    """Open a page or an image with the program that the system has for it."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        tell(f"no browser to open here: open {path} yourself")

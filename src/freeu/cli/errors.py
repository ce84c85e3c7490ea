"""How a command ends other than well."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


class StoppedError(Exception):
    """Ctrl-C; the message says how to go on. Exit code 130."""


class CheckFailedError(Exception):
    """A check found something wrong; the message says what. Exit code 1."""


def stopped(folder: Path, after: str = "") -> StoppedError:
    """The end of an interrupted command, with the command that goes on in its folder.

    Args:
        folder: where it writes; named in the message where the command did not name it.
        after: how far it came, such as "after 2 of 4 images".
    """
    words = ["freeu", *sys.argv[1:]]
    if not any(word.partition("=")[0] == "--output" for word in words):
        words += ["--output", str(folder)]
    return StoppedError(f"{' '.join(filter(None, ('stopped', after)))}; go on with: {shlex.join(words)}")

"""How a command ends other than well."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from freeu.pipelines.io.inputs import draw_seeds

_OUTPUT = ("--output", "--out")


class StoppedError(Exception):
    """Ctrl-C; the message says how to go on. Exit code 130."""


class CheckFailedError(Exception):
    """A check found something wrong; the message says what. Exit code 1."""


def stopped(folder: Path, after: str = "", seeds: str = "") -> StoppedError:
    """The end of an interrupted command, with the command that goes on in its folder.

    Args:
        folder: where it writes; named in the message where the command did not name it.
        after: how far it came, such as "after 2 of 4 images".
        seeds: those of the run; they take the place of random ones.
    """
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)  # what follows is no option
    options, rest = words[:end], words[end:]
    for place, word in enumerate(options):
        name, equals, value = word.partition("=")
        if name not in ("--seeds", "--seed") or not seeds:
            continue
        if equals and draw_seeds(value) != value:
            options[place] = f"{name}={seeds}"
        elif place + 1 < end and draw_seeds(options[place + 1]) != options[place + 1]:
            options[place + 1] = seeds
    if not any(word.partition("=")[0] in _OUTPUT or word[:2] == "-o" for word in options):
        options += ["--output", str(folder)]
    words = ["freeu", *options, *rest]
    return StoppedError(f"{' '.join(filter(None, ('stopped', after)))}; go on with: {shlex.join(words)}")

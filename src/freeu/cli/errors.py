"""How a command ends other than well."""

from __future__ import annotations

import itertools
import shlex
import sys
from pathlib import Path

from freeu.pipelines.io.inputs import draw_seeds

_OUTPUT = ("--output", "--out", "-o")
_GROUPS = ("dreambooth", "reversion", "study")


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
    words, place = sys.argv[1:], str(folder)
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in ("--seeds", "--seed") or not seeds:
            continue
        if equals and draw_seeds(value) != value:
            words[index] = f"{name}={seeds}"
        elif index + 1 < len(words) and draw_seeds(words[index + 1]) != words[index + 1]:
            words[index + 1] = seeds
    named = [*itertools.pairwise(words), *((word.partition("=")[0], word.partition("=")[2]) for word in words)]
    if f"-o{place}" not in words and not any((name, place) in named for name in _OUTPUT):
        # What follows a "--" is no option, and a "--" may be the value of one: then the command is followed at once.
        end = len(words) if "--" not in words else 2 if words[0] in _GROUPS else 1
        words[end:end] = ["--output", place]
    words = ["freeu", *words]
    return StoppedError(f"{' '.join(filter(None, ('stopped', after)))}; go on with: {shlex.join(words)}")

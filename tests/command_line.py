"""The command line, in this process."""

from __future__ import annotations

import contextlib
import io
import re
from typing import NamedTuple

LOADING = re.compile(r"^freeu: loading .* \.\.\.\n", re.MULTILINE)
"""What a command says before it loads a model."""


class _Ended(NamedTuple):
    code: int
    out: str
    err: str


class Outcome(_Ended):
    """How a command ended: exit code, standard output, and standard error without what it said of loading.

    Attributes:
        loading: the lines that say what is loaded.
    """

    loading: tuple[str, ...] = ()

    def one_line(self) -> str:
        """The only line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def run_cli(*words: object) -> Outcome:
    """Run ``freeu`` with these words."""
    from freeu.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    said = err.getvalue()
    outcome = Outcome(code, out.getvalue(), LOADING.sub("", said))
    outcome.loading = tuple(LOADING.findall(said))
    return outcome

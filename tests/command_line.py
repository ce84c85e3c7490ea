"""The command line, in this process."""

from __future__ import annotations

import contextlib
import io
from typing import NamedTuple


class Outcome(NamedTuple):
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

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
    return Outcome(code, out.getvalue(), err.getvalue())

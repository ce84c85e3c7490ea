"""The options that several commands of ``freeu study`` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from freeu.pipelines.options.option import Argument, Option


@dataclass(frozen=True)
class StudyOptions:
    """A study and its votes."""

    folder: Annotated[Path, Argument("The folder of the study.", "DIR")]
    database: Annotated[
        str | None,
        Option(
            "postgresql://user@host/name, or the path of an SQLite file (default: study.sqlite in the folder).", "URL"
        ),
    ] = None


@dataclass(frozen=True)
class ResultsOutput:
    """Where results of a study go."""

    output: Annotated[Path | None, Option("Where to write (default: results in the study's folder).", "DIR")] = None

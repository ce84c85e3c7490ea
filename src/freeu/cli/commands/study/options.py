"""The options that several commands of ``freeu study`` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from freeu.pipelines.options.option import Argument, Option


@dataclass(frozen=True)
class StudyOptions:
    """The folder and the database of a study."""

    folder: Annotated[Path, Argument("Folder of the study.", "DIR")]
    database: Annotated[
        str | None,
        Option(
            "postgresql://user@host/name, or the path of an SQLite file (default: study.sqlite in the folder).",
            "URL",
        ),
    ] = None


@dataclass(frozen=True)
class ResultsOutput:
    """Output folder of the results of a study."""

    output: Annotated[Path | None, Option("Output folder (default: results/ in the study).", "DIR")] = None

"""``training.json``: data, settings and results of a training; it marks the folder of a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.json_files import find_json
from freeu.personalize.training.checkpoint import refuse_another
from freeu.pipelines.io.output import OutputFolder, is_leftover
from freeu.pipelines.runs.manifest import as_json

RECORD = "training.json"
SCHEMA = 1


def read_record(folder: Path, kind: str) -> dict[str, Any] | None:
    """The record of a training, or None if the folder has none.

    Args:
        folder: of ``freeu dreambooth train`` and its like.
        kind: such as "freeu-dreambooth".

    Raises:
        FreeUValueError: damaged, of another kind, or written by a newer freeu.
    """
    path = folder / RECORD
    data = find_json(path)
    if data is None:
        return None
    if data.get("kind") != kind:
        found = data.get("kind")
        what = f"of kind {found!r}" if isinstance(found, str) else "something else"
        raise FreeUValueError(f"{folder} holds a training {what}, not of {kind!r}: name another folder")
    if data.get("schema") != SCHEMA:
        raise FreeUValueError(f"{path} has schema {data.get('schema')!r}, not {SCHEMA}: a newer freeu may read it")
    if not all(isinstance(data.get(name), dict) for name in ("identity", "model")):
        raise FreeUValueError(f"{path} is damaged: identity or model are missing")
    return data


def refuse_other_files(folder: Path, kind: str) -> None:
    """Refuse a folder that holds anything other than a training of this kind. Nothing is created.

    Raises:
        FreeUValueError: not a folder, one with other files, or the training is of another kind.
    """
    if folder.exists() and not folder.is_dir():
        raise FreeUValueError(f"--output {folder} is a file: name a folder that does not exist yet")
    if read_record(folder, kind) is not None or not folder.exists():
        return
    try:
        names = [item.name for item in folder.iterdir()]
    except OSError as error:
        raise FreeUValueError(f"cannot read --output {folder}: {error.strerror}") from None
    if any(not is_leftover(name) for name in names):
        raise FreeUValueError(f"--output {folder} holds other files already: name a folder that does not exist yet")


def claim(output: OutputFolder, record: Mapping[str, Any]) -> None:
    """Write the record of a new training, or check that the folder belongs to the same one.

    Args:
        output: the folder.
        record: with "kind", "identity" (see ``checkpoint.Checkpoint``) and "model".

    Raises:
        FreeUValueError: the folder holds another training.
    """
    then = read_record(output.path, str(record["kind"]))
    if then is None:
        output.write(RECORD, as_json({**record, "schema": SCHEMA}))
        return
    refuse_another(output.path, then["identity"], json.loads(as_json(record["identity"])))

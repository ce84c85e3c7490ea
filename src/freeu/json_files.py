"""JSON of files, which may be damaged or made to do harm: what is wrong with it is said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError


def parse_json(text: str | bytes, where: str, constant: Callable[[str], Any] | None = None) -> Any:
    """What a text in JSON says.

    Args:
        text: bytes are UTF-8.
        where: what to call it in messages.
        constant: called with NaN, Infinity or -Infinity, which no standard has; may raise ``ValueError``.

    Raises:
        FreeUValueError: no JSON, or nested so deeply that nothing of ours can have written it.
    """
    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError:
        raise FreeUValueError(f"{where} is not JSON of ours: it is nested too deeply") from None
    except ValueError as error:
        raise FreeUValueError(f"{where} is not JSON: {error}") from None


def find_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None if there is no such file.

    Raises:
        FreeUValueError: it cannot be read, or holds something else.
    """
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}") from None
    data = parse_json(text, str(path))
    if not isinstance(data, dict):
        raise FreeUValueError(f"{path} does not hold a JSON object")
    return data


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FreeUValueError: there is no such file, or what ``find_json`` refuses.
    """
    data = find_json(path)
    if data is None:
        raise FreeUValueError(f"cannot read {path}: no such file")
    return data

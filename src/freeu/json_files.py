"""JSON of files, which may be damaged or made to do harm: what is wrong with it is said in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError

MAX_BYTES = 64 << 20
"""Of a file. The manifest of 10,000 images has 5 MB."""
MAX_VALUES = 2_000_000
"""Each takes up to 100 bytes of memory once it is read."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(
    text: str | bytes,
    where: str,
    constant: Callable[[str], Any] | None = None,
    *,
    most_bytes: int = MAX_BYTES,
    most_values: int = MAX_VALUES,
) -> Any:
    """What a text in JSON says.

    Args:
        text: bytes are UTF-8.
        where: what to call it in messages.
        constant: called with NaN, Infinity or -Infinity, which no standard has; may raise ``ValueError``.
        most_bytes, most_values: larger ones are refused.

    Raises:
        FreeUValueError: no JSON, or larger or nested more deeply than anything of ours, or halves of characters.
    """
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if len(data) > most_bytes or sum(map(data.count, (b",", b"[", b"{"))) > most_values:
        raise FreeUValueError(f"{where} is not JSON of ours: it is too large, with {len(data)} bytes")
    try:
        found = json.loads(text, parse_constant=constant)
        if _SURROGATE.search(data):  # halves of a character, which no file or terminal takes
            json.dumps(found, ensure_ascii=False).encode()
        return found
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
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
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

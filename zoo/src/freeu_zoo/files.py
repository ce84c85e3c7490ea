"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary name beside ``path``, then rename. Nothing remains if ``write`` raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept: some writers (Pillow) choose the format by it.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda name: name.write_text(text, encoding="utf-8"))


def replace_directory(new: Path, old: Path) -> None:
    """Put directory ``new`` where ``old`` is (if it is); ``new`` no longer exists afterwards."""
    old.parent.mkdir(parents=True, exist_ok=True)
    aside = old.with_name(f".{os.getpid()}.{old.name}.old")
    if old.exists():
        os.replace(old, aside)
    os.replace(new, old)
    shutil.rmtree(aside, ignore_errors=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file as lower-case hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

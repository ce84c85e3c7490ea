"""The output folder: claimed once, written file by file under a temporary name, never mixed with anything else."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from freeu.errors import FreeURuntimeError, FreeUValueError

MANIFEST = "manifest.json"
_NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def dated_folder(stem: str = "freeu") -> Path:
    """A folder name of today in the working directory that is not taken: ``freeu-YYYYMMDD-HHMMSS``."""
    base = Path(time.strftime(f"{stem}-%Y%m%d-%H%M%S"))
    path, number = base, 2
    while path.exists():
        path, number = Path(f"{base}-{number}"), number + 1
    return path


def refuse_foreign(folder: Path, resumable: bool = True) -> None:
    """Refuse a folder that holds something else. Nothing is created.

    Args:
        resumable: True if an interrupted run may be continued there.

    Raises:
        FreeUValueError: not a folder, or one with files but (if resumable) no manifest.
    """
    if folder.exists() and not folder.is_dir():
        raise FreeUValueError(f"--output {folder} is a file: name a folder that does not exist yet")
    try:
        names = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise FreeUValueError(f"cannot read --output {folder}: {error.strerror}") from None
    ours = resumable and MANIFEST in names
    # A run that was killed while it wrote its first file leaves nothing but that file's temporary name.
    if not ours and any(not name.endswith(".part") for name in names):
        raise FreeUValueError(f"--output {folder} holds other files already: name a folder that does not exist yet")


class OutputFolder:
    """A folder that receives files whole or not at all.

    Args:
        path: created with its parents at the first write.
        option: of the command line that names it, for messages; None if there is none.
    """

    def __init__(self, path: Path, option: str | None = "--output") -> None:
        self.path, self.option = path, option
        self._created: list[Path] = []

    def write(self, name: str, data: bytes | str) -> Path:
        """Write a file under a temporary name and rename it; text is written as UTF-8.

        Raises:
            FreeURuntimeError: no space left, or the folder cannot be written; what was begun is removed.
        """
        content = data.encode() if isinstance(data, str) else data
        with self.file(name) as part, part.open("wb") as file:
            file.write(content)
        return self.path / name

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A temporary path to write to, which gets its name at the end of the ``with`` block, if nothing went wrong.

        Raises:
            FreeURuntimeError: an ``OSError`` in the block: no space left, or the folder cannot be written; what was
                begun is removed.
        """
        target = self.path / name
        part = self.path / f".{name}.{os.getpid()}.part"
        try:
            self._create()
            yield part
            part.replace(target)
        except OSError as error:
            self._undo(part)
            if error.errno in _NO_SPACE:
                again = f"with {self.option} {self.path} to go on" if self.option else "again"
                raise FreeURuntimeError(
                    f"no space left on the disk while writing {target}: free some, then run the same command {again}"
                ) from None
            other = f"choose another {self.option}" if self.option else "name another folder"
            raise FreeURuntimeError(f"cannot write {target}: {error.strerror or error}: {other}") from None
        except BaseException:
            self._undo(part)
            raise

    def _create(self) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self._created.append(folder)

    def _undo(self, part: Path) -> None:
        """Remove the temporary file, and the folders made here if they are empty."""
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        for folder in reversed(self._created):
            try:
                folder.rmdir()
            except OSError:
                return
            self._created.remove(folder)


def file_sha(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

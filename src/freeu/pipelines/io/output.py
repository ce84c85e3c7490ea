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
LOCK = ".freeu.lock"
"""In a folder while a run writes there."""
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
    if not ours and any(not is_leftover(name) for name in names):
        raise FreeUValueError(f"--output {folder} holds other files already: name a folder that does not exist yet")


def is_leftover(name: str) -> bool:
    """Whether a run that was killed before its first file was whole leaves a file of that name: a lock, or a part."""
    return name == LOCK or name.endswith(".part")


@contextlib.contextmanager
def reserved(folder: Path | None, stem: str) -> Iterator[Path]:
    """Keep other runs out of an output folder, for a ``with`` block.

    The folder is made, so that no other run gets the same name; it is removed again if nothing was written to it.

    Args:
        folder: that was asked for; None makes one named after ``stem`` and the time.
        stem: of that name.

    Raises:
        FreeUValueError: another run writes there.
        FreeURuntimeError: the folder cannot be made or written.
    """
    from filelock import FileLock, Timeout

    made: list[Path] = []
    if folder is None:
        while True:
            folder = dated_folder(stem)
            with contextlib.suppress(FileExistsError), _told(folder):
                folder.mkdir()
                made = [folder]
                break
    elif not folder.exists():
        with _told(folder):
            made = make_folders(folder)
    elif not folder.is_dir():
        raise FreeUValueError(f"--output {folder} is a file: name a folder that does not exist yet")
    path = folder / LOCK
    lock = FileLock(path)
    try:
        with _told(folder):
            lock.acquire(timeout=0)
            if not path.exists():  # another run has just ended, and deleted the file that is locked here
                lock.release()
                lock.acquire(timeout=0)
    except Timeout:
        raise FreeUValueError(f"another run writes to --output {folder}: wait until it ends, or name another") from None
    except FreeURuntimeError:
        remove_empty(made)
        raise
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
        remove_empty(made)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, TimeoutError):  # for the caller
        raise
    except OSError as error:
        raise FreeURuntimeError(f"cannot write to --output {folder}: {error.strerror or error}: name another") from None


def make_folders(path: Path) -> list[Path]:
    """Make a folder and the parents it lacks; returns those that were made, the highest first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()][::-1]
    for folder in missing:
        folder.mkdir(exist_ok=True)
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove folders that are empty, the last first, and take them off the list."""
    with contextlib.suppress(OSError):
        while folders:
            folders[-1].rmdir()
            folders.pop()


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
            self._created += make_folders(self.path)
            yield part
            part.replace(target)
        except OSError as error:
            self._undo(part)
            raise self._failed(target, error) from None
        except BaseException:
            self._undo(part)
            raise

    def append(self, name: str, text: str) -> None:
        """Append text to a file, as UTF-8.

        Raises:
            FreeURuntimeError: no space left, or the folder cannot be written; part of the text may be there.
        """
        target = self.path / name
        try:
            with target.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise self._failed(target, error) from None

    def _failed(self, target: Path, error: OSError) -> FreeURuntimeError:
        if error.errno in _NO_SPACE:
            again = f"with {self.option} {self.path} to go on" if self.option else "again"
            return FreeURuntimeError(
                f"no space left on the disk while writing {target}: free some, then run the same command {again}"
            )
        other = f"choose another {self.option}" if self.option else "name another folder"
        return FreeURuntimeError(f"cannot write {target}: {error.strerror or error}: {other}")

    def _undo(self, part: Path) -> None:
        """Remove the temporary file, and the folders made here if they are empty."""
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        remove_empty(self._created)


def file_sha(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

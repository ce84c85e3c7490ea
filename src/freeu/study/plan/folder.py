"""The folder of a study: plan.json and media/, written whole or not at all, and checked when they are read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter, ValidationError

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.pipelines.io.output import refuse_foreign
from freeu.study.plan.plan import Item, StudyPlan

KIND, SCHEMA = "freeu-study", 1
PLAN, MEDIA = "plan.json", "media"


@dataclass(frozen=True)
class _PlanFile:
    """What ``plan.json`` holds; pydantic checks every field of it, and of everything in it, by its type."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    kind: Literal["freeu-study"]
    schema: Literal[1]
    sha256: str
    plan: StudyPlan


class StudyFolder:
    """A study on disk. Make one with ``create`` or ``open``.

    Args:
        path: the folder.
        plan: what ``plan.json`` in it says.
    """

    def __init__(self, path: Path, plan: StudyPlan) -> None:
        self.path = path
        self.plan = plan

    @classmethod
    def create(cls, path: Path, fill: Callable[[Path], StudyPlan]) -> StudyFolder:
        """Make a study: it appears at ``path`` in one step when everything is there; a failure leaves nothing.

        Args:
            path: a folder that does not exist yet, or an empty one.
            fill: writes the media of every item into the folder that it is given, and returns the plan.

        Raises:
            FreeUValueError: ``path`` holds something, or what ``fill`` raises.
            FreeURuntimeError: it cannot be written, or ``fill`` wrote other media than its plan names.
        """
        refuse_foreign(path, resumable=False)
        try:
            with _beside(path) as draft:
                media = draft / MEDIA
                media.mkdir()
                plan = fill(media)
                study = cls(draft, plan)
                study.verify_media()
                _alike(media)
                data = {"kind": KIND, "schema": SCHEMA, "sha256": plan.sha256, "plan": plan.to_dict()}
                _write(draft / PLAN, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
                draft.rename(path)
        except OSError as error:
            raise FreeURuntimeError(
                f"cannot write {path}: {error.strerror or error}: choose another --output, or free some space"
            ) from None
        return cls(path, plan)

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """Read a study; its plan is checked against its hash, its media only by ``verify_media``.

        Raises:
            FreeUValueError: no study, a damaged or changed plan, or one of a newer freeu.
        """
        file = path / PLAN
        try:
            text = file.read_bytes()
        except OSError as error:
            raise FreeUValueError(
                f"{path} is not a study of freeu: cannot read {PLAN} ({error.strerror or error})"
            ) from None
        try:
            found = TypeAdapter(_PlanFile).validate_json(text)
        except ValidationError as error:
            raise FreeUValueError(f"{file} {_fault(error.errors(include_url=False)[0])}") from None
        plan = found.plan
        if plan.sha256 != found.sha256:
            raise FreeUValueError(f"{file} was changed after it was made: its hash is {plan.sha256[:12]}... now")
        return cls(path, plan)

    def media(self, name: str) -> Path:
        """The file of an item. The path is made from the plan's own id, never from what was asked for.

        Args:
            name: id of an item.

        Raises:
            KeyError: the plan has no such item.
        """
        return self._file(self.plan.item(name))

    def _file(self, item: Item) -> Path:
        return self.path / MEDIA / item.file

    def verify_media(self) -> None:
        """Read every file of the media and compare its hash with the plan's.

        Raises:
            FreeUValueError: one is missing, changed, or not in the plan.
        """
        for item in self.plan.items:
            try:
                with self._file(item).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest() if _DIGEST else _sha(file.read())
            except OSError as error:
                raise FreeUValueError(f"cannot read {MEDIA}/{item.file}: {error.strerror or error}") from None
            if found != item.sha256:
                raise FreeUValueError(f"{MEDIA}/{item.file} is not the file that the plan speaks of: it was changed")
        known = {item.file for item in self.plan.items}
        for entry in (self.path / MEDIA).iterdir():
            if entry.name not in known:
                raise FreeUValueError(f"{MEDIA}/{entry.name} is not in the plan: remove it")


def _fault(error: Mapping[str, Any]) -> str:
    """The first thing that pydantic found wrong in ``plan.json``, in words."""
    place, kind, value = error["loc"], error["type"], error["input"]
    if kind == "json_invalid":
        return f"is damaged: no JSON ({error['ctx']['error']})"
    if place in ((), ("kind",)):
        return f'is not the plan of a study: it lacks "kind": "{KIND}"'
    if place == ("schema",):
        return f"has schema {value!r}, not {SCHEMA}: a newer freeu may read it"
    if kind == "value_error":  # of StudyPlan itself
        return f"is damaged: {error['ctx']['error']}"
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    given = "" if kind == "missing" else f", got {value!r:.60}"
    return f"is damaged: {field}: {error['msg']}{given}"


_DIGEST = hasattr(hashlib, "file_digest")  # Python 3.11


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary folder on the same disk; removed, with the parents made for it, unless it was renamed to ``path``."""
    made = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        # Readable by its owner only: the plan says which image is whose, and the votes will lie here.
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.absolute().parent))
        try:
            yield draft
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except BaseException:
        for parent in made:  # the deepest first
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _alike(media: Path) -> None:
    """One time stamp for all files: servers tell it to browsers, and the arms were not written at random."""
    newest = max((entry.stat().st_mtime_ns for entry in media.iterdir()), default=0)
    for entry in media.iterdir():
        os.utime(entry, ns=(newest, newest))


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())

"""The folder of a study, plan.json and media/: written completely or not at all, verified when read."""

from __future__ import annotations

import contextlib
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
from freeu.pipelines.io.output import file_sha, refuse_foreign
from freeu.study.plan.plan import Item, StudyPlan

KIND, SCHEMA = "freeu-study", 1
PLAN, MEDIA = "plan.json", "media"


@dataclass(frozen=True)
class _PlanFile:
    """The content of ``plan.json``. Pydantic checks every field by its type, also in nested objects."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    kind: Literal["freeu-study"]
    schema: Literal[1]
    sha256: str
    plan: StudyPlan


class StudyFolder:
    """A study on disk. Use ``create`` or ``open``.

    Args:
        path: the folder.
        plan: the content of its ``plan.json``.
    """

    def __init__(self, path: Path, plan: StudyPlan) -> None:
        self.path = path
        self.plan = plan

    @classmethod
    def create(cls, path: Path, fill: Callable[[Path], StudyPlan]) -> StudyFolder:
        """Create a study. The folder appears at ``path`` in one step when it is complete; a failure leaves nothing.

        Args:
            path: a folder that does not exist yet, or an empty one.
            fill: writes the media of every item into the given folder and returns the plan.

        Raises:
            FreeUValueError: ``path`` is not empty, ``fill`` raised it, or the media do not match the plan.
            FreeURuntimeError: the folder cannot be written.
        """
        refuse_foreign(path, resumable=False)
        try:
            with _beside(path) as draft:
                media = draft / MEDIA
                media.mkdir()
                plan = fill(media)
                study = cls(draft, plan)
                study.verify_media()
                _same_times(media)
                data = {"kind": KIND, "schema": SCHEMA, "sha256": plan.sha256, "plan": plan.to_dict()}
                _write(draft / PLAN, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
                draft.rename(path)
        except OSError as error:
            raise FreeURuntimeError(
                f"cannot write {path}: {error.strerror or error}: choose another --output, or free disk space"
            ) from None
        return cls(path, plan)

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """Read a study. The plan is verified against its hash; call ``verify_media`` to verify the media.

        Raises:
            FreeUValueError: not a study, a damaged or changed plan, or a plan of a newer freeu.
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
            raise FreeUValueError(
                f"{file} was changed after it was created: its hash is now {plan.sha256[:12]}...: restore the original"
            )
        return cls(path, plan)

    def media(self, name: str) -> Path:
        """The file of an item. The path is built from the id in the plan, never from the argument.

        Args:
            name: id of an item.

        Raises:
            KeyError: the plan has no such item.
        """
        return self._file(self.plan.item(name))

    def _file(self, item: Item) -> Path:
        return self.path / MEDIA / item.file

    def verify_media(self) -> None:
        """Verify every media file against its hash in the plan.

        Raises:
            FreeUValueError: a file is missing, changed, or not in the plan.
        """
        for item in self.plan.items:
            try:
                found = file_sha(self._file(item))
            except OSError as error:
                raise FreeUValueError(f"cannot read {MEDIA}/{item.file}: {error.strerror or error}") from None
            if found != item.sha256:
                raise FreeUValueError(f"{MEDIA}/{item.file} was changed: its hash is not the one in the plan")
        known = {item.file for item in self.plan.items}
        for entry in (self.path / MEDIA).iterdir():
            if entry.name not in known:
                raise FreeUValueError(f"{MEDIA}/{entry.name} is not in the plan: remove it")


def _fault(error: Mapping[str, Any]) -> str:
    """The first validation error of ``plan.json`` as a sentence."""
    path, kind, value = error["loc"], error["type"], error["input"]
    if kind == "json_invalid":
        return f"is damaged: not valid JSON ({error['ctx']['error']})"
    if path in ((), ("kind",)):
        return f'is not the plan of a study: it lacks "kind": "{KIND}"'
    if path == ("schema",):
        return f"has schema {value!r}, not {SCHEMA}: use a newer freeu"
    if kind == "value_error":  # of StudyPlan itself
        return f"is damaged: {error['ctx']['error']}"
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    given = "" if kind == "missing" else f", got {value!r:.60}"
    return f"is damaged: {field}: {error['msg']}{given}"


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary folder on the same disk. It is removed with new parent folders unless it was renamed to ``path``."""
    made = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        # Readable by its owner only: the plan maps images to arms, and the votes will be stored here.
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


def _same_times(media: Path) -> None:
    """Give all files one modification time: HTTP servers send it, and the arms were written in order."""
    newest = max((entry.stat().st_mtime_ns for entry in media.iterdir()), default=0)
    for entry in media.iterdir():
        os.utime(entry, ns=(newest, newest))


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())

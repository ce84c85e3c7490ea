"""The state of a training on disk: whole or absent, of one identity, and no code in it runs when it is read."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.json_files import find_json
from freeu.pipelines.io.output import OutputFolder, file_sha
from freeu.pipelines.io.reading import readable
from freeu.pipelines.runs.manifest import as_json

if TYPE_CHECKING:
    from torch import Tensor

STATE = "state.json"
KIND = "freeu-training-state"
SCHEMA = 1


@dataclass
class TrainingState:
    """What is known after a number of steps.

    Args:
        step: how many steps were made.
        tensors: weights, moments and averages by name; a ``Checkpoint`` reads them to the CPU.
        series: finite numbers noted from the first step on, by name: every step's losses, or the columns of a curve.
        seconds: of training so far, over all runs.
    """

    step: int
    tensors: dict[str, Tensor]
    series: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0


class Checkpoint:
    """A folder with ``state.json`` and one safetensors file that it names, with all tensors.

    The tensors are written first and the state that names them after that, each under a temporary name; the older
    tensors are deleted last. A process that is killed leaves the old state or the new one, never a mixture.

    Args:
        folder: holds nothing but the checkpoint; created at the first write.
        identity: what decides the training, as JSON can say it: settings, the model, the SHA-256 of the data. A state
            of another identity is refused.

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(Path(folder, "checkpoint"), {"rank": 4, "seed": 0})
    ...     checkpoint.write(TrainingState(2, {"weights": torch.zeros(3)}, {"loss": [0.5, 0.25]}))
    ...     state = checkpoint.read()
    >>> state.step, state.tensors, state.series
    (2, {'weights': tensor([0., 0., 0.])}, {'loss': [0.5, 0.25]})
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity: dict[str, Any] = json.loads(as_json(identity))

    def write(self, state: TrainingState) -> None:
        """Replace what is there.

        Raises:
            FreeURuntimeError: no space left, or the folder cannot be written; the old state is still there.
            ValueError: a number of a series is not finite; the old state is still there.
        """
        from safetensors.torch import save_file

        output = OutputFolder(self.folder, option=None)
        name = f"step-{state.step:06d}.safetensors"
        if name == self._named():  # what the present state names is not touched until there is another state
            name = f"step-{state.step:06d}-again.safetensors"
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.tensors.items()}
        with output.file(name) as part:
            save_file(tensors, part)
        record = {
            "kind": KIND,
            "schema": SCHEMA,
            "step": state.step,
            "seconds": state.seconds,
            "tensors": name,
            "sha256": file_sha(self.folder / name),
            "identity": self.identity,
            "series": state.series,
        }
        output.write(STATE, as_json(record))
        # A process that was killed while it wrote leaves tensors that no state names, or a temporary file.
        for old in (*self.folder.glob("step-*.safetensors"), *self.folder.glob(".*.part")):
            if old.name != name:
                with contextlib.suppress(OSError):
                    old.unlink()

    def read(self) -> TrainingState | None:
        """The state, or None if there is none.

        Raises:
            FreeUValueError: it is damaged, or belongs to a training with other settings or other data.
        """
        record = self.check()
        if record is None:
            return None
        from safetensors.torch import load_file

        path = self.folder / record["tensors"]
        if not path.is_file():
            raise self._damaged(f"{path.name} is missing")
        with readable(f"the checkpoint {path}"):
            if file_sha(path) != record["sha256"]:
                raise self._damaged(f"{path.name} is not the file that was written")
            tensors = load_file(path)
        return TrainingState(record["step"], tensors, record["series"], record["seconds"])

    def check(self) -> dict[str, Any] | None:
        """What ``state.json`` says, or None if there is none; no tensor is read.

        Raises:
            FreeUValueError: as ``read``.
        """
        try:
            record = find_json(self.folder / STATE)
        except FreeUValueError as error:
            raise self._damaged(str(error)) from None
        if record is None:
            return None
        if record.get("kind") != KIND or record.get("schema") != SCHEMA:
            raise self._damaged(f'it lacks "kind": "{KIND}" and "schema": {SCHEMA}')
        # Version 0.1 called the series losses.
        identity, series = record.get("identity"), record.setdefault("series", record.get("losses"))
        if not isinstance(identity, dict) or not _are_series(series):
            raise self._damaged("identity or series are missing")
        refuse_another(self.folder, identity, self.identity)
        whole = isinstance(record.get("step"), int) and isinstance(record.get("seconds"), (int, float))
        if not whole or not re.fullmatch(r"step-\d{6,}(-again)?\.safetensors", str(record.get("tensors"))):
            raise self._damaged("step or tensors are missing")
        return record

    def _named(self) -> str | None:
        """The file that the present state names."""
        try:
            record = find_json(self.folder / STATE)
        except FreeUValueError:
            return None
        return None if record is None else record.get("tensors")

    def _damaged(self, reason: str) -> FreeUValueError:
        reason = " ".join(reason.split())[:200]
        return FreeUValueError(f"the checkpoint {self.folder} is damaged ({reason}): delete it to begin anew")


def refuse_another(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Make sure that what decides a training is what it was.

    Args:
        folder: of the training, for the message.
        then, now: plain data.

    Raises:
        FreeUValueError: they differ; the message says in what.
    """
    other = _differences(then, now)
    if other:
        raise FreeUValueError(
            f"{folder} holds another training ({'; '.join(other)}): name a folder that does not exist yet"
        )


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> list[str]:
    found = []
    for name in dict.fromkeys([*now, *then]):
        old, new = then.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differences(old, new, f"{within}{name}: ")
        elif old != new:
            found.append(f"{within}{name}: {_short(old)} there, {_short(new)} now")
    return found


def _are_series(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(values, list) and all(isinstance(value, (int, float)) for value in values)
        for values in found.values()
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."

"""The state of a training on disk: whole or absent, of one identity, and never a program that runs when it is read."""

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
class State:
    """What is known after a number of steps.

    Args:
        step: how many steps were made.
        tensors: weights and moments by name.
        losses: every step's losses by name, from the first step.
        seconds: of training so far, over all sittings.
    """

    step: int
    tensors: dict[str, Tensor]
    losses: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0


class Checkpoint:
    """A folder with ``state.json`` and one safetensors file that it names.

    The tensors are written first and the state that names them after that, each under a temporary name; the older
    tensors go last. Whenever the machine stops, the state names tensors that are whole.

    Args:
        folder: it belongs to the checkpoint alone.
        identity: what decides the training, as JSON can say it: settings, the model, the SHA-256 of the data. A state
            of another identity is refused.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity: dict[str, Any] = json.loads(as_json(identity))

    def write(self, state: State) -> None:
        """Replace what is there.

        Raises:
            FreeURuntimeError: no space left, or the folder cannot be written; the old state is still there.
        """
        from safetensors.torch import save_file

        output = OutputFolder(self.folder)
        name = f"step-{state.step:06d}.safetensors"
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.tensors.items()}
        with output.file(name) as part:
            save_file(tensors, part)
        record = {
            "kind": KIND,
            "schema": SCHEMA,
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "tensors": name,
            "sha256": file_sha(self.folder / name),
            "identity": self.identity,
            "losses": state.losses,
        }
        output.write(STATE, as_json(record))
        for old in self.folder.glob("step-*.safetensors"):
            if old.name != name:
                with contextlib.suppress(OSError):
                    old.unlink()

    def read(self) -> State | None:
        """The state, or None if there is none.

        Raises:
            FreeUValueError: it is damaged, or belongs to a training with other settings or other data.
        """
        record = self.check()
        if record is None:
            return None
        from safetensors.torch import load_file

        path = self.folder / record["tensors"]
        with readable(f"the checkpoint {path}"):
            if file_sha(path) != record["sha256"]:
                raise self._damaged(f"{path.name} is not the file that was written")
            tensors = load_file(path)
        return State(record["step"], tensors, record["losses"], record["seconds"])

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
        identity, losses = record.get("identity"), record.get("losses")
        if not isinstance(identity, dict) or not isinstance(losses, dict):
            raise self._damaged("identity or losses are missing")
        refuse_another(self.folder.parent, identity, self.identity)
        whole = isinstance(record.get("step"), int) and isinstance(record.get("seconds"), (int, float))
        if not whole or not re.fullmatch(r"step-\d{6,}\.safetensors", str(record.get("tensors"))):
            raise self._damaged("step or tensors are missing")
        return record

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
    other = [
        f"{name}: {_short(then.get(name))} there, {_short(now.get(name))} now"
        for name in dict.fromkeys([*now, *then])
        if then.get(name) != now.get(name)
    ]
    if other:
        raise FreeUValueError(
            f"{folder} holds another training ({'; '.join(other)}): name a folder that does not exist yet"
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."

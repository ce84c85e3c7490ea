"""Checkpoints that are whole or absent, never execute code when read, and come in files small enough to carry."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from freeu_zoo.errors import ZooError
from freeu_zoo.files import replace_directory, write_json

SHARD_BYTES = 16_000_000
"""Largest file of a checkpoint, in bytes."""


@dataclass
class State:
    """What a checkpoint holds: tensors by name, and facts that JSON can say."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Checkpoint:
    """A checkpoint directory; ``identity`` must be the same when writing and reading (another recipe is refused)."""

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        self.path = path
        self._identity = identity

    def write(self, state: State) -> None:
        """Replace the directory. A crash leaves the old one or the new one, never a mixture."""
        new = self.path.with_name(f".{self.path.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        shards = _shards(state.tensors)
        for number, shard in enumerate(shards):
            save_file({name: value.detach().cpu().contiguous() for name, value in shard.items()}, new / _name(number))
        write_json(new / "state.json", {"identity": self._identity, "shards": len(shards), **state.facts})
        replace_directory(new, self.path)

    def read(self) -> State | None:
        """The state, or None if there is none.

        Raises:
            ZooError: the checkpoint is damaged, or was written for another identity.
        """
        if not self.path.exists():
            return None
        try:
            facts: dict[str, Any] = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
            tensors: dict[str, Tensor] = {}
            for number in range(facts.pop("shards")):
                tensors |= load_file(self.path / _name(number))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ZooError(f"{self.path} is damaged ({error}); delete it to begin anew") from error
        if facts.pop("identity", None) != self._identity:
            raise ZooError(f"{self.path} belongs to another recipe; delete it or use another --work")
        return State(tensors, facts)


def _name(number: int) -> str:
    return f"{number:03}.safetensors"


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    room = SHARD_BYTES - 1_000_000  # names and shapes take some too
    left = room
    for name, value in tensors.items():
        size = value.numel() * value.element_size()
        if size > left and shards[-1]:
            shards.append({})
            left = room
        shards[-1][name] = value
        left -= size
    return shards

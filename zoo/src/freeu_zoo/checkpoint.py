"""Checkpoints that are whole or absent, and that never execute code when read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from .errors import ZooError
from .files import write_atomically


class Checkpoint:
    """A checkpoint file; ``identity`` must be the same when writing and reading (another recipe is refused)."""

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        self.path = path
        self._identity = identity

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file."""
        write_atomically(self.path, lambda name: torch.save({**state, "identity": self._identity}, name))

    def read(self) -> dict[str, Any] | None:
        """The state, or None if there is no file.

        Raises:
            ZooError: the file is damaged, or was written for another identity.
        """
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ZooError(f"{self.path} is damaged ({error}); delete it to begin anew") from error
        if state.get("identity") != self._identity:
            raise ZooError(f"{self.path} belongs to another recipe; delete it or use another --work")
        return state

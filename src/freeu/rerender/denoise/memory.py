"""What later key frames need of the generated ones, in memory and on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.motion.measure import Frame
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.io.reading import read_header, readable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

KIND = "freeu-key-frames"
SCHEMA = 1


@dataclass(frozen=True)
class KeyFrame:
    """A key frame of the video and how it was generated.

    Args:
        source: the frame of the video, uint8 (H, W, 3).
        image: the generated key frame, of the same shape.
        clean: the predicted clean latents (x_0) of each step before any constraint changed them, (1, C, h, w) each;
            empty if no stage needs them.
        attention: ``attention.Features``; empty if no stage needs them.
        drawn: what the image shows of what moves, (H, W), from ``drawn_object``; None without the stage "outline".
    """

    source: Frame
    image: Frame
    clean: Sequence[Tensor] = ()
    attention: Mapping[str, Sequence[Tensor]] = dataclasses.field(default_factory=dict)
    drawn: NDArray[np.bool_] | None = None


@dataclass
class Memory:
    """The first key frame of a scene, which anchors all others, and the previous one; both None before the first."""

    first: KeyFrame | None = None
    previous: KeyFrame | None = None

    @property
    def references(self) -> tuple[KeyFrame, ...]:
        """The first and the previous key frame, each once."""
        if self.first is None or self.previous is None:
            return ()
        return (self.first,) if self.previous is self.first else (self.first, self.previous)

    def add(self, key: KeyFrame) -> None:
        """Make a key frame the previous one, and the first if there is none."""
        if self.first is None:
            self.first = key
        self.previous = key


def write(path: Path, memory: Memory, identity: Mapping[str, Any]) -> None:
    """Write the memory as safetensors under a temporary name, then give it its own.

    Args:
        path: replaced if it exists.
        memory: may be empty.
        identity: what determines the key frames, as plain data for JSON.

    Raises:
        FreeURuntimeError: it cannot be written; what was there before is still there.
    """
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for name, key in zip(("first", "previous"), memory.references, strict=False):
        parts: dict[str, Tensor] = {"film": torch.from_numpy(key.source), "drawn": torch.from_numpy(key.image)}
        parts |= {f"clean/{step:04d}": latents for step, latents in enumerate(key.clean)}
        if key.drawn is not None:
            parts["object"] = torch.from_numpy(key.drawn)
        for layer, features in key.attention.items():
            parts |= {f"attention/{layer}/{step:04d}": tensor for step, tensor in enumerate(features)}
        tensors |= {f"{name}/{part}": tensor.cpu().contiguous() for part, tensor in parts.items()}
    about = {"kind": KIND, "schema": str(SCHEMA), "identity": json.dumps(identity)}
    with OutputFolder(path.parent).file(path.name) as part:
        save_file(tensors, part, about)


def read(path: Path, identity: Mapping[str, Any], device: torch.device) -> Memory:
    """Read what ``write`` wrote, bit-identical.

    Args:
        path: the file.
        identity: what determines the key frames now.
        device: for the tensors.

    Raises:
        FreeUValueError: no such file, a damaged one, or one of key frames with other settings.
    """
    from safetensors.torch import load_file

    about = read_header(path).metadata
    if about.get("kind") != KIND or about.get("schema") != str(SCHEMA):
        raise FreeUValueError(f"{path} holds no key frames of this version: delete it to start again")
    with readable(f"the key frames in {path}"):
        then, now = json.loads(about["identity"]), json.loads(json.dumps(identity))
    other = [f"{name} was {then.get(name)!r}, is {now.get(name)!r}" for name in now if then.get(name) != now[name]]
    if other:
        raise FreeUValueError(f"{path} holds key frames of other settings ({'; '.join(other)}): name another file")
    with readable(f"the key frames in {path}"):
        tensors = load_file(path, device=str(device))
        memory = Memory()
        for name in ("first", "previous"):
            own = [key for key in sorted(tensors) if key.startswith(f"{name}/")]
            parts = {key.removeprefix(f"{name}/"): tensors[key] for key in own}
            if parts:
                memory.add(_key_frame(parts))
    return memory


def _key_frame(parts: Mapping[str, Tensor]) -> KeyFrame:
    """A key frame from its tensors, sorted by name."""
    attention: dict[str, list[Tensor]] = {}
    for name, tensor in parts.items():
        if name.startswith("attention/"):
            attention.setdefault(name.split("/")[1], []).append(tensor)
    clean = tuple(tensor for name, tensor in parts.items() if name.startswith("clean/"))
    drawn = parts["object"].cpu().numpy() if "object" in parts else None
    return KeyFrame(parts["film"].cpu().numpy(), parts["drawn"].cpu().numpy(), clean, attention, drawn)

"""What is kept of the key frames that were generated, in memory and on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        film: the frame of the video, uint8 (H, W, 3).
        drawn: what it became, of the same shape.
        clean: the image without noise that the U-Net believed in at each step, before any constraint changed it,
            (1, C, h, w) each; empty where no stage asks for it.
        attention: ``attention.Features``; empty where no stage asks for them.
    """

    film: Frame
    drawn: Frame
    clean: Sequence[Tensor] = ()
    attention: Mapping[str, Sequence[Tensor]] = dataclasses.field(default_factory=dict)


@dataclass
class Memory:
    """The first key frame of a scene, which all others keep to, and the previous one; both None before the first."""

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
        identity: what decides the key frames, as JSON can say it.

    Raises:
        FreeURuntimeError: it cannot be written; what was there before is still there.
    """
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for name, key in zip(("first", "previous"), memory.references, strict=False):
        parts: dict[str, Tensor] = {"film": torch.from_numpy(key.film), "drawn": torch.from_numpy(key.drawn)}
        parts |= {f"clean/{step:04d}": latents for step, latents in enumerate(key.clean)}
        for layer, features in key.attention.items():
            parts |= {f"attention/{layer}/{step:04d}": tensor for step, tensor in enumerate(features)}
        tensors |= {f"{name}/{part}": tensor.cpu().contiguous() for part, tensor in parts.items()}
    about = {"kind": KIND, "schema": str(SCHEMA), "identity": json.dumps(identity)}
    with OutputFolder(path.parent).file(path.name) as part:
        save_file(tensors, part, about)


def read(path: Path, identity: Mapping[str, Any], device: torch.device) -> Memory:
    """What ``write`` wrote, to the bit.

    Args:
        path: the file.
        identity: what decides the key frames now.
        device: for the tensors.

    Raises:
        FreeUValueError: no such file, a damaged one, or one of key frames that something else decided.
    """
    from safetensors.torch import load_file

    about = read_header(path).metadata
    if about.get("kind") != KIND or about.get("schema") != str(SCHEMA):
        raise FreeUValueError(f"{path} holds no key frames of this version: delete it to begin anew")
    with readable(f"the key frames in {path}"):
        then, now = json.loads(about["identity"]), json.loads(json.dumps(identity))
    other = [f"{name} was {then.get(name)!r}, is {now.get(name)!r}" for name in now if then.get(name) != now[name]]
    if other:
        raise FreeUValueError(f"{path} holds key frames generated otherwise ({'; '.join(other)}): name another file")
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
    """A key frame of its parts, which come in the order of their names."""
    attention: dict[str, list[Tensor]] = {}
    for name, tensor in parts.items():
        if name.startswith("attention/"):
            attention.setdefault(name.split("/")[1], []).append(tensor)
    clean = tuple(tensor for name, tensor in parts.items() if name.startswith("clean/"))
    return KeyFrame(parts["film"].cpu().numpy(), parts["drawn"].cpu().numpy(), clean, attention)

"""Read files of weights: no code in them runs, and what the libraries raise becomes one line."""

from __future__ import annotations

import contextlib
import errno
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError

MAX_HEADER = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself.

    Args:
        shapes: of the tensors, by name.
        metadata: texts that were stored with them.
    """

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Names and shapes of the tensors in a safetensors file, from its header alone.

    Raises:
        FreeUValueError: it cannot be read, is no such file, or only part of one.
    """
    damaged = FreeUValueError(f"{path.name} is no safetensors file, or only part of one: fetch it again")
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > MAX_HEADER:
                raise damaged
            header = json.loads(file.read(size))
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError, struct.error):
        raise damaged from None
    try:
        metadata = header.pop("__metadata__", None) or {}
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in header.items()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        raise damaged from None
    if path.stat().st_size < 8 + size + end:
        raise damaged
    return Header(shapes, metadata)


def read_pickled(path: Path, map_location: str = "cpu") -> dict[str, Any]:
    """The weights in a file that ``torch.save`` wrote (.ckpt, .pth, .bin), mapped into memory where its layout allows.

    Args:
        path: the file; a ``state_dict`` inside is looked into.
        map_location: "meta" reads names and shapes alone.

    Raises:
        FreeUValueError: a torch before 2.6, or a file that holds no dictionary.
        pickle.UnpicklingError: more than weights, among others; ``readable`` says so in words.
    """
    import torch

    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 6):
        # CVE-2025-32434: before 2.6 even weights_only could be made to run code.
        raise FreeUValueError(
            f"torch before 2.6 cannot load {path.suffix} files safely: update torch, or use .safetensors"
        )
    data = torch.load(path, map_location=map_location, weights_only=True, mmap=zipfile.is_zipfile(path))
    while isinstance(data, dict) and "state_dict" in data:
        data = data["state_dict"]
    if not isinstance(data, dict):
        raise FreeUValueError(f"{path.name} holds no weights by name: it is no checkpoint")
    return data


@contextlib.contextmanager
def readable(label: str) -> Iterator[None]:
    """Turn what the libraries raise for damaged or missing files into one line.

    Args:
        label: what is read, for the message.
    """
    import pickle

    from safetensors import SafetensorError

    try:
        yield
    except FreeUValueError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        RuntimeError,
        EOFError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds more than weights, and freeu runs no code from a file: convert it to .safetensors"
        elif isinstance(error, EOFError):
            reason = "it is empty, or only part of a file: fetch it again"
        else:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise FreeUValueError(f"cannot load {label}: {reason}") from None

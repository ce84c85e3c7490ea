"""Read files of weights: no code in them runs, and what the libraries raise becomes one line."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from freeu.errors import FreeUValueError
from freeu.json_files import parse_json

MAX_HEADER = 8 << 20
"""Bytes; the header of SDXL has a quarter of a million, and trainers note their captions there."""
MAX_NESTING = 4
"""How often the weights of a pickle may lie in a ``state_dict`` of its own."""
_LONGEST_NAME = 256
"""Letters of a class's name and its module's, as pickles name them."""
_LEGACY_PICKLES = 5
"""Number, protocol, system, the data, and the keys of its storages."""
_METADATA = "__metadata__"
_NUMBERS = {"F16": ("<e", 2), "BF16": ("<f", 2), "F32": ("<f", 4), "F64": ("<d", 8), "I64": ("<q", 8), "I32": ("<i", 4)}
"""What single numbers are stored as: how ``struct`` calls it, and its bytes."""


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
    entries, _ = _entries(path)
    metadata = entries.pop(_METADATA, {})
    return Header({name: tuple(entry["shape"]) for name, entry in entries.items()}, metadata)


def _entries(path: Path) -> tuple[dict[str, Any], int]:
    """The checked header of a safetensors file, and where its numbers begin."""
    damaged = FreeUValueError(f"{path.name} is no safetensors file, or only part of one: fetch it again")
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > MAX_HEADER:
                raise FreeUValueError(
                    f"{path.name} is damaged: a header of {size} bytes, and no model needs more than {MAX_HEADER}"
                )
            text = file.read(size)
            whole = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}") from None
    except struct.error:
        raise damaged from None
    if len(text) < size:
        raise damaged
    try:
        header = parse_json(text, path.name)
    except FreeUValueError:
        raise damaged from None
    if not isinstance(header, dict):
        raise damaged
    metadata = header.get(_METADATA) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise damaged
    tensors = {name: entry for name, entry in header.items() if name != _METADATA}
    if not all(map(_is_entry, tensors.values())):
        raise damaged
    end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    if whole < 8 + size + end:
        raise damaged
    return {**tensors, **({_METADATA: metadata} if metadata else {})}, 8 + size


def _is_entry(entry: Any) -> bool:
    """Whether a header says of a tensor what it must."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    numbers = (entry.get("shape"), entry.get("data_offsets"))
    if not all(isinstance(one, list) and all(type(number) is int and number >= 0 for number in one) for one in numbers):
        return False
    return len(entry["data_offsets"]) == 2 and entry["data_offsets"][0] <= entry["data_offsets"][1]


def read_numbers(path: Path, names: Iterable[str]) -> dict[str, float]:
    """Single numbers out of a safetensors file, such as the alphas of a LoRA; nothing else of it is read.

    Raises:
        FreeUValueError: a damaged file, or a tensor that is no single number.
    """
    wanted = list(names)
    if not wanted:
        return {}
    entries, begin = _entries(path)
    found = {}
    with path.open("rb") as file:
        for name in wanted:
            entry = entries[name]
            form, size = _NUMBERS.get(str(entry["dtype"]), ("", 0))
            first, last = entry["data_offsets"]
            if not form or math.prod(entry["shape"]) != 1 or last - first != size:
                raise FreeUValueError(f"{path.name} is damaged: {name!r} is no single number")
            file.seek(begin + first)
            data = file.read(size)
            # bfloat16 is the upper half of a float32.
            (number,) = struct.unpack(form, b"\0\0" + data if entry["dtype"] == "BF16" else data)
            found[name] = float(number)
    return found


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
    packed = zipfile.is_zipfile(path)
    if packed:
        _check_archive(path)
    else:
        _check_legacy(path)
    data = torch.load(path, map_location=map_location, weights_only=True, mmap=packed)
    for _ in range(MAX_NESTING):  # a dictionary may hold itself
        if not isinstance(data, dict) or "state_dict" not in data:
            break
        data = data["state_dict"]
    if not isinstance(data, dict) or "state_dict" in data:
        raise FreeUValueError(f"{path.name} holds no weights by name: it is no checkpoint")
    return data


def _check_archive(path: Path) -> None:
    """Refuse what unpacks to more than it is: ``torch.save`` compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > path.stat().st_size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise FreeUValueError(f"{path.name} is compressed, which no file of torch.save is: it is no checkpoint")
        for entry in entries:
            if entry.filename.lower().endswith("data.pkl"):  # torch takes any case
                with archive.open(entry) as stream:
                    _check_pickle(stream)


def _check_legacy(path: Path) -> None:
    """The pickles of a file that is no archive, as ``torch.save`` wrote it before 1.6, in a row."""
    import tarfile

    if tarfile.is_tarfile(path):
        raise FreeUValueError(f"{path.name} is of a torch before 0.2: convert it to .safetensors")
    with path.open("rb") as file:
        for _ in range(_LEGACY_PICKLES):
            _check_pickle(file)


def _check_pickle(stream: IO[bytes]) -> None:
    """Refuse names that no class has. torch looks for patterns in its message about them, and needs a time that grows
    with the square of their length: hours for a megabyte.

    Raises:
        pickle.UnpicklingError: there is one, or something that is no operation of pickles.
        EOFError: it is empty, or ends too early.
    """
    import pickle
    import pickletools

    try:
        for operation, value, _ in pickletools.genops(stream):
            if operation.name in ("GLOBAL", "INST") and len(str(value)) > _LONGEST_NAME:
                raise pickle.UnpicklingError(f"a name of {len(str(value))} letters")
    except ValueError as error:
        if not stream.read(1):
            raise EOFError from None
        raise pickle.UnpicklingError(str(error)) from None


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
        AttributeError,
        AssertionError,
        MemoryError,
        RecursionError,
        zipfile.BadZipFile,
        struct.error,
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

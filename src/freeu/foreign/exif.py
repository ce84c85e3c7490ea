"""Texts in the EXIF data of JPEG and WebP files, where A1111, Forge, SD.Next, Fooocus and ComfyUI put their settings.

No pixel is decoded, and no more is read than settings need.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from freeu.errors import FreeUValueError

COMMENT, MAKER_NOTE = 0x9286, 0x927C
MAKE, MODEL = 0x010F, 0x0110
TAGS = (COMMENT, MAKER_NOTE, MAKE, MODEL)
_EXIF_IFD = 0x8769
MAX_EXIF = 4 << 20
"""Bytes of EXIF data that are read; of a JPEG there are 65,533 at most."""
_MAX_ENTRIES, _MAX_SEGMENTS = 512, 4_096
_HEAD = b"Exif\0\0"
_START_OF_SCAN, _END = 0xDA, 0xD9
_ALONE = (0x01, *range(0xD0, 0xD9))
"""Markers of a JPEG that no length follows."""
_CODINGS = {b"UNICODE\0": "utf-16", b"ASCII\0\0\0": "utf-8", bytes(8): "utf-8"}


def kind_of(path: Path) -> str:
    """ "png", "jpeg" or "webp" by the first bytes of a file; "" for others.

    Raises:
        FreeUValueError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(16)
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}") from None
    if begin.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if begin.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "webp" if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP" else ""


def find_exif(path: Path, kind: str) -> bytes | None:
    """The EXIF data of a file of the kind "jpeg" or "webp", from its TIFF header on; None where it has none.

    Raises:
        FreeUValueError: the file cannot be read, ends early, or its EXIF data has more than 4 MiB.
    """
    try:
        with path.open("rb") as file:
            for name, place, length in (segments if kind == "jpeg" else riff_chunks)(file, path):
                if name not in (b"\xe1", b"EXIF"):
                    continue
                if length > MAX_EXIF:
                    raise FreeUValueError(f"{path}: its EXIF data has {length} bytes; settings have a few thousand")
                file.seek(place)
                data = file.read(length)
                if name == b"EXIF" or data.startswith(_HEAD):
                    return data.removeprefix(_HEAD)
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}") from None
    return None


def segments(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Marker, place and length of the content of each segment of a JPEG before its first scan."""
    place = 2
    for _ in range(_MAX_SEGMENTS):
        file.seek(place)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            raise FreeUValueError(f"cannot read {path}: it is damaged, or ends early")
        if head[1] in (_START_OF_SCAN, _END):
            return
        if head[1] == 0xFF or head[1] in _ALONE:
            place += 1 if head[1] == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", head[2:])
        if length < 2:
            raise FreeUValueError(f"cannot read {path}: it is damaged, or ends early")
        yield head[1:2], place + 4, length - 2
        place += 2 + length
    raise FreeUValueError(f"cannot read {path}: it has more than {_MAX_SEGMENTS} segments")


def riff_chunks(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and length of the content of each chunk of a WebP."""
    whole, place = file.seek(0, 2), 12
    for _ in range(_MAX_SEGMENTS):
        if place + 8 > whole:
            return
        file.seek(place)
        name, length = struct.unpack("<4sI", file.read(8))
        if place + 8 + length > whole:
            raise FreeUValueError(f"cannot read {path}: it ends early")
        yield name, place + 8, length
        place += 8 + length + length % 2
    raise FreeUValueError(f"cannot read {path}: it has more than {_MAX_SEGMENTS} chunks")


def texts_of(data: bytes) -> dict[int, str]:
    """The texts of ``TAGS`` in EXIF data; none of what is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return {}
    found: dict[int, str] = {}
    places = list(struct.unpack(f"{order}I", data[4:8]))
    seen: set[int] = set()
    while places:
        place = places.pop()
        if place in seen or place + 2 > len(data) or len(seen) > 4:
            continue
        seen.add(place)
        (count,) = struct.unpack_from(f"{order}H", data, place)
        for number in range(min(count, _MAX_ENTRIES)):
            at = place + 2 + 12 * number
            if at + 12 > len(data):
                break
            tag, kind, size, value = struct.unpack_from(f"{order}HHII", data, at)
            if tag == _EXIF_IFD:
                places.append(value)
            elif tag in TAGS and kind in (1, 2, 7):
                start = at + 8 if size <= 4 else value
                if start + size <= len(data):
                    found.setdefault(tag, _decoded(data[start : start + size], order))
    return found


def _decoded(data: bytes, order: str) -> str:
    """A text; that of a user comment names its letters in eight bytes first."""
    coding = _CODINGS.get(data[:8])
    if coding is None:
        return data.decode(errors="replace").rstrip("\0")
    data = data[8:]
    if coding != "utf-16":
        return data.decode(errors="replace").rstrip("\0")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace").rstrip("\0")
    # Settings are Latin letters for the most part: their high byte is 0. Writers mind the file's order of bytes or not.
    high, low = data[0:2000:2].count(0), data[1:2000:2].count(0)
    big = high > low if high != low else order == ">"
    return data.decode("utf-16-be" if big else "utf-16-le", errors="replace").rstrip("\0")

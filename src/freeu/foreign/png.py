"""The chunks of a PNG file: one text out of them, or the file without its texts. No pixel is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from freeu.errors import FreeUValueError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 100_000
MAX_KEPT = 128 << 20
"""Bytes of a file without its texts."""
LEFT_OUT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf")
"""Chunks that may hold anything at any length; no pixel depends on them. A small eXIf stays: it says what is up."""
_SMALL = 1 << 16
_MOST_PACKED = 1_040
"""Bytes that zlib can make of one."""


def find_text(path: Path, key: str, most: int, any_kind: bool = False) -> str | None:
    """The text of a key in a PNG, or None where it has none.

    Args:
        path: the file.
        key: Latin letters.
        most: characters that it may have.
        any_kind: take the older kinds of texts too, which hold Latin letters, compressed or not; by default only
            international texts, which freeu writes.

    Raises:
        FreeUValueError: the file cannot be read, is no PNG, ends early, or its text is damaged or longer than ``most``.
    """
    return find_texts(path, {key: most}, any_kind).get(key)


def find_texts(path: Path, keys: Mapping[str, int], any_kind: bool = True) -> dict[str, str]:
    """The texts of several keys, each with the most characters that it may have; as ``find_text``, in one pass."""
    heads = {key: key.encode() + b"\0" for key in keys}
    found: dict[str, str] = {}
    kinds = (b"iTXt", b"tEXt", b"zTXt") if any_kind else (b"iTXt",)
    try:
        with path.open("rb") as file:
            for kind, place, length in chunks(file, path):
                if kind not in kinds:
                    continue
                file.seek(place)
                begin = file.read(min(length, 80))
                key = next((key for key, head in heads.items() if begin.startswith(head)), None)
                if key is None or key in found:
                    continue
                size, most = len(heads[key]), keys[key]
                file.seek(place + size)
                # A character takes four bytes at most; a longer text is refused, wherever it is cut.
                found[key] = _text(path, kind, file.read(min(length - size, 4 * most + 1024)), key, most)
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}") from None
    return found


def _text(path: Path, kind: bytes, data: bytes, key: str, most: int) -> str:
    """The text behind a key.

    Of an international text there follow: whether it is compressed, the method, language and translated key, each ended
    by 0, the text; of a compressed one the method and the text.
    """
    try:
        packed, rest = kind == b"zTXt", data[1:] if kind == b"zTXt" else data
        if kind == b"iTXt":
            packed, rest = bool(data[0]), data[2:].split(b"\0", 2)[2]
        if packed:
            rest = zlib.decompressobj().decompress(rest, 4 * most + 1)
        if kind == b"iTXt":
            text = rest.decode(errors="ignore" if len(rest) > 4 * most else "strict")
        else:
            text = rest.decode("latin-1")
    except (IndexError, UnicodeDecodeError, zlib.error):
        raise FreeUValueError(f"cannot read {path}: its text {key!r} is damaged") from None
    if len(text) > most:
        raise FreeUValueError(f"{path}: its text {key!r} has more than {most} characters; freeu writes a few thousand")
    return text


def without_texts(path: Path) -> BinaryIO:
    """The bytes of a PNG without what could be large and shows nothing.

    Raises:
        FreeUValueError: the file cannot be read, is no PNG, ends early, or is large without its texts too.
    """
    kept = io.BytesIO(SIGNATURE)
    kept.seek(0, io.SEEK_END)
    try:
        with path.open("rb") as file:
            for kind, place, length in chunks(file, path):
                if kind in LEFT_OUT and not (kind == b"eXIf" and length <= _SMALL):
                    continue
                if kept.tell() + length > MAX_KEPT:
                    raise FreeUValueError(f"{path} has more than {MAX_KEPT >> 20} MiB of pixels: make it smaller")
                file.seek(place - 8)
                kept.write(file.read(length + 12))
            whole = file.seek(0, io.SEEK_END)
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror or error}") from None
    _check_size(path, kept.getbuffer()[len(SIGNATURE) + 8 :][:10].tobytes(), whole)
    kept.seek(0)
    return kept


def _check_size(path: Path, header: bytes, whole: int) -> None:
    """Refuse more pixels than a file of so many bytes can hold, before there is memory for them."""
    if len(header) < 10:
        raise FreeUValueError(f"cannot read {path}: it ends early")
    width, height, depth, colour = struct.unpack(">IIBB", header)
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    if width * height * bits // 8 > whole * _MOST_PACKED:
        raise FreeUValueError(f"cannot read {path}: it says {width}x{height} pixels and holds fewer")


def is_png(path: Path) -> bool:
    """Whether a file begins as a PNG does; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def chunks(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and length of the content of each chunk, up to the last; the file may be moved in between."""
    whole = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise FreeUValueError(f"{path} is not an image of the kind PNG")
    place = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            raise FreeUValueError(f"cannot read {path}: it ends early")
        length, kind = struct.unpack(">I4s", head)
        if place + 12 + length > whole:
            raise FreeUValueError(f"cannot read {path}: it ends early")
        yield kind, place + 8, length
        if kind == b"IEND":
            return
        place += 12 + length
    raise FreeUValueError(f"cannot read {path}: it has more than {MAX_CHUNKS} chunks")

"""Copies of images and videos for raters: without metadata, and with equal size in bytes for files that are compared.

Nothing that a browser can see of a file (name, size, dates, metadata) may reveal its arm.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from freeu.errors import FreeUValueError
from freeu.pipelines.io import images
from freeu.pipelines.io.images import on_white
from freeu.pipelines.io.inputs import pixel_sha
from freeu.study.media.info import MediaInfo, add_noise

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 256 * 2**20
"""Maximum size of one input file."""
PNG_PADDING, MP4_PADDING = b"paDd", b"free"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def read_media_info(path: Path, folder: Path) -> MediaInfo:
    """Open an untrusted file and read its size and content.

    Args:
        path: a PNG, JPEG, WebP or MP4.
        folder: must contain the file after links are resolved.

    Raises:
        FreeUValueError: the file is outside the folder, too large, animated, damaged or of another format.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FreeUValueError(f"{path} is a link to a file outside its folder: copy the file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise FreeUValueError(
            f"{path} has {size / 2**20:.0f} MiB: a study accepts files of up to {MAX_BYTES >> 20} MiB"
        )
    if path.suffix.lower() == ".mp4":
        from freeu.study.media.video import read_video_info

        return read_video_info(path)
    image = read_image(path)
    return MediaInfo(image.width, image.height, pixel_sha(image))


def read_image(path: Path) -> Image:
    """An image as upright RGB, transparent parts on white.

    Raises:
        FreeUValueError: as ``images.read_image``; no PNG, JPEG or WebP, or animated.
    """
    return on_white(images.read_image(path, FORMATS, animated=False))


def encode_png(image: Image) -> bytes:
    """A PNG of the pixels and nothing else.

    Args:
        image: any mode that converts to RGB.
    """
    from PIL import Image

    rgb = image.convert("RGB")
    bare = Image.frombytes("RGB", rgb.size, rgb.tobytes())  # drops all metadata that Pillow read
    buffer = io.BytesIO()
    bare.save(buffer, "PNG")
    return buffer.getvalue()


def noisy(image: Image, seed: int) -> Image:
    """The image with strong Gaussian noise, for attention checks.

    Args:
        image: RGB.
        seed: of the noise.
    """
    from PIL import Image

    return Image.fromarray(add_noise(np.asarray(image.convert("RGB")), np.random.default_rng(seed)))


def pad_to_equal_size(files: Sequence[bytes]) -> list[bytes]:
    """Pad files to equal size in bytes without changing their content.

    The padding is random, so that a compressing proxy does not reveal the original sizes.

    Args:
        files: PNGs from ``encode_png``, or MP4s; each gets at least the smallest possible padding.
    """
    return [_pad_png(data, n) if data.startswith(b"\x89PNG") else _pad_mp4(data, n) for data, n in _missing(files)]


def _missing(files: Sequence[bytes]) -> list[tuple[bytes, int]]:
    size = max(len(data) for data in files) + 12
    return [(data, size - len(data)) for data in files]


def _pad_png(data: bytes, size: int) -> bytes:
    """Insert a chunk of ``size`` bytes before the end: ancillary, private, safe to copy, so every decoder skips it."""
    assert data.endswith(_PNG_END)
    assert size >= 12
    body = PNG_PADDING + os.urandom(size - 12)
    chunk = struct.pack(">I", size - 12) + body + struct.pack(">I", zlib.crc32(body))
    return data[: -len(_PNG_END)] + chunk + _PNG_END


def _pad_mp4(data: bytes, size: int) -> bytes:
    """Append one free box of ``size`` bytes (ISO/IEC 14496-12, 8.1.2)."""
    return data + struct.pack(">I", size) + MP4_PADDING + os.urandom(size - 8)


def clean_copies(paths: list[Path]) -> list[bytes]:
    """Copies without metadata, all written in the same way.

    Args:
        paths: files of one group: all images or all videos.
    """
    if paths[0].suffix.lower() == ".mp4":
        from freeu.study.media.video import copy_videos

        return copy_videos(paths)
    return [encode_png(read_image(path)) for path in paths]


def noisy_copy(path: Path, seed: int) -> bytes:
    """A copy with strong noise, for an attention check.

    Args:
        path: an image or a video.
        seed: of the noise.
    """
    if path.suffix.lower() == ".mp4":
        from freeu.study.media.video import noisy_video

        return noisy_video(path, seed)
    return encode_png(noisy(read_image(path), seed))

"""Images of others: one reader for every file, whoever wrote it, and one line for each that cannot be used.

A file is opened as one of ``FORMATS`` and nothing else (of others, Pillow runs programs). What comes out is upright and
has 8 bits for each channel.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from freeu.errors import FreeUError, FreeUValueError
from freeu.foreign.png import is_png, without_texts

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM")
MAX_PIXELS = 25_000_000
MAX_BYTES = 256 << 20
_WIDE = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes of Pillow with more than 8 bits."""
_BITS_PER_SAMPLE, _ORIENTATION = 258, 274
"""Tags of TIFF and EXIF."""


def read_image(path: Path, formats: Sequence[str] = FORMATS, animated: bool = True) -> Image:
    """An image, upright, as L, LA, RGB or RGBA.

    16 bits are scaled to 8, and so are floating-point numbers of 0 to 1.

    Args:
        path: the file.
        formats: what it may be.
        animated: take the first frame of several; False refuses them.

    Raises:
        FreeUValueError: another format, damaged, too large, or numbers whose white cannot be known.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    known = [name for name in formats if name in Image.OPEN]
    try:
        if path.stat().st_size > MAX_BYTES and not is_png(path):
            raise FreeUValueError(f"{path} has more than {MAX_BYTES >> 20} MiB: make it smaller")
        source: Path | BinaryIO = without_texts(path) if is_png(path) else path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source, formats=known) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise FreeUValueError(
                        f"{path} is {image.width}x{image.height}, above {MAX_PIXELS} pixels: make it smaller"
                    )
                # Phones write several images into one JPEG: the first is what is seen.
                if not animated and image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                    raise FreeUValueError(f"{path} is animated: save it as MP4")
                bits = _bits(image)
                return _eight_bits(path, _upright(image), bits)
    except FreeUError:
        raise
    except UnidentifiedImageError:
        raise FreeUValueError(f"{path} is not an image that Pillow can read: use PNG, JPEG or WebP") from None
    except Image.DecompressionBombError:
        raise FreeUValueError(f"{path} has more than {MAX_PIXELS} pixels: make it smaller") from None
    except Exception as error:  # of damaged files, decoders raise whatever they stumble over
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise FreeUValueError(f"cannot read the image {path}: {reason}") from None


def on_white(image: Image) -> Image:
    """What ``read_image`` gave as RGB, transparent parts on white."""
    from PIL import Image

    if image.mode in ("LA", "RGBA"):
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def as_mask(path: Path, image: Image, region: bool = False) -> tuple[Image, str]:
    """What ``read_image`` gave as a mask in 8-bit grey, white where the image is to change.

    Args:
        path: the file, for messages.
        image: of one colour on transparent ground, its opaque parts are the white; else transparent parts are black.
        region: whether the mask says where FreeU acts, and any grey counts; else it is for inpainting.

    Returns:
        the mask, and what a user should know of how it was read, or "".

    Raises:
        FreeUValueError: black everywhere; for inpainting, nowhere lighter than middle grey, which is where pipelines
            begin to inpaint.
    """
    from PIL import ImageChops

    what, goal = ("region", "FreeU should act") if region else ("mask", "the image should change")
    mask, note = image.convert("L"), ""
    if image.mode in ("LA", "RGBA"):
        alpha = image.getchannel("A")
        low, high = _extrema(alpha)
        darkest, lightest = _seen(mask, alpha) if high else (0, 0)
        if low < high and darkest == lightest:
            happens = "FreeU acts in its opaque parts" if region else "its opaque parts are inpainted"
            mask, note = alpha, f"the {what} {path.name} has one colour on transparent ground: {happens}"
        elif low < 255:
            mask = ImageChops.multiply(mask, alpha)
    top = _extrema(mask)[1]
    if top == 0:
        raise FreeUValueError(f"the {what} {path} is black everywhere: paint white where {goal}")
    if top == 1:
        mask, note = (
            mask.point(lambda value: 255 * value),
            f"the {what} {path.name} has values 0 and 1: 1 is taken for white",
        )
    elif top < 128 and not region:
        raise FreeUValueError(
            f"the mask {path} is nowhere lighter than {top} of 255, and only what is lighter than middle grey is "
            "inpainted: paint white where the image should change"
        )
    return mask, note


def _extrema(grey: Image) -> tuple[int, int]:
    """The darkest and the lightest value."""
    there = [value for value, count in enumerate(grey.histogram()) if count]
    return there[0], there[-1]


def _seen(grey: Image, alpha: Image) -> tuple[int, int]:
    """The darkest and the lightest grey of what is not transparent."""
    histogram = grey.histogram(alpha.point(lambda value: 255 if value else 0))
    there = [value for value, count in enumerate(histogram) if count]
    return there[0], there[-1]


def _upright(image: Image) -> Image:
    """The image as it is to be seen, its pixels loaded."""
    from PIL import ImageOps

    turn, size = image.getexif().get(_ORIENTATION), image.size
    image.load()
    if turn is not None and image.size != size:
        # Pillow turns a TIFF while it loads it, but forgets one of 16 bits without compression.
        image.getexif()[_ORIENTATION] = turn
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _bits(image: Image) -> int:
    """Bits of a pixel of more than 8."""
    if image.format != "TIFF":
        return 16
    tags: Any = image
    return int(tags.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0])


def _eight_bits(path: Path, image: Image, bits: int) -> Image:
    """The same image as L, LA, RGB or RGBA."""
    if image.mode == "F":
        return _of_floats(path, image)
    if image.mode in _WIDE:
        return _of_numbers(path, image, bits)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _of_floats(path: Path, image: Image) -> Image:
    import numpy as np
    from PIL import Image as Images

    numbers = np.asarray(image)
    if not bool(np.isfinite(numbers).all()) or numbers.min() < 0 or numbers.max() > 1:
        raise FreeUValueError(
            f"{path} holds floating-point numbers outside 0 to 1, whose white nobody knows: save it with 8 bits"
        )
    return Images.fromarray(np.rint(numbers * np.float32(255)).astype(np.uint8))


def _of_numbers(path: Path, image: Image, bits: int) -> Image:
    import numpy as np
    from PIL import Image as Images

    numbers = np.asarray(image)
    if not 8 < bits <= 16 or numbers.min() < 0 or numbers.max() >= 1 << bits:
        raise FreeUValueError(f"{path} has {bits} bits for each pixel, whose white nobody knows: save it with 8 bits")
    white = (1 << bits) - 1
    return Images.fromarray(((numbers.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8))

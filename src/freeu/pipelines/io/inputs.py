"""Small inputs of a run: seeds, factors, and the images that image-to-image and inpainting start from."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freeu.errors import FreeUValueError
from freeu.pipelines.io.images import as_mask, on_white, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_SEED = 2**64 - 1
"""Of an image; torch's generator takes no more, and ComfyUI's seeds are as large."""
MAX_SMALL_SEED = 2**32 - 1
"""Of trainings and plans, and of seeds that are drawn: the largest that every tool takes."""
RANDOM_SEED = "-1"
MAX_SEEDS = 10_000
SIDE_MULTIPLE = 8  # diffusers' pipelines refuse other sizes


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from "1", "0,3,5", "0-7" or a mixture, each once, in the order given.

    Raises:
        FreeUValueError: anything else, a seed above 2^64 - 1, or more than 10,000 seeds.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise FreeUValueError(f"seeds must look like 1 or 0,3,5 or 0-7, or -1 for a random one, got {text!r}")
        first = int(match[1])
        last = int(match[2] or match[1])
        if last < first:
            raise FreeUValueError(f"seeds must rise, got {part.strip()!r}: write {last}-{first}")
        if last > MAX_SEED:
            raise FreeUValueError(f"a seed must be at most {MAX_SEED}, got {last}")
        if last - first + len(seeds) >= MAX_SEEDS:
            raise FreeUValueError(f"more than {MAX_SEEDS} seeds in {text!r}: make several runs")
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return tuple(seeds)


def draw_seeds(text: str) -> str:
    """The text with a number for each -1, which stands for a random seed."""
    parts = [part.strip() for part in text.split(",")]
    if RANDOM_SEED not in parts:
        return text
    return ",".join(str(secrets.randbelow(MAX_SMALL_SEED + 1)) if part == RANDOM_SEED else part for part in parts)


def count_on(text: str, count: int | None) -> str | None:
    """So many seeds, counted from the only one in the text; None where that cannot be done, or nothing is counted.

    Exactly so many seeds that follow each other are what they are.
    """
    if count is None or not 1 <= count <= MAX_SEEDS:
        return None
    try:
        seeds = parse_seeds(text)
    except FreeUValueError:
        return None
    wanted = tuple(range(seeds[0], seeds[0] + count))
    return format_seeds(wanted) if wanted[-1] <= MAX_SEED and seeds in (seeds[:1], wanted) else None


def short_names(places: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many parts as it takes to tell different folders apart."""
    for length in itertools.count(1):
        names = ["/".join(place.parts[-length:]) for place in places]
        if len(set(names)) == len(places):
            break
    return names


def format_seeds(seeds: tuple[int, ...]) -> str:
    """The short text that ``parse_seeds`` reads."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][1] + 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def parse_factors(name: str, text: str) -> tuple[float, ...]:
    """Factors from "1.3,1.4"; how many and in what range is for ``FreeUConfig`` to say."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise FreeUValueError(
            f"--{name} must be numbers with commas, one per stage, such as 1.3,1.4; got {text!r}"
        ) from None


def check_side(name: str, value: int, multiple: int = SIDE_MULTIPLE) -> int:
    """A side of an image in pixels; one the model cannot make raises ``FreeUValueError`` with the nearest two."""
    if value < multiple or value % multiple:
        low = max(multiple, value // multiple * multiple)
        raise FreeUValueError(
            f"{name} must be a multiple of {multiple} for this model, got {value}: use {low} or {low + multiple}"
        )
    return value


def open_image(path: Path) -> Image:
    """An image as RGB, upright, transparent parts on white; one that cannot be read raises ``FreeUValueError``."""
    return on_white(read_image(path))


def open_mask(path: Path, image: Image) -> tuple[Image, str]:
    """A mask as 8-bit grey, white where the image is inpainted, and what a user should know of how it was read, or "".

    Raises:
        FreeUValueError: it cannot be read, has another size than the image, or shows nothing to inpaint.
    """
    mask = read_image(path)
    if mask.size != image.size:
        raise FreeUValueError(
            f"the mask must have the size of the image, got {mask.width}x{mask.height} "
            f"for an image of {image.width}x{image.height}: resize the mask"
        )
    return as_mask(path, mask)


def open_region(path: Path) -> tuple[Image, str]:
    """A region as 8-bit grey, white where FreeU acts, and what a user should know of how it was read, or "".

    Raises:
        FreeUValueError: it cannot be read, or is black everywhere.
    """
    region, note = as_mask(path, read_image(path), region=True)
    everywhere = region.getextrema() == (255, 255)
    return region, f"the region {path.name} is white everywhere: FreeU acts as without it" if everywhere else note


def fit_region(region: Image, size: tuple[int, int], multiple: int, like: Image | None = None) -> Image:
    """A region at the size of the images: each pixel is the mean of the area that it covers.

    Args:
        region: in 8-bit grey.
        size: width and height of what is generated, in pixels.
        multiple: sides of images are multiples of this; a region's shape may be off by less.
        like: the image that the run starts from; a region of its size is resized as that is.

    Raises:
        FreeUValueError: the region has another shape.
    """
    from PIL.Image import Resampling

    (width, height), longest = size, max(region.size)
    same = like is not None and like.size == region.size
    if not same and abs(width * region.height - height * region.width) >= multiple * longest:
        raise FreeUValueError(
            f"the region must have the shape of what is generated, got {region.width}x{region.height} for "
            f"{width}x{height}: crop it, or give another --width and --height"
        )
    fitted = region if region.size == size else region.resize(size, Resampling.BOX)
    if fitted.getbbox() is None:
        raise FreeUValueError(f"nothing of the region is left at {width}x{height}: paint more of it white")
    return fitted


def fit_size(size: tuple[int, int], native: int, multiple: int) -> tuple[int, int]:
    """The size at which an input image is used: its shape, the model's native area, sides the model can make.

    Args:
        size: width and height of the input in pixels.
        native: side in pixels of the square the model was trained on.
        multiple: sides must be multiples of this.
    """
    scale = native / math.sqrt(size[0] * size[1])
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return width, height


def pixel_sha(image: Image) -> str:
    """SHA-256 of an image's pixels with its mode and size: equal for files that differ in compression only."""
    head = f"{image.mode} {image.width}x{image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()

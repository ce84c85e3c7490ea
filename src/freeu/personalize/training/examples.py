"""Training images: read from a folder, cropped to the model's size, encoded to latents once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.pipelines.io.inputs import open_image, pixel_sha
from freeu.wording import counted

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_CAPTION = 1_000


@dataclass(frozen=True)
class Example:
    """One image of a folder.

    Args:
        name: of its file.
        image: RGB, EXIF rotation applied, transparent parts on white.
        caption: content of the text file beside it ("3.txt" beside "3.png"), or None.
    """

    name: str
    image: Image
    caption: str | None = None


def read_examples(folder: Path, least: int, most: int, why: str) -> tuple[Example, ...]:
    """All images of a folder, sorted by name, each with its caption if there is a text file beside it.

    Other files, hidden files and subfolders are ignored.

    Args:
        folder: with the images.
        least, most: allowed number of images.
        why: the reason for these limits, for the message.

    Raises:
        FreeUValueError: no folder, too few or too many images, an unreadable image or caption, or the same image twice.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise FreeUValueError(f"{folder} {what}: give the folder that holds the images")
    try:
        files = sorted(
            item
            for item in folder.iterdir()
            if item.suffix.lower() in SUFFIXES and not item.name.startswith(".") and item.is_file()
        )
    except OSError as error:
        raise FreeUValueError(f"cannot read {folder}: {error.strerror or error}") from None
    if not least <= len(files) <= most:
        found = f"{folder} holds {counted(len(files), 'image')} ({', '.join(SUFFIXES)})"
        raise FreeUValueError(f"{found}, and {least} to {most} are needed: {why}")
    examples = tuple(Example(path.name, open_image(path), _caption(path.with_suffix(".txt"))) for path in files)
    names: dict[str, str] = {}
    for example in examples:
        first = names.setdefault(pixel_sha(example.image), example.name)
        if first != example.name:
            raise FreeUValueError(f"{folder}: {first} and {example.name} are the same image: remove one of them")
    return examples


def _caption(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        text = " ".join(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise FreeUValueError(f"cannot read the caption {path}: {reason}") from None
    if not text or len(text) > MAX_CAPTION:
        raise FreeUValueError(f"the caption {path} must have 1 to {MAX_CAPTION} characters, got {len(text)}")
    return text


def squared(image: Image, side: int) -> Image:
    """The central square of an image, resized to ``side`` pixels (Lanczos)."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    if image.size == (side, side):
        return image
    return ImageOps.fit(image, (side, side), Resampling.LANCZOS)


def images_sha(images: Sequence[Image]) -> str:
    """SHA-256 of the pixels of several images, in their order."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(pixel_sha(image).encode())
    return digest.hexdigest()


def encode(vae: Any, images: Sequence[Image]) -> Tensor:
    """Scaled latents of images, the mean of the VAE's distribution; one image at a time.

    Args:
        vae: of a diffusers pipeline.
        images: RGB, of one size, sides divisible by the VAE's factor.

    Returns:
        shape (images, channels, height, width), float32, on the VAE's device.
    """
    import torch

    first = next(vae.parameters())
    # SDXL's VAE overflows in float16, which its config says.
    upcast = first.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
    dtype = torch.float32 if upcast else first.dtype
    if upcast:
        vae.to(torch.float32)
    found = []
    with torch.no_grad():
        for image in images:
            pixels = pixels_of(image).to(first.device, dtype)
            encoded = vae.encode(pixels)
            # AutoencoderTiny returns latents, others a distribution.
            found.append(encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode())
    if upcast:
        vae.to(first.dtype)
    latents = torch.cat(found).float()
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return (latents - shift) * float(vae.config.scaling_factor)


def pixels_of(image: Image) -> Tensor:
    """An image as input of diffusers' VAEs: shape (1, 3, height, width), float32, -1..1."""
    import numpy as np
    import torch

    array = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1)[None] / 127.5 - 1.0

"""Images made worse in the ways of diffusion models and files, so that judges do not expect perfection."""

from __future__ import annotations

import io
import random

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor


def some(image: Image.Image, draw: random.Random, share: float = 0.6) -> Image.Image:
    """The image, with probability ``share`` degraded in one to three ways; colours keep their names."""
    if draw.random() >= share:
        return image
    for way in draw.sample((bent, blurred, noisy, compressed, coarse, tinted), draw.randint(1, 3)):
        image = way(image, draw)
    return image


def bent(image: Image.Image, draw: random.Random) -> Image.Image:
    """Shapes bent by up to five pixels, smoothly."""
    cells, side = 4, image.width
    step = side // cells
    moved = {
        (x, y): (x * step + draw.uniform(-5, 5), y * step + draw.uniform(-5, 5))
        if 0 < x < cells and 0 < y < cells
        else (x * step, y * step)
        for x in range(cells + 1)
        for y in range(cells + 1)
    }
    mesh = []
    for x in range(cells):
        for y in range(cells):
            corners = moved[x, y], moved[x, y + 1], moved[x + 1, y + 1], moved[x + 1, y]
            box = (x * step, y * step, (x + 1) * step, (y + 1) * step)
            mesh.append((box, tuple(value for corner in corners for value in corner)))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def blurred(image: Image.Image, draw: random.Random) -> Image.Image:
    """Blurred by half a pixel to two and a half."""
    return image.filter(ImageFilter.GaussianBlur(draw.uniform(0.5, 2.5)))


def noisy(image: Image.Image, draw: random.Random) -> Image.Image:
    """Gaussian noise with a standard deviation of 3 to 20 of 255."""
    noise = np.random.default_rng(draw.getrandbits(32)).normal(0, draw.uniform(3, 20), (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image, dtype=np.float32) + noise).clip(0, 255).astype(np.uint8))


def compressed(image: Image.Image, draw: random.Random) -> Image.Image:
    """Saved as a poor JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=draw.randint(15, 70))
    return Image.open(buffer).convert("RGB")


def coarse(image: Image.Image, draw: random.Random) -> Image.Image:
    """Made smaller and large again."""
    side = draw.randint(image.width * 2 // 5, image.width * 4 // 5)
    return image.resize((side, side), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)


def tinted(image: Image.Image, draw: random.Random) -> Image.Image:
    """A little more or less bright, contrasted and saturated."""
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(draw.uniform(0.88, 1.12))
    return image


def blot(image: Image.Image, draw: random.Random) -> Image.Image:
    """So blurred that nothing can be named."""
    return image.filter(ImageFilter.GaussianBlur(draw.uniform(11, 16)))


def tensor(images: list[Image.Image]) -> Tensor:
    """RGB images of one size as float32 (batch, 3, height, width) in -1..1."""
    array = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous() / 127.5 - 1

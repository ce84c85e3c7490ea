"""Images to learn from: which of a folder, how they are cut, and their latents."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import tiny_vae

from freeu.errors import FreeUValueError
from freeu.personalize.training.examples import encode, images_sha, pixels_of, read_examples, squared


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def fill(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        noise(20, 16, number).save(folder / f"{number}.png")
    return folder


def test_pictures_in_the_order_of_their_names_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    noise(9, 9, 7).save(tmp_path / "10.JPG", format="JPEG")
    (tmp_path / "notes.txt").write_text("a caption")
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    fill(tmp_path / "deeper", 1)
    assert [one.name for one in read_examples(tmp_path, 3, 9, "")] == ["0.png", "1.png", "10.JPG", "2.png"]


def test_upright_and_on_white(tmp_path: Path) -> None:
    sideways = Image.Exif()
    sideways[0x0112] = 6  # the camera was turned
    noise(20, 10).save(tmp_path / "a.png", exif=sideways)
    clear = noise(8, 8, 1).convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "b.png")
    turned, white = (one.image for one in read_examples(tmp_path, 1, 9, ""))
    assert turned.size == (10, 20)
    assert white.mode == "RGB"
    assert white.getextrema() == ((255, 255),) * 3


def test_the_middle_is_kept() -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    cut = squared(wide, 50)
    assert cut.size == (50, 50)
    assert (np.asarray(cut)[:, 5:-5] == (0, 0, 255)).all()  # the rim holds a trace of what was cut off
    same = noise(16, 16)
    assert squared(same, 16).tobytes() == same.tobytes()


def test_the_sha_follows_pixels_and_order() -> None:
    a, b = noise(8, 8, 0), noise(8, 8, 1)
    assert images_sha([a, b]) == images_sha([a.copy(), b.copy()])
    assert len({images_sha([a, b]), images_sha([b, a]), images_sha([a])}) == 3


def test_latents_come_back_as_the_pictures() -> None:
    """Against diffusers' own preprocessing and the pipelines' convention for scaling."""
    from diffusers.image_processor import VaeImageProcessor

    torch.manual_seed(0)
    vae = tiny_vae()
    pictures = [noise(16, 16, seed) for seed in range(3)]
    pixels = VaeImageProcessor(vae_scale_factor=2).preprocess(pictures)
    torch.testing.assert_close(torch.cat([pixels_of(picture) for picture in pictures]), pixels)
    with torch.no_grad():
        wanted = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
    torch.testing.assert_close(encode(vae, pictures), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "holds 0 images"), (2, "holds 2 images"), (6, "holds 6 images")],
)
def test_too_few_and_too_many(tmp_path: Path, count: int, words: str) -> None:
    fill(tmp_path, count)
    with pytest.raises(FreeUValueError, match=rf"{words}.*3 to 5 are needed: because$"):
        read_examples(tmp_path, 3, 5, "because")


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    for bad in (b"", b"no image", pickle.dumps({"a": 1}), (tmp_path / "0.png").read_bytes()[:200]):
        (tmp_path / "9.png").write_bytes(bad)
        with pytest.raises(FreeUValueError, match=r"9\.png"):
            read_examples(tmp_path, 3, 9, "")


def test_the_same_picture_twice(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    noise(20, 16, 1).save(tmp_path / "again.webp", lossless=True)
    with pytest.raises(FreeUValueError, match=r"1\.png and again\.webp are the same image"):
        read_examples(tmp_path, 3, 9, "")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FreeUValueError, match="does not exist"):
        read_examples(tmp_path / "nowhere", 3, 9, "")
    noise(8, 8).save(tmp_path / "one.png")
    with pytest.raises(FreeUValueError, match="is a file: give the folder"):
        read_examples(tmp_path / "one.png", 3, 9, "")

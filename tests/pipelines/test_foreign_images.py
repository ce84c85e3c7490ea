"""Images that others wrote: every depth, transparency and orientation, files made to do harm, and masks."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from freeu.errors import FreeUValueError
from freeu.metadata import png_bytes, read_png
from freeu.pipelines.io.images import read_image
from freeu.pipelines.io.inputs import open_image, open_mask
from freeu.pipelines.runs.request import resized
from freeu.study.media import media

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
READERS = pytest.mark.parametrize("read", [open_image, media.read_image], ids=["pipelines", "study"])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(image: Image.Image, *chunks: bytes) -> bytes:
    """A PNG with more chunks after its header."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = buffer.getvalue()
    return data[:33] + b"".join(chunks) + data[33:]


class TestDepth:
    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
    def test_sixteen_bits_are_scaled(self, tmp_path, name):
        Image.fromarray(RAMP).save(tmp_path / name)
        got = np.asarray(open_image(tmp_path / name))
        want = np.rint(RAMP / 257).astype(np.uint8)
        np.testing.assert_array_equal(got, np.repeat(want[..., None], 3, axis=2))

    def test_floating_point_numbers_are_scaled(self, tmp_path):
        numbers = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
        Image.fromarray(numbers).save(tmp_path / "a.tif")
        np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.tif"))[..., 0].ravel(), np.arange(256))

    def test_a_soft_mask_of_sixteen_bits_keeps_its_greys(self, tmp_path):
        Image.fromarray(RAMP).save(tmp_path / "a.png")
        mask, note = open_mask(tmp_path / "a.png", Image.new("RGB", (256, 256)))
        assert note == ""
        assert abs(np.asarray(mask).mean() - 127.5) < 0.01

    @READERS
    def test_the_study_reads_the_same(self, tmp_path, read):
        Image.fromarray(RAMP).save(tmp_path / "a.png")
        assert len(np.unique(np.asarray(read(tmp_path / "a.png")))) == 256

    @pytest.mark.parametrize(
        ("numbers", "words"),
        [
            (np.full((4, 4), 1.5, np.float32), "floating-point numbers outside 0 to 1"),
            (np.full((4, 4), -0.5, np.float32), "floating-point numbers outside 0 to 1"),
            (np.full((4, 4), np.nan, np.float32), "floating-point numbers outside 0 to 1"),
            (np.full((4, 4), 70_000, np.int32), "has 32 bits for each pixel"),
        ],
        ids=["large", "negative", "nan", "32 bits"],
    )
    def test_a_white_that_cannot_be_known_is_refused(self, tmp_path, numbers, words):
        Image.fromarray(numbers).save(tmp_path / "a.tif")
        with pytest.raises(FreeUValueError, match=words):
            open_image(tmp_path / "a.tif")

    @pytest.mark.parametrize(
        ("suffix", "modes"),
        [
            ("png", "1 L LA P RGB RGBA"),
            ("jpg", "L RGB CMYK YCbCr"),
            ("tif", "1 L LA P RGB RGBA CMYK"),
            ("webp", "L RGB RGBA"),
            ("gif", "1 L P RGB RGBA"),
            ("bmp", "1 L P RGB RGBA"),
        ],
    )
    def test_every_mode_comes_out_with_eight_bits(self, tmp_path, suffix, modes):
        for mode in modes.split():
            Image.effect_noise((20, 10), 80).convert("RGB").convert(mode).save(tmp_path / f"a.{suffix}")
            assert read_image(tmp_path / f"a.{suffix}").mode in ("L", "LA", "RGB", "RGBA")
            assert open_image(tmp_path / f"a.{suffix}").size == (20, 10)


@READERS
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_orientation(tmp_path, read, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 8, 8))
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    got = read(tmp_path / f"a.{suffix}")
    assert got.size == (20, 40)
    assert min(got.getpixel((17, 2))) > 200


@pytest.mark.parametrize("numbers", [np.zeros((30, 20, 3), np.uint8), np.zeros((30, 20), np.uint16)], ids=["8", "16"])
def test_orientation_of_a_tiff(tmp_path, numbers):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(numbers).save(tmp_path / "a.tif", exif=exif)
    assert open_image(tmp_path / "a.tif").size == (30, 20)


class TestMask:
    image = Image.new("RGB", (10, 10))

    def opened(self, path: Path, mask: Image.Image) -> tuple[np.ndarray, str]:
        mask.save(path / "mask.png")
        found, note = open_mask(path / "mask.png", self.image)
        assert found.mode == "L"
        return np.asarray(found), note

    @pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (255, 0, 0)])
    def test_strokes_of_one_colour_on_a_transparent_layer(self, tmp_path, colour):
        layer = Image.new("RGBA", (10, 10), (*colour, 0))
        layer.paste((*colour, 255), (2, 3, 5, 6))
        found, note = self.opened(tmp_path, layer)
        assert np.argwhere(found).tolist() == [[y, x] for y in range(3, 6) for x in range(2, 5)]
        assert "its opaque parts are inpainted" in note

    def test_hidden_colours_do_not_count(self, tmp_path):
        layer = Image.new("RGBA", (10, 10), (90, 120, 30, 0))
        layer.paste((255, 255, 255, 255), (2, 3, 5, 6))
        assert self.opened(tmp_path, layer)[0].sum() == 9 * 255

    def test_black_and_white_with_an_alpha_channel(self, tmp_path):
        layer = Image.new("RGBA", (10, 10), (0, 0, 0, 255))
        layer.paste((255, 255, 255, 255), (2, 3, 5, 6))
        layer.paste((255, 255, 255, 0), (7, 7, 9, 9))
        found, note = self.opened(tmp_path, layer)
        assert (found.sum(), note) == (9 * 255, "")

    def test_zero_and_one_from_numpy(self, tmp_path):
        numbers = np.zeros((10, 10), np.uint8)
        numbers[3:6, 2:5] = 1
        found, note = self.opened(tmp_path, Image.fromarray(numbers))
        np.testing.assert_array_equal(found, numbers * 255)
        assert "1 is taken for white" in note

    def test_all_white_is_all_white(self, tmp_path):
        assert self.opened(tmp_path, Image.new("RGBA", (10, 10), "white"))[1] == ""

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (Image.new("L", (10, 10), 0), "black everywhere"),
            (Image.new("RGBA", (10, 10), (255, 255, 255, 0)), "black everywhere"),
            (Image.new("L", (10, 10), 90), "nowhere lighter than 90 of 255"),
            (Image.new("RGB", (10, 10), (128, 0, 0)), "nowhere lighter than 38 of 255"),
        ],
        ids=["black", "clear", "grey", "a label's colour"],
    )
    def test_a_mask_that_would_change_nothing_is_refused(self, tmp_path, mask, words):
        with pytest.raises(FreeUValueError, match=words):
            self.opened(tmp_path, mask)

    def test_a_stroke_that_vanishes_at_the_size_of_the_run_is_refused(self):
        mask = Image.new("L", (1000, 1000))
        mask.putpixel((3, 3), 255)
        with pytest.raises(FreeUValueError, match="nothing of the mask's white is left at 64x64"):
            resized(Image.new("RGB", (1000, 1000)), mask, (64, 64))


class TestHarm:
    """One line, at once."""

    @READERS
    def test_a_bomb(self, tmp_path, read):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
        pixels = chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
        began = time.perf_counter()
        with pytest.raises(FreeUValueError, match="pixels"):
            read(tmp_path / "a.png")
        assert time.perf_counter() - began < 1

    @READERS
    @pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iCCP"])
    def test_texts_of_any_size_are_ignored(self, tmp_path, read, kind):
        text = {
            "tEXt": b"note\0" + bytes(3_000_000),
            "zTXt": b"note\0\0" + zlib.compress(bytes(100_000_000)),
            "iTXt": b"note\0\1\0\0\0" + zlib.compress(bytes(100_000_000)),
            "iCCP": b"note\0\0" + zlib.compress(bytes(100_000_000)),
        }[kind]
        image = Image.effect_noise((20, 10), 80)
        (tmp_path / "a.png").write_bytes(with_chunks(image, chunk(kind.encode(), text)))
        assert read(tmp_path / "a.png").tobytes() == image.convert("RGB").tobytes()

    def test_settings_are_read_beside_other_texts_of_any_size(self, tmp_path):
        data = png_bytes(Image.new("RGB", (4, 4)), {"prompt": "狐狸"})
        more = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(100_000_000)))
        (tmp_path / "a.png").write_bytes(data[:33] + more + data[33:])
        assert read_png(tmp_path / "a.png")["prompt"] == "狐狸"

    def test_compressed_settings_of_any_size(self, tmp_path):
        for size, fine in ((10, True), (1_000_000_000, False)):
            packer = zlib.compressobj()
            text = packer.compress(b'{"schema": 1, "x": "' + b"y" * min(size, 1000))
            for _ in range(size // 1_000_000):
                text += packer.compress(b"y" * 1_000_000)
            text += packer.compress(b'"}') + packer.flush()
            more = chunk(b"iTXt", b"freeu\0\1\0\0\0" + text)
            (tmp_path / "a.png").write_bytes(with_chunks(Image.new("RGB", (4, 4)), more))
            if fine:
                assert read_png(tmp_path / "a.png")["x"] == "y" * 10
            else:
                with pytest.raises(FreeUValueError, match="more than 1000000 characters"):
                    read_png(tmp_path / "a.png")

    def test_a_file_that_would_run_a_program_is_not_opened(self, tmp_path):
        (tmp_path / "a.png").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
        )
        with pytest.raises(FreeUValueError, match="is not an image that Pillow can read"):
            open_image(tmp_path / "a.png")

    def test_a_png_of_a_million_chunks(self, tmp_path):
        (tmp_path / "a.png").write_bytes(with_chunks(Image.new("RGB", (4, 4)), chunk(b"teXt", b"") * 1_000_000))
        with pytest.raises(FreeUValueError, match="more than 100000 chunks"):
            open_image(tmp_path / "a.png")

    @READERS
    def test_half_a_file(self, tmp_path, read):
        for suffix in ("png", "jpg", "webp"):
            path = tmp_path / f"a.{suffix}"
            Image.effect_noise((64, 64), 80).convert("RGB").save(path)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            with pytest.raises(FreeUValueError, match="cannot read"):
                read(path)


def test_several_images_in_one_file(tmp_path):
    frames: list[Any] = [Image.effect_noise((8, 8), spread).convert("RGB") for spread in (10, 90)]
    for suffix in ("png", "webp"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=100)
        assert open_image(tmp_path / f"a.{suffix}").size == (8, 8)
        with pytest.raises(FreeUValueError, match="is animated"):
            media.read_image(tmp_path / f"a.{suffix}")
    frames[0].save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert media.read_image(tmp_path / "phone.jpg").size == (8, 8)


def test_a_profile_text_that_a_tool_wrote(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "x" * 2_000_000, zip=True)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png", pnginfo=info)
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 0, 0)


def test_a_header_that_says_more_than_there_is(tmp_path):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4000, 4000, 8, 6, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(FreeUValueError, match="says 4000x4000 pixels and holds fewer"):
        open_image(tmp_path / "a.png")


def test_messages_stay_readable():
    assert len(str(FreeUValueError("x" * 100_000))) <= 2000
    assert str(FreeUValueError("short")) == "short"

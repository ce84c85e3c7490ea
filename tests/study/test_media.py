"""Files for raters: the same pixels, no metadata, one size in bytes."""

import io
import struct
import zlib

import av
import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin
from study.materials import frames_of, make_image, video

from freeu.study.media.info import NOISE
from freeu.study.media.media import clean_copies, encode_png, noisy_copy, pad_to_equal_size, read_image
from freeu.study.media.video import read_video_info

SECRET = b"SECRET"


def chunks(data):
    """The chunks of a PNG by the specification, each checked against its CRC."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, found = 8, []
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(body)
        found.append((body[:4], length))
        place += 12 + length
    return found


def boxes(data):
    """The outer boxes of an MP4."""
    place, found = 0, []
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        found.append(kind)
        place += length
    assert place == len(data)
    return found


def decoded(data):
    """Pixels of a PNG, read strictly."""
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    with Image.open(io.BytesIO(data)) as image:
        image.verify()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert not {key for key in image.info if key != "private_chunks"}
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def tagged(tmp_path):
    """The same image with everything that files carry along, in three formats."""
    image = make_image("x", "y")
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "SECRET freeu b1=1.3")
    texts.add_text("note", "SECRET note", zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "<x>SECRET</x>")
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    image.save(tmp_path / "a.png", pnginfo=texts, exif=exif, dpi=(72, 72), icc_profile=b"SECRET profile")
    image.save(tmp_path / "b.jpg", exif=exif, comment=b"SECRET comment", quality=95)
    image.save(tmp_path / "c.webp", exif=exif, xmp=b"SECRET xmp", lossless=True)
    return [tmp_path / name for name in ("a.png", "b.jpg", "c.webp")]


def test_images_lose_everything_but_their_pixels(tagged):
    for path, data in zip(tagged, clean_copies(tagged), strict=True):
        assert SECRET in path.read_bytes()
        assert SECRET not in data
        assert {kind for kind, _ in chunks(data)} == {b"IHDR", b"IDAT", b"IEND"}
        with Image.open(path) as image:
            np.testing.assert_array_equal(decoded(data), np.asarray(image.convert("RGB")))


def test_padded_images_have_one_size_and_the_same_pixels():
    flat = Image.new("RGB", (64, 48), "navy")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    plain = [encode_png(image) for image in (flat, make_image("x", "y"), noise)]
    assert len({len(data) for data in plain}) == 3
    padded = pad_to_equal_size(plain)
    assert len({len(data) for data in padded}) == 1
    for before, after in zip(plain, padded, strict=True):
        # All of them have the chunk, or the one without would be known as the largest.
        assert [kind for kind, _ in chunks(after)][-2:] == [b"paDd", b"IEND"]
        np.testing.assert_array_equal(decoded(before), decoded(after))


@pytest.mark.parametrize("difference", [0, 1, 11, 12, 13])
def test_small_differences_in_size_are_padded_too(difference):
    small = encode_png(make_image("x", "y"))
    body = b"teXx" + bytes(difference)
    chunk = struct.pack(">I", difference) + body + struct.pack(">I", zlib.crc32(body))
    base = small[:-12] + struct.pack(">I", 0) + b"teXx" + struct.pack(">I", zlib.crc32(b"teXx")) + small[-12:]
    sizes = {len(data) for data in pad_to_equal_size([base, small[:-12] + chunk + small[-12:]])}
    assert len(sizes) == 1


def test_compression_on_the_way_does_not_bring_sizes_back():
    """A proxy that compresses: the filling of the smaller file must not vanish."""
    flat, noise = Image.new("RGB", (64, 48), "navy"), make_image("x", "y").effect_spread(20)
    small, large = pad_to_equal_size([encode_png(flat), encode_png(noise)])
    assert abs(len(zlib.compress(small, 9)) - len(zlib.compress(large, 9))) < 0.02 * len(large)


def test_noise_is_seeded_strong_and_of_the_same_image(tmp_path):
    # Mid-grey, where clipping takes little away.
    path = tmp_path / "grey.png"
    Image.new("RGB", (64, 64), (128, 128, 128)).save(path)
    noisy = decoded(noisy_copy(path, 3)).astype(float)
    assert noisy.std() == pytest.approx(NOISE, rel=0.1)
    assert noisy.mean() == pytest.approx(128, abs=3)
    assert noisy_copy(path, 3) == noisy_copy(path, 3) != noisy_copy(path, 4)
    make_image("x", "y").save(path)
    smooth = np.asarray(make_image("x", "y")).astype(float)
    assert np.corrcoef(decoded(noisy_copy(path, 3)).ravel(), smooth.ravel())[0, 1] > 0.5


def test_transparent_and_turned_images(tmp_path):
    half = Image.new("RGBA", (4, 2), (255, 0, 0, 255))
    half.putpixel((0, 0), (0, 0, 0, 0))
    half.save(tmp_path / "half.png")
    assert read_image(tmp_path / "half.png").getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    make_image("x", "y").save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (48, 64)


def checked_video(data, path):
    for word in (SECRET, b"x264", b"Lav", b"mp4a", b"\xa9too"):
        assert word not in data
    assert boxes(data).index(b"moov") < boxes(data).index(b"mdat")
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert not {
            key for key in container.metadata if key not in ("major_brand", "minor_version", "compatible_brands")
        }
        assert container.streams.video[0].metadata.get("handler_name") == "VideoHandler"
    return frames_of(path)


def test_videos_lose_sound_and_tags_but_no_bit(tmp_path):
    source = video(tmp_path / "a.mp4", sound=True)
    before = source.read_bytes()
    assert all(word in before for word in (SECRET, b"x264", b"Lav", b"mp4a"))
    (data,) = clean_copies([source])
    np.testing.assert_array_equal(checked_video(data, tmp_path / "out.mp4"), frames_of(source))
    assert read_video_info(tmp_path / "out.mp4") == read_video_info(source)


@pytest.mark.parametrize(
    ("codec", "pixels"), [("mpeg4", "yuv420p"), ("libx264", "yuv444p"), ("libx264rgb", "rgb24")], ids=str
)
def test_other_videos_are_encoded_for_browsers(tmp_path, codec, pixels):
    source = video(tmp_path / "a.mp4", codec=codec, pixels=pixels)
    (data,) = clean_copies([source])
    frames = checked_video(data, tmp_path / "out.mp4")
    assert np.median(np.abs(frames - frames_of(source))) <= 4  # a wrong matrix of colours makes 6
    before, after = read_video_info(source), read_video_info(tmp_path / "out.mp4")
    assert before.shape == after.shape


def test_a_group_is_copied_or_encoded_as_one(tmp_path):
    """Else the one that was encoded again would be the worse one for a reason that is not its arm's."""
    ready, other = video(tmp_path / "a.mp4"), video(tmp_path / "b.mp4", codec="mpeg4")
    alone, together = clean_copies([ready])[0], clean_copies([ready, other])[0]
    assert alone != together
    assert b"avcC" in alone
    # mpeg4 is gone from both, and the first was encoded anew.
    assert not np.array_equal(checked_video(together, tmp_path / "c.mp4"), frames_of(ready))


def test_padded_videos_play_the_same(tmp_path):
    paths = [video(tmp_path / "a.mp4"), video(tmp_path / "b.mp4", frames=20)]
    plain = clean_copies(paths)
    padded = pad_to_equal_size(plain)
    assert len(plain[0]) != len(plain[1])
    assert len(padded[0]) == len(padded[1])
    for source, data in zip(paths, padded, strict=True):
        assert boxes(data)[-1] == b"free"
        np.testing.assert_array_equal(checked_video(data, tmp_path / "out.mp4"), frames_of(source))


def test_noisy_videos(tmp_path):
    source = video(tmp_path / "a.mp4")
    frames, before = checked_video(noisy_copy(source, 3), tmp_path / "out.mp4"), frames_of(source)
    assert frames.shape == before.shape
    assert np.abs(frames - before).mean() > 30
    assert np.corrcoef(frames.ravel(), before.ravel())[0, 1] > 0.3
    assert read_video_info(tmp_path / "out.mp4").shape == read_video_info(source).shape

"""Files for raters: the same pixels, no metadata, one size in bytes."""

import io
import struct
import zlib
from fractions import Fraction

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


def test_videos_lose_sound_and_tags_and_nothing_that_is_seen(tmp_path):
    source = video(tmp_path / "a.mp4", sound=True)
    before = source.read_bytes()
    assert all(word in before for word in (SECRET, b"x264", b"Lav", b"mp4a"))
    (data,) = clean_copies([source])
    frames = checked_video(data, tmp_path / "out.mp4")
    assert np.median(np.abs(frames.astype(float) - frames_of(source))) <= 2
    assert read_video_info(tmp_path / "out.mp4").shape == read_video_info(source).shape


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


def box(data, kind):
    """The content of the first box of a kind."""
    at = data.index(kind)
    (length,) = struct.unpack(">I", data[at - 4 : at])
    return data[at + 4 : at - 4 + length]


def told(data):
    """What an MP4 tells besides its frames: settings of the stream, units of time, and when frames are shown."""
    return [box(data, kind) for kind in (b"avcC", b"mdhd", b"stts", b"ftyp", b"mvhd")] + [data.count(b"colr")]


STYLES = {
    "baseline": {"profile": "baseline"},
    "main": {"profile": "main", "bf": "0", "refs": "1"},
    "high": {"preset": "slow", "x264-params": "colorprim=bt709:transfer=bt709:colormatrix=bt709"},
    "full range": {"x264-params": "fullrange=1"},
}


@pytest.mark.parametrize("first", STYLES)
@pytest.mark.parametrize("second", STYLES)
@pytest.mark.parametrize("scale", [1, 7])
def test_nothing_tells_which_program_wrote_a_video(tmp_path, first, second, scale):
    """Not the profile, not the units of time, not the tags of colour."""
    paths = [written(tmp_path / "a.mp4", STYLES[first], 1), written(tmp_path / "b.mp4", STYLES[second], scale)]
    one, other = clean_copies(paths)
    assert told(one) == told(other)
    for path, data in zip(paths, (one, other), strict=True):
        assert read_video_info(path).shape[:3] == read_video_info(checked(data, tmp_path / "c.mp4")).shape[:3]


def test_copies_are_as_good_whether_or_not_they_could_be_copied(tmp_path):
    """The file that needs no new encoding gets one like the others."""
    ready, other = video(tmp_path / "a.mp4"), video(tmp_path / "b.mp4", codec="mpeg4")
    together = clean_copies([ready, other])
    assert told(together[0]) == told(together[1])
    assert not np.array_equal(checked_video(together[0], tmp_path / "c.mp4"), frames_of(ready))


def test_frames_that_are_not_evenly_spaced_keep_their_times(tmp_path):
    times = [0, 100, 250, 300, 700]
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), time % 256, np.uint8), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (data,) = clean_copies([path])
    with av.open(str(checked(data, tmp_path / "b.mp4"))) as container:
        assert [round(1000 * frame.time) for frame in container.decode(video=0)] == times


def checked(data, path):
    """The file of an MP4."""
    path.write_bytes(data)
    return path


def written(path, options, scale):
    """A moving square by x264 with these settings, in units of time of its own."""
    with av.open(str(path), "w", options={"video_track_timescale": str(8 * 1000 * scale)}) as container:
        stream = container.add_stream("libx264", rate=8, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            image = np.full((48, 64, 3), 40, np.uint8)
            image[10:30, 3 * number : 3 * number + 20] = (200, 30 * scale, 60)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


def test_padded_videos_play_the_same(tmp_path):
    paths = [video(tmp_path / "a.mp4"), video(tmp_path / "b.mp4", frames=20)]
    plain = [clean_copies([path])[0] for path in paths]
    padded = pad_to_equal_size(plain)
    assert len(plain[0]) != len(plain[1])
    assert len(padded[0]) == len(padded[1])
    for number, (before, after) in enumerate(zip(plain, padded, strict=True)):
        assert boxes(after)[-1] == b"free"
        np.testing.assert_array_equal(
            checked_video(after, tmp_path / f"{number}.mp4"), checked_video(before, tmp_path / f"{number}b.mp4")
        )


def test_noisy_videos(tmp_path):
    source = video(tmp_path / "a.mp4")
    frames, before = checked_video(noisy_copy(source, 3), tmp_path / "out.mp4"), frames_of(source)
    assert frames.shape == before.shape
    assert np.abs(frames - before).mean() > 30
    assert np.corrcoef(frames.ravel(), before.ravel())[0, 1] > 0.3
    assert read_video_info(tmp_path / "out.mp4").shape == read_video_info(source).shape

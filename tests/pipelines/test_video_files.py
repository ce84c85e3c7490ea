"""Files with videos: what is written comes back, a frame at a time, and foreign files do no harm."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.pipelines.io.clip_files import FORMATS, MAX_FRAMES, ClipWriter, comment_of, read_clip

SIZE, COUNT = (64, 48), 13
COMMENT = json.dumps({"prompt": 'ein Fuchs, 日本 "x" <b>', "long": "y" * 5000}, ensure_ascii=False)


def moving(count: int = COUNT) -> Iterator[Any]:
    """Frames that all differ: a square that runs over a gradient."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    for number in range(count):
        frame = np.stack([x * 255 // SIZE[0], y * 255 // SIZE[1], np.full_like(x, 90)], -1).astype(np.uint8)
        frame[8:24, 3 * number : 3 * number + 16] = (220, 30, 30)
        yield frame


def written(path: Path, frames: Any = None, form: str | None = None, fps: float = 8) -> Path:
    with ClipWriter(path, form or path.suffix[1:], fps, *SIZE, comment=COMMENT) as writer:
        for frame in moving() if frames is None else frames:
            writer.add(frame)
    return path


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("fps", [7, 8, 24])
def test_frames_come_back_in_order_and_time(form: str, fps: int, tmp_path: Path) -> None:
    clip = read_clip(written(tmp_path / f"clip.{form}", fps=fps))
    assert (clip.width, clip.height, clip.frames, len(clip)) == (*SIZE, COUNT, COUNT)
    assert clip.fps == pytest.approx(fps, rel=0.01)
    got = list(clip)
    assert len(got) == COUNT
    wanted = list(moving())
    for number, frame in enumerate(got):
        assert frame.dtype == np.uint8
        apart = [np.abs(frame.astype(int) - other).mean() for other in wanted]
        assert int(np.argmin(apart)) == number, "every frame is nearest to the one that was written"
        assert apart[number] < 4.0


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (230, 20, 20), (20, 200, 40), (30, 60, 220)])
def test_colours_are_kept(form: str, colour: tuple[int, int, int], tmp_path: Path) -> None:
    plain = np.broadcast_to(np.array(colour, np.uint8), (*SIZE[::-1], 3))
    for frame in read_clip(written(tmp_path / f"clip.{form}", [plain, plain])):
        assert np.abs(frame.astype(int) - colour).max() <= 4


def test_an_mp4_plays_everywhere_and_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mp4")
    data = path.read_bytes()
    assert b"x264" not in data
    assert b"Lavf" not in data
    assert data.index(b"moov") < data.index(b"mdat"), "fast start"
    assert comment_of(path) == COMMENT
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", *SIZE)
        assert (stream.frames, stream.average_rate, stream.duration * stream.time_base) == (COUNT, 8, COUNT / 8)
        assert container.metadata.keys() == {"major_brand", "minor_version", "compatible_brands", "comment"}
        assert not container.streams.audio
    assert written(tmp_path / "again.mp4").read_bytes() == data


@pytest.mark.parametrize("form", ["webp", "gif"])
def test_moving_pictures_loop(form: str, tmp_path: Path) -> None:
    with Image.open(written(tmp_path / f"clip.{form}")) as image:
        assert image.n_frames == COUNT
        assert image.info["loop"] == 0


def test_equal_frames_in_a_row_come_back_one_by_one(tmp_path: Path) -> None:
    frames = list(moving(4))
    frames = [frames[0], frames[1], frames[1], frames[1], frames[2], frames[3]]
    pictures = [Image.fromarray(frame) for frame in frames]
    for name, options in (("a.png", {}), ("a.gif", {}), ("a.webp", {"lossless": True})):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=120, loop=0, **options)
        clip = read_clip(tmp_path / name)
        assert (clip.frames, round(clip.fps, 2)) == (6, 8.33)
        got = list(clip)
        assert len(got) == 6
        if name != "a.gif":
            assert np.array_equal(got, frames)


def test_webm_and_stills_are_read(tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10, options={"crf": "20", "b": "0"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for frame in moving(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    clip = read_clip(path)
    assert (clip.width, clip.height, clip.frames, len(list(clip)), clip.fps) == (*SIZE, 5, 5, 10.0)
    Image.new("RGBA", (6, 4), (0, 0, 0, 0)).save(tmp_path / "still.png")
    (frame,) = read_clip(tmp_path / "still.png")
    assert frame.shape == (4, 6, 3)
    assert (frame == 255).all(), "transparent parts are white"


def _cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "suffix": ("a.avi", lambda path: path.write_bytes(b"RIFF"), "is no video that freeu reads: use .mp4"),
    "missing": ("a.mp4", lambda path: None, "cannot read .*a.mp4 as MP4: No such file"),
    "empty": ("a.mp4", lambda path: path.write_bytes(b""), "cannot read .*a.mp4 as MP4"),
    "text": ("a.webm", lambda path: path.write_text("no video"), "cannot read .*a.webm as WebM"),
    "half an mp4": ("a.mp4", lambda path: _cut(written(path), 0.9), "frames: it is damaged|in frame|cannot read"),
    "no frame": ("a.mp4", lambda path: _cut(written(path), 0.5), "shows no frame: it is empty or damaged|cannot read"),
    "another kind": ("a.gif", lambda path: Image.new("RGB", (8, 8)).save(path, format="PNG"), "as GIF: it is some"),
    "no image": ("a.png", lambda path: path.write_text("text"), "as PNG: it is something else or damaged"),
    "half a webp": ("a.webp", lambda path: _cut(written(path), 0.5), "cannot read .*a.webp"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_and_foreign_files_are_one_line(case: str, tmp_path: Path) -> None:
    name, make, expected = BAD[case]
    make(tmp_path / name)
    with pytest.raises(FreeUValueError, match=expected):
        list(read_clip(tmp_path / name))


def test_a_playlist_named_as_a_video_reads_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(written(tmp_path / "real.mp4").read_bytes())
    lists = {"a.mp4": f"ffconcat version 1.0\nfile '{tmp_path / 'secret.mp4'}'\n", "b.mp4": "#EXTM3U\nsecret.mp4\n"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(FreeUValueError, match="cannot read"):
            read_clip(tmp_path / name)


def test_too_many_frames_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freeu.pipelines.io.clip_files.MAX_FRAMES", COUNT - 1)
    assert MAX_FRAMES > COUNT
    for form in FORMATS:
        with pytest.raises(FreeUValueError, match="more than 12 frames: cut it"):
            read_clip(written(tmp_path / f"clip.{form}"))


def test_odd_sides_and_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FreeUValueError, match="even sides, got 63x48"):
        ClipWriter(tmp_path / "a.mp4", "mp4", 8, 63, 48)
    with pytest.raises(FreeUValueError, match="mp4, webp, gif, got 'avi'"):
        ClipWriter(tmp_path / "a.avi", "avi", 8, 64, 48)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_an_os_error() -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        written(Path("/dev/full"), moving(60), form="gif")

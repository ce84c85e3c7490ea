"""The video that comes in: read a frame at a time, refused in one line where it cannot serve, its sound kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_videos import film, heard, timed, tone
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.pipelines.io.clip_files import read_clip
from freeu.rerender.video.sound import with_sound
from freeu.rerender.video.source import frames_sha, open_source


def test_a_film_is_read_twice_alike(tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "in.mp4"))
    first, second = list(source), list(source)
    assert len(source) == len(first) == 12
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not source.sound
    assert source.size == (64, 64)
    assert frames_sha(source) == frames_sha(open_source(source.path))


def test_only_the_first_frames(tmp_path: Path) -> None:
    path = film(tmp_path / "in.mp4")
    some = open_source(path, 5)
    assert len(list(some)) == len(some) == 5
    assert frames_sha(some) != frames_sha(open_source(path))
    assert len(open_source(path, 500)) == 12


def test_at_another_size(tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "in.mp4")).at((48, 32))
    frames = list(source)
    assert all(frame.shape == (32, 48, 3) for frame in frames)
    grey = [np.asarray(Image.fromarray(one).resize((48, 32), Image.Resampling.BOX)) for one in read_clip(source.path)]
    assert np.abs(np.array(frames).astype(int) - np.array(grey)).mean() < 3.0


@pytest.mark.parametrize(
    ("lasting", "refused"),
    [([40] * 8, False), ([41, 42] * 4, False), ([40, 40, 40, 120, 40, 40], True), ([20, 80] * 4, True)],
)
def test_a_variable_frame_rate_is_refused(lasting: list[int], refused: bool, tmp_path: Path) -> None:
    path = timed(tmp_path / "in.mp4", lasting)
    if refused:
        with pytest.raises(FreeUValueError, match=r"variable frame rate .*ffmpeg -i in\.mp4 -r "):
            open_source(path)
    else:
        assert len(open_source(path)) == len(lasting)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    empty, broken, still, text = (tmp_path / name for name in ("a.mp4", "b.mp4", "c.png", "d.txt"))
    empty.touch()
    whole = film(tmp_path / "whole.mp4").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (64, 64)).save(still)
    text.write_text("no")
    for path in (empty, broken, text, tmp_path / "none.mp4"):
        with pytest.raises(FreeUValueError):
            open_source(path)
    with pytest.raises(FreeUValueError, match="has 1 frame: a video has at least 2"):
        open_source(still)
    with pytest.raises(FreeUValueError, match="--frames 1 uses one of them"):
        open_source(tmp_path / "whole.mp4", 1)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_is_kept(codec: str, tmp_path: Path) -> None:
    source = heard(tmp_path / "in.mov", codec)
    assert open_source(source).sound
    pictures, target = film(tmp_path / "out.mp4"), tmp_path / "heard.mp4"
    with_sound(pictures, source, target)
    assert np.array_equal(list(read_clip(target)), list(read_clip(pictures))), "no image is encoded anew"
    samples, rate = tone(target)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * rate / len(samples) == pytest.approx(440, abs=8)
    assert len(samples) / rate == pytest.approx(1.0, abs=0.08)
    if codec == "aac":
        then, _ = tone(source)
        assert np.array_equal(then[: len(samples)], samples), "sound that MP4 holds is not encoded anew"


def test_sound_ends_with_the_pictures(tmp_path: Path) -> None:
    source = heard(tmp_path / "in.mov", "aac", seconds=3.0)
    pictures, target = film(tmp_path / "out.mp4", count=6), tmp_path / "heard.mp4"
    with_sound(pictures, source, target)
    samples, rate = tone(target)
    assert len(samples) / rate == pytest.approx(0.5, abs=0.08)

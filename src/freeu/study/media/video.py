"""Videos for raters: H.264 in MP4 without sound and metadata, which every browser plays."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.pipelines.io.clip_files import (
    CLEAN,
    COLOUR,
    NO_TAGS,
    YUV420,
    RemarkFilter,
    as_yuv420,
    check_frame,
    open_video,
)
from freeu.study.media.info import MediaInfo, add_noise
from freeu.wording import counted

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer

SAME_SECONDS = 0.002
"""Frames of one rate are this close to it: containers round times to their own units."""
# Frames in the order in which they are shown: whether x264 reorders them depends on the images, and changes the
# duration that the file states. Without the macroblock tree, equal frames make equal bytes.
ALIKE = {**CLEAN, "bf": "0", "x264-params": "mbtree=0"}
"""x264 settings for every copy."""
NOISY = {**ALIKE, "crf": "28"}
"""x264 settings for noisy copies: noise needs many bits, and its details do not matter."""


def read_video_info(path: Path) -> MediaInfo:
    """Decode a whole video and read its size and content.

    Raises:
        FreeUValueError: damaged, not an MP4, without frames, rotated, of odd width or height, or too large or long.
    """
    need("study-video", "av")
    digest, count, size, first, last = hashlib.sha256(), 0, (0, 0), 0.0, 0.0
    with open_video(path) as (container, stream):
        for frame in container.decode(stream):
            count += 1
            size = frame.width, frame.height
            _check_frame(path, frame, count)
            digest.update(frame.to_ndarray(format="rgb24").tobytes())
            last = float(frame.time or 0.0)
            first = last if count == 1 else first
        if count < max(1, stream.frames):
            raise FreeUValueError(
                f"{path} is damaged: only {count} of its {counted(max(1, stream.frames), 'frame')} can be decoded"
            )
    return MediaInfo(*size, digest.hexdigest(), count, round(last - first, 3))


def _check_frame(path: Path, frame: VideoFrame, number: int) -> None:
    check_frame(path, frame, number)
    if frame.width % 2 or frame.height % 2:
        raise FreeUValueError(f"{path} is {frame.width}x{frame.height}: browsers need videos of even width and height")


def copy_videos(paths: Sequence[Path]) -> list[bytes]:
    """The videos of one group without sound and metadata, all encoded anew with one encoder and one set of settings.

    A stream that is copied keeps the profile, the time base and the colour tags of the program that wrote it, which
    tells the arm where arms come from different programs.

    Args:
        paths: as ``read_video_info`` accepts them.
    """
    style = _style_of(paths)
    return [_encoded(path, ALIKE, style, None) for path in paths]


def noisy_video(path: Path, seed: int) -> bytes:
    """The video with strong Gaussian noise, for attention checks.

    Args:
        path: as ``read_video_info`` accepts it.
        seed: of the noise.
    """
    return _encoded(path, NOISY, _style_of([path]), np.random.default_rng(seed))


@dataclass(frozen=True)
class _Style:
    """What the videos of one group have in common.

    Args:
        rate: frames per second that the stream states.
        even: whether frames follow each other at that rate; else each has its own time, in milliseconds.
        colour: tags of the stream by name.
        kept: whether frames are in these colours already.
    """

    rate: Fraction
    even: bool
    colour: Mapping[str, int]
    kept: bool

    def place(self, number: int, seconds: float) -> tuple[int, Fraction]:
        """Time stamp and time base of a frame.

        Args:
            number: of the frame, from 0.
            seconds: after the first frame.
        """
        return (number, 1 / self.rate) if self.even else (round(seconds * 1_000), Fraction(1, 1_000))


def _style_of(paths: Sequence[Path]) -> _Style:
    times, rates, colours = [], [], []
    for path in paths:
        with open_video(path) as (container, stream):
            context, base = stream.codec_context, stream.time_base or Fraction(1, 90_000)
            colours.append((context.pix_fmt, {name: int(getattr(context, name)) for name in COLOUR}))
            rates.append(stream.average_rate or Fraction(25))
            found = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
            times.append([float((one - found[0]) * base) for one in found])
    step = times[0][-1] / (len(times[0]) - 1) if len(times[0]) > 1 else 0.0
    even = step > 0.0 and all(
        abs(one - number * step) <= SAME_SECONDS for found in times for number, one in enumerate(found)
    )
    kept = colours[0][0] == YUV420 and all(one == colours[0] for one in colours)
    rate = Fraction(1 / step).limit_denominator(1001) if even else Fraction(rates[0])
    return _Style(rate, even, colours[0][1] if kept else COLOUR, kept)


@contextlib.contextmanager
def _written() -> Iterator[tuple[OutputContainer, list[bytes]]]:
    """A new MP4 without tags, and a list that contains its bytes afterwards. Fast start needs a real file."""
    import av

    result: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with av.open(str(path), "w", format="mp4", options=NO_TAGS) as container:
            yield container, result
        result.append(path.read_bytes())


def _encoded(path: Path, quality: dict[str, str], style: _Style, noise: np.random.Generator | None) -> bytes:
    from av import VideoFrame

    with _written() as (output, result), open_video(path) as (container, stream):
        target = output.add_stream("libx264", rate=style.rate, options=quality)
        source, context = stream.codec_context, target.codec_context
        context.width, context.height, context.pix_fmt = source.width, source.height, YUV420
        context.time_base = style.place(0, 0.0)[1]
        for name, value in style.colour.items():
            setattr(context, name, value)
        remarks = RemarkFilter(target)
        start = 0.0
        for number, frame in enumerate(container.decode(stream)):
            plain = frame if style.kept else as_yuv420(frame)
            if noise is not None:
                pixels = np.asarray(plain.to_ndarray(), dtype=np.uint8)
                plain = VideoFrame.from_ndarray(add_noise(pixels, noise), YUV420)
            time = float(frame.time or 0.0)
            start = start if number else time
            (plain.pts, plain.time_base), plain.pict_type = style.place(number, time - start), 0
            for packet in target.encode(plain):
                output.mux(remarks(packet))
        for packet in target.encode():
            output.mux(remarks(packet))
    return result[0]

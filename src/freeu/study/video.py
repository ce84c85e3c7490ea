"""Videos for raters: H.264 in MP4 with neither sound nor metadata, which every browser plays."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from freeu.errors import FreeUValueError
from freeu.pipelines.extras import need
from freeu.study.media import Look, add_noise

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

MAX_FRAMES, MAX_PIXELS = 3_000, 4096 * 4096
"""Of one video; pixels of one frame."""
CODEC, FORMAT = "h264", "yuv420p"
CLEAN = {"crf": "14", "preset": "medium"}
"""For x264: no difference to the original that could be seen."""
NOISED = {"crf": "28", "preset": "medium"}
"""Noise is expensive, and nobody looks at its details."""
NO_TAGS = {"movflags": "+faststart", "fflags": "+bitexact"}
"""For the MP4: plays before it has come whole, and does not tell what wrote it."""
NO_REMARKS = "filter_units=remove_types=6"
"""x264 writes its version and settings into the stream itself, as remarks (SEI) between the pictures."""
COLOUR = {"colorspace": 1, "color_range": 1, "color_primaries": 2, "color_trc": 2}
"""BT.709 in video range, for what comes as anything but YUV 4:2:0."""


def look_at_video(path: Path) -> Look:
    """Decode a whole video, and tell what it shows.

    Raises:
        FreeUValueError: damaged, no MP4, without pictures, rotated, of odd sides, or too large or long.
    """
    need("study", "av")
    digest, count, size, first, last = hashlib.sha256(), 0, (0, 0), 0.0, 0.0
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            count += 1
            size = frame.width, frame.height
            _check_frame(path, frame, count)
            digest.update(frame.to_ndarray(format="rgb24").tobytes())
            last = float(frame.time or 0.0)
            first = last if count == 1 else first
        if count < max(1, stream.frames):
            raise FreeUValueError(f"{path} shows {count} of its {max(1, stream.frames)} frames: it is damaged")
    return Look(*size, digest.hexdigest(), count, round(last - first, 3))


def _check_frame(path: Path, frame: VideoFrame, number: int) -> None:
    if number > MAX_FRAMES:
        raise FreeUValueError(f"{path} has more than {MAX_FRAMES} frames: cut it")
    if frame.width * frame.height > MAX_PIXELS:
        raise FreeUValueError(f"{path} is {frame.width}x{frame.height}, above {MAX_PIXELS} pixels: make it smaller")
    if frame.width % 2 or frame.height % 2:
        raise FreeUValueError(f"{path} is {frame.width}x{frame.height}: videos for browsers have even sides")
    if frame.rotation:
        raise FreeUValueError(f"{path} is to be shown rotated by {frame.rotation} degrees: encode it upright")
    if frame.is_corrupt:
        raise FreeUValueError(f"{path} is damaged in frame {number}")


def copy_videos(paths: Sequence[Path]) -> list[bytes]:
    """The videos of one group without sound and metadata: all copied bit by bit, or, if one cannot be, all encoded.

    Args:
        paths: as ``look_at_video`` accepts them.
    """
    ready = all(_is_ready(path) for path in paths)
    return [_copied(path) if ready else _encoded(path, CLEAN, None) for path in paths]


def noised_video(path: Path, seed: int) -> bytes:
    """The same video under strong Gaussian noise, for attention checks.

    Args:
        path: as ``look_at_video`` accepts it.
        seed: of the noise.
    """
    return _encoded(path, NOISED, np.random.default_rng(seed))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Only as MP4, and only these bytes: what else FFmpeg reads may name other files and addresses."""
    import av

    try:
        with path.open("rb") as file, av.open(file, "r", format="mp4") as container:
            if not container.streams.video:
                raise FreeUValueError(f"{path} shows no picture: it has no video stream")
            yield container, container.streams.video[0]
    except (OSError, av.FFmpegError) as error:
        raise FreeUValueError(f"cannot read {path} as MP4: {error.strerror or error}") from None


def _is_ready(path: Path) -> bool:
    """Whether every browser plays the stream as it is, from its beginning."""
    with _opened(path) as (_, stream):
        context = stream.codec_context
        return (context.name, context.pix_fmt) == (CODEC, FORMAT) and not stream.start_time


@contextlib.contextmanager
def _written() -> Iterator[tuple[OutputContainer, list[bytes]]]:
    """An MP4 without tags, and a list that holds its bytes afterwards. FFmpeg needs a real file for a fast start."""
    import av

    result: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with av.open(str(path), "w", format="mp4", options=NO_TAGS) as container:
            yield container, result
        result.append(path.read_bytes())


def _copied(path: Path) -> bytes:
    from av.bitstream import BitStreamFilterContext

    with _written() as (output, result), _opened(path) as (container, stream):
        target = output.add_stream_from_template(stream)
        remarks = BitStreamFilterContext(NO_REMARKS, stream, target)
        for packet in container.demux(stream):
            # The packet without a time ends the stream.
            for kept in remarks.filter(packet if packet.dts is not None else None):
                kept.stream = target
                output.mux(kept)
    return result[0]


def _encoded(path: Path, quality: dict[str, str], noise: np.random.Generator | None) -> bytes:
    from av import VideoFrame
    from av.bitstream import BitStreamFilterContext

    with _written() as (output, result), _opened(path) as (container, stream):
        target = output.add_stream("libx264", rate=stream.average_rate, options=quality)
        source, context = stream.codec_context, target.codec_context
        context.width, context.height, context.pix_fmt = source.width, source.height, FORMAT
        context.time_base = stream.time_base or Fraction(1, 90_000)
        kept = source.pix_fmt == FORMAT
        for name, value in COLOUR.items():
            setattr(context, name, getattr(source, name) if kept else value)
        remarks = BitStreamFilterContext(NO_REMARKS, CODEC)
        start: int | None = None
        for frame in container.decode(stream):
            plain = frame if kept else frame.reformat(format=FORMAT, dst_colorspace=1, dst_color_range=1)
            if noise is not None:
                pixels = np.asarray(plain.to_ndarray(), dtype=np.uint8)
                plain = VideoFrame.from_ndarray(add_noise(pixels, noise), FORMAT)
            time = frame.pts or 0
            start = time if start is None else start
            plain.pts, plain.time_base, plain.pict_type = time - start, frame.time_base, 0
            for packet in target.encode(plain):
                output.mux(remarks.filter(packet))
        for packet in target.encode():
            output.mux(remarks.filter(packet))
    return result[0]

"""Videos for raters: H.264 in MP4 without sound and metadata, which every browser plays."""

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
from freeu.extras import need
from freeu.pipelines.io.clip_files import (
    CLEAN,
    COLOUR,
    H264,
    NO_REMARKS,
    NO_TAGS,
    YUV420,
    RemarkFilter,
    as_yuv420,
    check_frame,
    open_video,
)
from freeu.study.media.info import MediaInfo, add_noise

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer

NOISY = {"crf": "28", "preset": "medium"}
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
                f"{path} is damaged: only {count} of its {max(1, stream.frames)} frames can be decoded"
            )
    return MediaInfo(*size, digest.hexdigest(), count, round(last - first, 3))


def _check_frame(path: Path, frame: VideoFrame, number: int) -> None:
    check_frame(path, frame, number)
    if frame.width % 2 or frame.height % 2:
        raise FreeUValueError(f"{path} is {frame.width}x{frame.height}: browsers need videos of even width and height")


def copy_videos(paths: Sequence[Path]) -> list[bytes]:
    """The videos of one group without sound and metadata: all copied, or all re-encoded if one cannot be copied.

    Args:
        paths: as ``read_video_info`` accepts them.
    """
    ready = all(_is_ready(path) for path in paths)
    return [_copied(path) if ready else _encoded(path, CLEAN, None) for path in paths]


def noisy_video(path: Path, seed: int) -> bytes:
    """The video with strong Gaussian noise, for attention checks.

    Args:
        path: as ``read_video_info`` accepts it.
        seed: of the noise.
    """
    return _encoded(path, NOISY, np.random.default_rng(seed))


def _is_ready(path: Path) -> bool:
    """Whether every browser plays the stream without re-encoding, from its beginning."""
    with open_video(path) as (_, stream):
        context = stream.codec_context
        return (context.name, context.pix_fmt) == (H264, YUV420) and not stream.start_time


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


def _copied(path: Path) -> bytes:
    from av.bitstream import BitStreamFilterContext

    with _written() as (output, result), open_video(path) as (container, stream):
        target = output.add_stream_from_template(stream)
        remarks = BitStreamFilterContext(NO_REMARKS, stream, target)
        for packet in container.demux(stream):
            # The packet without a timestamp flushes the stream.
            for kept in remarks.filter(packet if packet.dts is not None else None):
                kept.stream = target
                output.mux(kept)
    return result[0]


def _encoded(path: Path, quality: dict[str, str], noise: np.random.Generator | None) -> bytes:
    from av import VideoFrame

    with _written() as (output, result), open_video(path) as (container, stream):
        target = output.add_stream("libx264", rate=stream.average_rate, options=quality)
        source, context = stream.codec_context, target.codec_context
        context.width, context.height, context.pix_fmt = source.width, source.height, YUV420
        context.time_base = stream.time_base or Fraction(1, 90_000)
        kept = source.pix_fmt == YUV420
        for name, value in COLOUR.items():
            setattr(context, name, getattr(source, name) if kept else value)
        remarks = RemarkFilter(target)
        start: int | None = None
        for frame in container.decode(stream):
            plain = frame if kept else as_yuv420(frame)
            if noise is not None:
                pixels = np.asarray(plain.to_ndarray(), dtype=np.uint8)
                plain = VideoFrame.from_ndarray(add_noise(pixels, noise), YUV420)
            time = frame.pts or 0
            start = time if start is None else start
            plain.pts, plain.time_base, plain.pict_type = time - start, frame.time_base, 0
            for packet in target.encode(plain):
                output.mux(remarks(packet))
        for packet in target.encode():
            output.mux(remarks(packet))
    return result[0]

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
from freeu.extras import need
from freeu.pipelines.io.clip_files import CLEAN, COLOUR, H264, NO_REMARKS, NO_TAGS, YUV420, check_frame, open_video
from freeu.study.media.look import Look, add_noise

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer

NOISED = {"crf": "28", "preset": "medium"}
"""For x264: noise is expensive, and nobody looks at its details."""


def look_at_video(path: Path) -> Look:
    """Decode a whole video, and tell what it shows.

    Raises:
        FreeUValueError: damaged, no MP4, without images, rotated, of odd sides, or too large or long.
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
            raise FreeUValueError(f"{path} shows {count} of its {max(1, stream.frames)} frames: it is damaged")
    return Look(*size, digest.hexdigest(), count, round(last - first, 3))


def _check_frame(path: Path, frame: VideoFrame, number: int) -> None:
    check_frame(path, frame, number)
    if frame.width % 2 or frame.height % 2:
        raise FreeUValueError(f"{path} is {frame.width}x{frame.height}: videos for browsers have even sides")


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


def _is_ready(path: Path) -> bool:
    """Whether every browser plays the stream as it is, from its beginning."""
    with open_video(path) as (_, stream):
        context = stream.codec_context
        return (context.name, context.pix_fmt) == (H264, YUV420) and not stream.start_time


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

    with _written() as (output, result), open_video(path) as (container, stream):
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

    with _written() as (output, result), open_video(path) as (container, stream):
        target = output.add_stream("libx264", rate=stream.average_rate, options=quality)
        source, context = stream.codec_context, target.codec_context
        context.width, context.height, context.pix_fmt = source.width, source.height, YUV420
        context.time_base = stream.time_base or Fraction(1, 90_000)
        kept = source.pix_fmt == YUV420
        for name, value in COLOUR.items():
            setattr(context, name, getattr(source, name) if kept else value)
        remarks = BitStreamFilterContext(NO_REMARKS, H264)
        start: int | None = None
        for frame in container.decode(stream):
            plain = frame if kept else frame.reformat(format=YUV420, dst_colorspace=1, dst_color_range=1)
            if noise is not None:
                pixels = np.asarray(plain.to_ndarray(), dtype=np.uint8)
                plain = VideoFrame.from_ndarray(add_noise(pixels, noise), YUV420)
            time = frame.pts or 0
            start = time if start is None else start
            plain.pts, plain.time_base, plain.pict_type = time - start, frame.time_base, 0
            for packet in target.encode(plain):
                output.mux(remarks.filter(packet))
        for packet in target.encode():
            output.mux(remarks.filter(packet))
    return result[0]

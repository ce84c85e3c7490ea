"""Add the sound of the source video to the output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.pipelines.io.clip_files import NO_TAGS, open_video

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
"""Codecs that are copied into MP4; others are converted to AAC."""


def with_sound(silent: Path, source: Path, target: Path) -> None:
    """Write an MP4 with the video stream of one file and the sound of another, as long as the video.

    The video is not re-encoded, and neither is sound that MP4 can hold.

    Args:
        silent: an MP4 of ``ClipWriter``, which begins at time 0.
        source: a video with sound; its first frame is at time 0.
        target: the file to write.

    Raises:
        FreeUValueError: the sound cannot be decoded.
        OSError: the file cannot be written.
    """
    import av

    with open_video(silent) as (file, video), open_video(source) as (heard, other):
        try:
            with av.open(str(target), "w", format="mp4", options=dict(NO_TAGS)) as made:
                made.metadata.update(file.metadata)
                stream = made.add_stream_from_template(video)
                end = float(video.duration * video.time_base) if video.duration and video.time_base else float("inf")
                begin = Fraction(other.start_time or 0) * (other.time_base or Fraction(1))
                _mux(made, _video(file.demux(video), stream), _audio(heard, made, begin), end)
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror or str(error), str(target)) from None


def _video(packets: Iterator[Packet[Any]], stream: Any) -> Iterator[Packet[Any]]:
    for packet in packets:
        if packet.dts is not None:
            packet.stream = stream
            yield packet


def _mux(made: OutputContainer, video: Iterator[Packet[Any]], audio: Iterator[Packet[Any]], end: float) -> None:
    """Write both in the order of time, so that neither is buffered; sound ends with the video."""
    waiting = next(audio, None)
    for packet in video:
        while waiting is not None and _time(waiting) <= _time(packet):
            made.mux(waiting)
            waiting = next(audio, None)
        made.mux(packet)
    while waiting is not None and _time(waiting) < end:
        made.mux(waiting)
        waiting = next(audio, None)


def _time(packet: Packet[Any]) -> float:
    """Decoding time of a packet, in seconds."""
    assert packet.dts is not None
    assert packet.time_base is not None
    return float(packet.dts * packet.time_base)


def _audio(source: Any, made: OutputContainer, begin: Fraction) -> Iterator[Packet[Any]]:
    """The packets of the first audio stream from ``begin`` (in seconds), which becomes time 0."""
    audio = source.streams.audio[0]
    later = round(begin / audio.time_base)
    if audio.codec_context.name in COPIED:
        stream = made.add_stream_from_template(audio)
        return _copied(source, audio, stream, later)
    encoded = made.add_stream("aac", rate=audio.rate)
    return _encoded(source, audio, encoded, later)


def _copied(source: Any, audio: Any, stream: Any, later: int) -> Iterator[Packet[Any]]:
    for packet in source.demux(audio):
        # Decoders need the packet before the first: codecs like AAC overlap, and have priming samples before time 0.
        if packet.dts is None or packet.dts + (packet.duration or 0) < later:
            continue
        packet.dts -= later
        packet.pts = None if packet.pts is None else packet.pts - later
        packet.stream = stream
        yield packet


def _encoded(source: Any, audio: Any, stream: Any, later: int) -> Iterator[Packet[Any]]:
    import av

    with _readable(source.name):
        for frame in source.decode(audio):
            if frame.pts is not None and frame.pts < later:
                continue
            frame.pts = None if frame.pts is None else frame.pts - later
            yield from stream.encode(frame)
    with contextlib.suppress(av.EOFError):
        yield from stream.encode(None)


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise FreeUValueError(f"cannot read the sound of {Path(name).name}: {error.strerror or error}") from None

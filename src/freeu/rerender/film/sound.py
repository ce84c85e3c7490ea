"""The sound of the video that came in, put under the one that goes out."""

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
"""Codecs that MP4 takes as they are; what else there is becomes AAC."""


def with_sound(pictures: Path, heard: Path, target: Path) -> None:
    """Write an MP4 of the images of one file and the sound of another, as long as the images.

    No image is encoded anew, and no sound that MP4 can hold.

    Args:
        pictures: an MP4 of ``ClipWriter``, which begins at time 0.
        heard: a video with sound; where its first image is, time 0 is.
        target: the file to write.

    Raises:
        FreeUValueError: the sound cannot be decoded.
        OSError: the file cannot be written.
    """
    import av

    with open_video(pictures) as (seen, film), open_video(heard) as (source, other):
        try:
            with av.open(str(target), "w", format="mp4", options=dict(NO_TAGS)) as made:
                made.metadata.update(seen.metadata)
                shown = made.add_stream_from_template(film)
                end = float(film.duration * film.time_base) if film.duration and film.time_base else float("inf")
                begin = Fraction(other.start_time or 0) * (other.time_base or Fraction(1))
                sounds = _sounds(source, made, begin)
                _mux(made, _shown(seen.demux(film), shown), sounds, end)
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror or str(error), str(target)) from None


def _shown(packets: Iterator[Packet[Any]], stream: Any) -> Iterator[Packet[Any]]:
    for packet in packets:
        if packet.dts is not None:
            packet.stream = stream
            yield packet


def _mux(made: OutputContainer, pictures: Iterator[Packet[Any]], sounds: Iterator[Packet[Any]], end: float) -> None:
    """Write both in the order of time, so that neither has to be kept; sound ends with the images."""
    waiting = next(sounds, None)
    for packet in pictures:
        while waiting is not None and _time(waiting) <= _time(packet):
            made.mux(waiting)
            waiting = next(sounds, None)
        made.mux(packet)
    while waiting is not None and _time(waiting) < end:
        made.mux(waiting)
        waiting = next(sounds, None)


def _time(packet: Packet[Any]) -> float:
    """When a packet is decoded, in seconds."""
    assert packet.dts is not None
    assert packet.time_base is not None
    return float(packet.dts * packet.time_base)


def _sounds(source: Any, made: OutputContainer, begin: Fraction) -> Iterator[Packet[Any]]:
    """The packets of the first audio stream from ``begin`` (seconds) on, which becomes time 0."""
    audio = source.streams.audio[0]
    later = round(begin / audio.time_base)
    if audio.codec_context.name in COPIED:
        stream = made.add_stream_from_template(audio)
        return _copied(source, audio, stream, later)
    encoded = made.add_stream("aac", rate=audio.rate)
    return _encoded(source, audio, encoded, later)


def _copied(source: Any, audio: Any, stream: Any, later: int) -> Iterator[Packet[Any]]:
    for packet in source.demux(audio):
        # Decoders need the packet before the first: codecs like AAC overlap, and prime themselves before time 0.
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

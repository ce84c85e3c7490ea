"""Video files whose content is known: of a constant or another frame rate, with sound or without."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from made_clips import sliding

from freeu.pipelines.io.clip_files import ClipWriter


def film(path: Path, count: int = 12, size: int = 64, fps: float = 12) -> Path:
    with ClipWriter(path, "mp4", fps, size, size, comment="mine") as writer:
        for frame in sliding(1, 0, count, size):
            writer.add(frame)
    return path


def timed(path: Path, lasting: Sequence[int]) -> Path:
    """An MP4 whose frames last so many thousandths of a second."""
    with av.open(str(path), "w") as made:
        stream = made.add_stream("h264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        starts = itertools.accumulate([0, *lasting[:-1]])
        for frame, start in zip(sliding(1, 0, len(lasting)), starts, strict=True):
            shown = av.VideoFrame.from_ndarray(frame, "rgb24")
            shown.pts, shown.time_base = start, Fraction(1, 1000)
            made.mux(stream.encode(shown))
        made.mux(stream.encode(None))
    return path


def heard(path: Path, codec: str, seconds: float = 1.0, rate: int = 48_000) -> Path:
    """A film with a tone of 440 Hz."""
    plain = film(path.with_name("plain.mp4"))
    samples = np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate).astype(np.float32)
    with av.open(str(plain)) as pictures, av.open(str(path), "w") as made:
        shown = made.add_stream_from_template(pictures.streams.video[0])
        sound = made.add_stream(codec, rate=rate)
        sound.layout = "mono"
        packets = [packet for packet in pictures.demux(video=0) if packet.dts is not None]
        resampler = av.AudioResampler(sound.format, "mono", rate)
        for start in range(0, len(samples), 960):
            part = av.AudioFrame.from_ndarray(samples[None, start : start + 960], "fltp", "mono")
            part.rate, part.pts, part.time_base = rate, start, Fraction(1, rate)
            for ready in resampler.resample(part):
                for packet in sound.encode(ready):
                    made.mux(packet)
        made.mux(sound.encode(None))
        for packet in packets:
            packet.stream = shown
            made.mux(packet)
    return path


def tone(path: Path) -> tuple[np.ndarray, int]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    return np.concatenate(frames, axis=1)[0].astype(np.float64), rate

"""Files that hold videos: read them a frame at a time, whoever made them, and write them a frame at a time.

Neither keeps more than a few frames in memory, so a video may be as long as it likes.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from freeu.errors import FreeUError, FreeUValueError
from freeu.extras import need
from freeu.foreign.png import is_png, without_texts
from freeu.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray
    from PIL.Image import Image

    Frame = NDArray[np.uint8]
    """One frame: height x width x 3, RGB."""

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm"}
"""What FFmpeg reads a file as, by its suffix."""
IMAGE_FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
"""What Pillow reads a file as, by its suffix."""
VIDEO_SUFFIXES = (*CONTAINERS, *IMAGE_FORMATS)
FORMATS = ("mp4", "webp", "gif")
"""What ``ClipWriter`` writes."""
MAX_FRAMES, MAX_PIXELS = 3_000, 4096 * 4096
"""Of one video; pixels of one frame."""
H264, YUV420 = "h264", "yuv420p"
CLEAN = {"crf": "14", "preset": "medium", "threads": "1"}
"""For x264: no difference to the original that could be seen. More threads would change the bits."""
NO_TAGS = {"movflags": "+faststart", "fflags": "+bitexact"}
"""For the MP4: plays before it has come whole, and does not tell what wrote it."""
NO_REMARKS = "filter_units=remove_types=6"
"""x264 writes its version and settings into the stream itself, as remarks (SEI) between the images."""
COLOUR = {"colorspace": 1, "color_range": 1, "color_primaries": 2, "color_trc": 2}
"""BT.709 in video range, for what comes as anything but YUV 4:2:0."""


@dataclass(frozen=True)
class Clip:
    """A file with a video; iterating over it decodes it anew, a frame at a time, as RGB (height x width x 3, uint8).

    Iterating raises ``FreeUValueError`` where the file turns out to be damaged.

    Args:
        path: the file.
        width, height: of every frame, in pixels.
        fps: frames per second, on average.
        frames: how many there are.
        most: how many there may be.
    """

    path: Path
    width: int
    height: int
    fps: float
    frames: int
    most: int = MAX_FRAMES

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[Frame]:
        suffix = self.path.suffix.lower()
        found = _image_frames(self.path) if suffix in IMAGE_FORMATS else _decoded(self.path, self.most)
        count = 0
        for frame in found:
            count += 1
            if frame.shape[:2] != (self.height, self.width):
                raise FreeUValueError(
                    f"{self.path} changes its size at frame {count}, from {self.width}x{self.height} to "
                    f"{frame.shape[1]}x{frame.shape[0]}: encode it with one size"
                )
            yield frame
        if count < self.frames:
            raise FreeUValueError(f"{self.path} shows {count} of its {counted(self.frames, 'frame')}: it is damaged")


def read_clip(path: Path, most: int | None = None) -> Clip:
    """A video of .mp4, .m4v, .mov, .webm, .gif, .webp or .png (APNG); of a still image one frame.

    The suffix decides what the bytes are read as; only these bytes are read, whatever they name. Sound is left out,
    transparent parts are white, and equal frames that an image format stored as one come back one by one.

    Args:
        path: the file.
        most: frames that a video may have, 3,000 unless given; an image format has no more.

    Raises:
        FreeUValueError: another suffix, unreadable, damaged, without frames, rotated, or too large or long; the extra
            ``freeu[video]`` is missing for what FFmpeg reads.
    """
    most = MAX_FRAMES if most is None else most
    suffix = path.suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise FreeUValueError(f"{path} is no video that freeu reads: use {', '.join(VIDEO_SUFFIXES)}")
    if suffix in IMAGE_FORMATS:
        return _image_clip(path)
    need("video", "av", "numpy")
    with open_video(path) as (container, stream):
        count = stream.frames or sum(packet.pts is not None for packet in container.demux(stream))
        rate = float(stream.average_rate or stream.guessed_rate or 0)
    if count > most:
        raise FreeUValueError(f"{path} has more than {most} frames: cut it")
    first = next(_decoded(path, most), None)
    if first is None or count == 0:
        raise FreeUValueError(f"{path} shows no frame: it is empty or damaged")
    return Clip(path, first.shape[1], first.shape[0], rate or 25.0, count, most)


# -- FFmpeg ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video as what its suffix says, and only these bytes: what else FFmpeg reads may name other files.

    Raises:
        FreeUValueError: unreadable, another format, or without a video stream.
    """
    import av

    form = CONTAINERS.get(path.suffix.lower(), "mp4")
    try:
        with path.open("rb") as file, av.open(file, "r", format=form) as container:
            if not container.streams.video:
                raise FreeUValueError(f"{path} shows no image: it has no video stream")
            stream = container.streams.video[0]
            if cast("Any", stream).codec_context is None:
                raise FreeUValueError(f"cannot read {path} as {_NAMES[form]}: FFmpeg does not know its codec")
            if stream.width * stream.height > MAX_PIXELS:
                raise FreeUValueError(
                    f"{path} is {stream.width}x{stream.height}, above {MAX_PIXELS} pixels: make it smaller"
                )
            yield container, stream
    except FreeUError:
        raise
    except (OSError, ValueError, OverflowError, MemoryError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FreeUValueError(f"cannot read {path} as {_NAMES[form]}: {reason}") from None


_NAMES = {"mp4": "MP4", "mov": "QuickTime", "webm": "WebM"}


def check_frame(path: Path, frame: VideoFrame, number: int, most: int = MAX_FRAMES) -> None:
    """Raise ``FreeUValueError`` for a frame that is damaged, rotated or huge, and for one too many."""
    if number > most:
        raise FreeUValueError(f"{path} has more than {most} frames: cut it")
    if frame.width * frame.height > MAX_PIXELS:
        raise FreeUValueError(f"{path} is {frame.width}x{frame.height}, above {MAX_PIXELS} pixels: make it smaller")
    if frame.rotation:
        raise FreeUValueError(f"{path} is to be shown rotated by {frame.rotation} degrees: encode it upright")
    if frame.is_corrupt:
        raise FreeUValueError(f"{path} is damaged in frame {number}")


def _decoded(path: Path, most: int) -> Iterator[Frame]:
    with open_video(path) as (container, stream):
        for number, frame in enumerate(container.decode(stream), 1):
            check_frame(path, frame, number, most)
            yield cast("Frame", frame.to_ndarray(format="rgb24"))


# -- Pillow ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened_image(path: Path) -> Iterator[Image]:
    need("diffusers", "PIL", "numpy")
    from PIL import Image, UnidentifiedImageError

    form = IMAGE_FORMATS[path.suffix.lower()]
    try:
        source: Path | BinaryIO = without_texts(path) if is_png(path) else path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source, formats=(form,)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise FreeUValueError(
                        f"{path} is {image.width}x{image.height}, above {MAX_PIXELS} pixels: make it smaller"
                    )
                yield image
    except UnidentifiedImageError:
        raise FreeUValueError(f"cannot read {path} as {form}: it is something else or damaged") from None
    except FreeUError:
        raise
    except Exception as error:  # of damaged files, decoders raise whatever they stumble over
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FreeUValueError(f"cannot read {path}: {reason}") from None


def _durations(image: Image, path: Path) -> list[float]:
    """How long each stored frame is shown, in milliseconds; 0 where the file does not say."""
    from PIL import ImageSequence

    found: list[float] = []
    for frame in ImageSequence.Iterator(image):
        if len(found) == MAX_FRAMES:
            raise FreeUValueError(f"{path} has more than {MAX_FRAMES} frames: cut it")
        frame.load()  # of WebP only the decoder knows
        found.append(float(frame.info.get("duration", 0) or 0))
    return found


def _repeats(durations: list[float]) -> list[int]:
    """How often each stored frame comes: writers store equal frames in a row as one that is shown longer.

    The shortest is taken for one; GIF rounds to hundredths, so 12 and 13 of them are both one frame.
    """
    shown = [one for one in durations if one > 0]
    if not shown:
        return [1] * len(durations)
    return [max(1, round(one / min(shown))) for one in durations]


def _image_clip(path: Path) -> Clip:
    with _opened_image(path) as image:
        durations = _durations(image, path)
        size = image.size
    count = sum(_repeats(durations))
    if count > MAX_FRAMES:
        raise FreeUValueError(f"{path} has more than {MAX_FRAMES} frames: cut it")
    seconds = sum(durations) / 1000
    return Clip(path, *size, count / seconds if seconds else 10.0, count)


def _image_frames(path: Path) -> Iterator[Frame]:
    import numpy as np
    from PIL import Image, ImageSequence

    with _opened_image(path) as image:
        repeats = _repeats(_durations(image, path))
        image.seek(0)
        for times, frame in zip(repeats, ImageSequence.Iterator(image), strict=True):
            shown: Image.Image = frame
            if shown.mode in ("RGBA", "LA", "PA") or "transparency" in shown.info:
                shown = shown.convert("RGBA")
                shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
            pixels = np.asarray(shown.convert("RGB"))
            for _ in range(times):
                yield pixels


# -- writing --------------------------------------------------------------------------------------------------------


class ClipWriter:
    """Writes one video, a frame at a time; use it with ``with``. A file left by an exception is not whole.

    MP4 is H.264 (yuv420p, fast start) that every browser plays, with no tag but ``comment``; equal frames make equal
    bytes with the same x264. WebP is lossy, of high quality; GIF has 256 colours chosen for each frame.

    Args:
        path: the file; an old one is overwritten.
        form: one of ``FORMATS``.
        fps: frames per second, at least 1.
        width, height: of every frame, in pixels; even for MP4.
        comment: for the tag ``comment`` of an MP4; the others have none.

    Raises:
        FreeUValueError: another format, or odd sides for MP4.
        OSError: the file cannot be written, such as for lack of space.
    """

    def __init__(self, path: Path, form: str, fps: float, width: int, height: int, comment: str = "") -> None:
        import av

        if form not in FORMATS:
            raise FreeUValueError(f"videos are written as {', '.join(FORMATS)}, got {form!r}")
        if form == "mp4" and (width % 2 or height % 2):
            raise FreeUValueError(f"an MP4 that browsers play has even sides, got {width}x{height}: make it even")
        self._path, self._form, self._size = path, form, (width, height)
        self._count = 0
        rate = Fraction(fps).limit_denominator(1001)
        with self._translated():
            self._container = av.open(str(path), "w", format=form, options=_MUXER[form])
            if form == "mp4":
                self._container.metadata["comment"] = comment
            codec, options = _ENCODER[form]
            self._stream = cast("VideoStream", self._container.add_stream(codec, rate=rate, options=options))
            context: Any = self._stream.codec_context
            context.width, context.height, context.pix_fmt = width, height, _PIXELS[form]
            # GIF counts hundredths of a second, WebP thousandths.
            self._base = {"gif": Fraction(1, 100), "webp": Fraction(1, 1000), "mp4": 1 / rate}[form]
            context.time_base = self._base
            self._rate = rate
            self._remarks = RemarkFilter(self._stream) if form == "mp4" else None
            if form == "mp4":
                for name, value in COLOUR.items():
                    setattr(context, name, value)

    def __enter__(self) -> ClipWriter:
        return self

    def add(self, frame: Frame) -> None:
        """Write the next frame: height x width x 3, RGB, uint8."""
        height, width = frame.shape[:2]
        assert (width, height) == self._size, "every frame of a video has one size"
        shown = self._prepared(frame)
        shown.pts, shown.time_base = round(self._count / self._rate / self._base), self._base
        self._count += 1
        with self._translated():
            self._send(shown)

    def _prepared(self, frame: Frame) -> VideoFrame:
        import numpy as np
        from av import VideoFrame
        from PIL import Image

        if self._form == "gif":
            small = Image.fromarray(frame).quantize(256)
            palette = np.zeros((256, 4), np.uint8)
            colours = np.asarray(small.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette[: len(colours), :3], palette[:, 3] = colours[:, ::-1], 255  # FFmpeg's palettes are BGRA in memory
            made = VideoFrame(*self._size, "pal8")
            _fill(made.planes[0], np.asarray(small, np.uint8))
            made.planes[1].update(palette.tobytes())
            return made
        plain = VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
        if self._form == "webp":
            return plain.reformat(format=_PIXELS["webp"])
        return as_yuv420(plain)

    def _send(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(self._remarks(packet) if self._remarks else packet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with contextlib.suppress(Exception):  # the reason is on its way up already
                self._container.close()
            return
        with self._translated():
            self._send(None)
            self._container.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """FFmpeg's errors are no ``OSError``; whoever writes files expects those."""
        import av

        try:
            yield
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self._path)) from None


def as_yuv420(frame: VideoFrame) -> VideoFrame:
    """The frame in YUV 4:2:0, BT.709 in video range."""
    return frame.reformat(format=YUV420, dst_colorspace="ITU709", dst_color_range="MPEG")


class RemarkFilter:
    """Takes x264's remarks out of packets.

    Args:
        stream: of the encoder that makes the packets.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._filter: Any = None

    def __call__(self, packet: Packet[VideoStream]) -> list[Packet[VideoStream]]:
        """What is to be written in place of the packet."""
        if self._filter is None:
            from av.bitstream import BitStreamFilterContext

            # PyAV before 18 takes a stream, no name of a codec, and the stream is set up with its first packet.
            self._filter = BitStreamFilterContext(NO_REMARKS, self._stream)
        return self._filter.filter(packet)  # type: ignore[no-any-return]


def _fill(plane: Any, pixels: Frame) -> None:
    """Copy rows of bytes into a plane, whose rows may be padded."""
    import numpy as np

    rows = np.zeros((plane.height, plane.line_size), np.uint8)
    rows[:, : pixels.shape[1]] = pixels
    plane.update(rows.tobytes())


def comment_of(path: Path) -> str:
    """The tag ``comment`` of an MP4; "" if it has none. Errors as ``read_clip``."""
    need("video", "av")
    with open_video(path) as (container, _):
        return container.metadata.get("comment", "")


_MUXER = {"mp4": NO_TAGS, "webp": {"loop": "0"}, "gif": {"loop": "0"}}
_ENCODER: dict[str, tuple[str, dict[str, str]]] = {
    # A frame is at most 24 frames away from where decoding begins. With its macroblock tree, x264 makes other bytes of
    # equal frames each time if the width is no multiple of 16.
    "mp4": ("libx264", {**CLEAN, "g": "24", "x264-params": "mbtree=0"}),
    "webp": ("libwebp_anim", {"quality": "92", "lossless": "0"}),
    "gif": ("gif", {}),
}
_PIXELS = {"mp4": YUV420, "webp": "bgra", "gif": "pal8"}

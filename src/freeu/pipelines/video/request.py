"""What a user asks of ``freeu video``: a request whose run makes videos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.pipelines.io.clip_files import Clip, read_clip
from freeu.pipelines.io.frames import Frames, frames_sha
from freeu.pipelines.io.inputs import open_image, open_region, pixel_sha
from freeu.pipelines.models.sources.families import (
    VideoFamily,
    check_family,
    check_frames,
    fetch_adapter,
    find_adapter,
    frame_limit,
)
from freeu.pipelines.models.sources.sources import find_model, hub_snapshot
from freeu.pipelines.options.sampling import effective_strength
from freeu.pipelines.options.video import VideoOptions, parse_formats
from freeu.pipelines.runs.reproduce import adapter_reference
from freeu.pipelines.runs.request import Inputs, Request, Sources, resized

if TYPE_CHECKING:
    from freeu.pipelines.models.loading import Loaded


@dataclass(frozen=True)
class VideoRequest(Request):
    """A run of ``freeu video``.

    Args:
        prompts: ("",) for a model that takes none.
        video: what it starts from, its frames and files.
        the others: as in ``Request``; there is no input image of its own kind and no ControlNet.
    """

    video: VideoOptions = VideoOptions()

    default_model = "DEFAULT_VIDEO_MODEL"

    @property
    def task(self) -> str:
        if self.video.image is not None:
            return "image-to-video"
        return "video" if self.video.video is None else "video-to-video"

    def check_options(self) -> None:
        self.video.check()
        self.check_region()
        need("video", "av")  # before the extra that images need is asked for: this one brings both

    def check_files(self) -> None:
        if self.video.image is not None:
            open_image(self.video.image)
        if self.video.video is not None:
            _whole(self.video.video)

    def find(self) -> Sources:
        adapter = find_adapter(self.video.motion_adapter) if self.video.motion_adapter is not None else None
        return Sources(find_model(self.model.model, self.default_model), adapter)

    def check_sources(self, found: Sources) -> None:
        if found.model.kind != "hub":
            self._check_fit(found)

    def _check_fit(self, found: Sources) -> None:
        """Whether the model takes what it is given; the files of a local one are looked into, nothing is loaded."""
        family = self._family(found)
        if self.sampling.negative_prompt and not family.prompt:
            raise FreeUValueError(f"{found.model.label} takes no prompt: leave --negative-prompt out")
        if self.video.frames is not None:
            place = (found.adapter or found.model).path
            folders = () if place is None else (place, place / "unet", place / "motion_adapter")
            check_frames(self.video.frames, frame_limit(*folders), (found.adapter or found.model).label)
        fps = self.video.fps or found.model.world.get("default_fps")
        if self.video.video is not None and fps is not None:
            _count(read_clip(self.video.video), int(fps), self.video.frames, None)

    def fetch(self, found: Sources) -> Sources:
        if found.model.kind == "hub":
            found = replace(found, model=hub_snapshot(found.model, self.model.variant))
            self._check_fit(found)
        return replace(found, adapter=fetch_adapter(found.adapter)) if found.adapter is not None else found

    def check_loaded(self, loaded: Loaded) -> None:
        assert loaded.frames is not None
        assert loaded.fps is not None

    def read_inputs(self, loaded: Loaded, found: Sources, steps: int) -> Inputs:
        options = self.video
        assert loaded.frames is not None
        assert loaded.fps is not None
        fps, frames = options.fps or loaded.fps, options.frames or loaded.frames
        image = open_image(options.image) if options.image is not None else None
        clip = read_clip(options.video) if options.video is not None else None
        shape = open_region(self.region.region)[0].size if self.region.region is not None else None
        inputs = Inputs(self.size(loaded, (clip.width, clip.height) if clip is not None else image or shape))
        if image is not None:
            inputs.image, _ = resized(image, None, inputs.size)
            inputs.plan["image_sha"] = pixel_sha(inputs.image)
        if clip is not None:
            inputs.video = _frames(clip, fps, _count(clip, fps, options.frames, frames), inputs.size)
            frames = len(inputs.video)
            strength = effective_strength(options.denoising_strength, steps)
            inputs.plan |= {"video_sha": frames_sha(inputs.video), "video_strength": strength}
        if self.region.region is not None:
            inputs.take_region(self.region.region, loaded.multiple, image or (inputs.video or (None,))[0])
        limit = getattr(loaded.pipe.unet.config, "motion_max_seq_length", None)
        check_frames(frames, limit, (found.adapter or found.model).label)
        inputs.plan |= {
            "frames": frames,
            "fps": fps,
            "formats": parse_formats(options.formats),
            "decode_chunk": options.decode_chunk or self._family(found).chunk,
            "motion_adapter": adapter_reference(found.adapter) if found.adapter is not None else None,
        }
        return inputs

    def _family(self, found: Sources) -> VideoFamily:
        """The family of the model; one that does not take what it is given is refused."""
        options = self.video
        return check_family(
            found.model,
            found.adapter is not None,
            any(self.prompts),
            options.image is not None,
            options.video is not None,
        )


def _whole(path: Path) -> None:
    """Decode an input video from its beginning to its end, so that damage is found before a model is loaded."""
    if sum(1 for _ in read_clip(path)) < 2:
        raise FreeUValueError(f"--video {path} shows a single frame: a video has at least 2")


def _count(clip: Clip, fps: int, wanted: int | None, default: int | None) -> int:
    """How many frames of an input video are used at a rate; ``wanted`` must be there, ``default`` may be less."""
    there = max(1, int(clip.frames * fps / clip.fps + 1e-6))
    if (wanted or 2) > there:
        raise FreeUValueError(
            f"--video {clip.path} has {there} frame{'' if there == 1 else 's'} at {fps} a second "
            f"({clip.frames} at {clip.fps:.3g}), and {wanted or 2} are wanted: "
            f"{'lower --frames or ' if (wanted or 2) > 2 else ''}raise --fps"
        )
    return wanted or min(there, default or there)


def _frames(clip: Clip, fps: int, count: int, size: tuple[int, int]) -> Frames:
    """The first frames of an input video at another rate and size; of the file, one frame at a time is in memory."""
    from PIL import Image

    places = [int(number * clip.fps / fps + 1e-6) for number in range(count)]
    found: list[Image.Image] = []
    for place, frame in enumerate(clip):
        if place > places[-1]:
            break
        times = places.count(place)
        if times:
            image = Image.fromarray(frame)
            found += [resized(image, None, size)[0]] * times
    assert len(found) == count
    return tuple(found)

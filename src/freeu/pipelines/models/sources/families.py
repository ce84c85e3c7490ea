"""Families of pipelines that generate video, as a table: what each takes, and what diffusers calls its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.json_files import read_json
from freeu.pipelines.models.sources.sources import ModelSource, check_hub

MOTION = "AnimateDiffPipeline"
"""What a Stable Diffusion becomes with a motion adapter."""


@dataclass(frozen=True)
class VideoFamily:
    """What one pipeline of diffusers takes.

    Args:
        name: for people.
        prompt: whether it takes a text.
        image: whether it needs an image to begin with.
        from_video: the pipeline of the same parts that begins with a video, or None.
        fps: frames per second where the model does not say.
        chunk: frames decoded at once unless told otherwise.
        frames_first: whether its latents are (batch, frames, channels, H, W); the others have channels before frames.
        whole_levels: whether every level of its U-Net must halve the sides without a remainder.
    """

    name: str
    prompt: bool = True
    image: bool = False
    from_video: str | None = None
    fps: int = 8
    chunk: int = 4
    frames_first: bool = False
    whole_levels: bool = False


FAMILIES: Mapping[str, VideoFamily] = {
    "TextToVideoSDPipeline": VideoFamily("ModelScope or Zeroscope", from_video="VideoToVideoSDPipeline"),
    MOTION: VideoFamily("AnimateDiff", from_video="AnimateDiffVideoToVideoPipeline"),
    # Its decoder mixes the frames that it is given at once, so a bigger chunk flickers less.
    "StableVideoDiffusionPipeline": VideoFamily(
        "Stable Video Diffusion", prompt=False, image=True, fps=7, chunk=8, frames_first=True, whole_levels=True
    ),
    "I2VGenXLPipeline": VideoFamily("I2VGen-XL", image=True, fps=16),
}
_BASE = {family.from_video: name for name, family in FAMILIES.items() if family.from_video}


def base_class(class_name: str) -> str:
    """The class that the table lists: that of a video-to-video pipeline is its text-to-video one."""
    return _BASE.get(class_name, class_name)


def family_of(class_name: str) -> VideoFamily | None:
    """The family of a pipeline class; None for one that generates still images, or that nobody here knows."""
    return FAMILIES.get(base_class(class_name))


def check_family(source: ModelSource, adapter: bool, prompt: bool, image: bool, video: bool) -> VideoFamily:
    """What a model needs and cannot take, before anything heavy is loaded.

    Args:
        source: whose ``class_name`` is known ("" stands for a single file: a Stable Diffusion).
        adapter, prompt, image, video: whether a motion adapter, a prompt, an image and a video were given.

    Raises:
        FreeUValueError: the first thing that does not fit, and the fix.
    """
    label = f"{source.label} ({source.class_name})" if source.class_name else source.label
    found = family_of(source.class_name)
    if adapter:
        if found is not None:
            raise FreeUValueError(f"{label} generates video by itself: leave --motion-adapter out")
        if source.class_name not in ("", "StableDiffusionPipeline"):
            raise FreeUValueError(
                f"{label} takes no motion adapter here: those of AnimateDiff belong to Stable Diffusion 1.x"
            )
        found = FAMILIES[MOTION]
    if found is None:
        raise FreeUValueError(
            f"{label} generates still images: use freeu compare, or give --motion-adapter for a Stable Diffusion 1.x"
        )
    if prompt and not found.prompt:
        raise FreeUValueError(f"{label} takes no prompt, only an image: leave the prompt out")
    if not prompt and found.prompt:
        raise FreeUValueError('no prompt: write one, such as "a 3d fox on a blue background", or give --prompts FILE')
    if image and not found.image:
        raise FreeUValueError(f"{label} begins with no image: leave --image out")
    if found.image and not image:
        raise FreeUValueError(f"{label} needs an image to begin with: give --image FILE")
    if video and found.from_video is None:
        raise FreeUValueError(f"{label} begins with no video: leave --video out")
    return found


# -- motion adapters ------------------------------------------------------------------------------------------------


def find_adapter(text: str) -> ModelSource:
    """The motion adapter that a user named: a diffusers directory, or a hub id.

    Raises:
        FreeUValueError: nothing of that name, another kind of model, or a hub out of reach.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        return _described(ModelSource("directory", str(path.resolve()), path.resolve()))
    owner, slash, name = text.partition("/")
    if not slash or not name or "/" in name or Path(owner).exists() or path.suffix in (".safetensors", ".ckpt"):
        raise FreeUValueError(f"no motion adapter {text!r}: give its directory (with config.json) or a hub id")
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(text, "config.json"), str):
        check_hub(text)
    return ModelSource("hub", text, None, "MotionAdapter")


def fetch_adapter(source: ModelSource) -> ModelSource:
    """The local copy of a motion adapter of the hub."""
    if source.kind != "hub":
        return source
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(source.reference, allow_patterns=["config.json", "*.safetensors", "*.bin"])
    except (OSError, ValueError) as error:
        raise FreeUValueError(f"cannot fetch {source.reference}: {' '.join(str(error).split())[:200]}") from None
    return _described(ModelSource("hub", source.reference, Path(folder)))


def _described(source: ModelSource) -> ModelSource:
    assert source.path is not None
    index = source.path / "config.json"
    name = str(read_json(index).get("_class_name")) if index.is_file() else ""
    if name != "MotionAdapter":
        what = f"a {name}" if name else "a folder without config.json"
        raise FreeUValueError(f"--motion-adapter {source.label} is {what}, no motion adapter of diffusers")
    return ModelSource(source.kind, source.reference, source.path, name, False)


def check_frames(frames: int, limit: int | None, label: str) -> None:
    """Raise ``FreeUValueError`` for more frames than a motion adapter was made for; None is no limit."""
    if limit is not None and frames > limit:
        raise FreeUValueError(f"{label} was made for up to {limit} frames, got {frames}: lower --frames")


def frame_limit(*folders: Path) -> int | None:
    """How many frames the motion modules in these folders were made for, from their config.json; None if none says."""
    for folder in folders:
        if (folder / "config.json").is_file():
            found: Any = read_json(folder / "config.json").get("motion_max_seq_length")
            if isinstance(found, int):
                return found
    return None


TEXT_TO_VIDEO_PIPELINES = ("TextToVideoSDPipeline",)
"""Pipelines of diffusers that generate videos from a text alone, and that ``freeu analyze`` takes."""


def generates_videos(source: ModelSource) -> bool:
    """Whether a model generates videos from a text; of a hub id nobody knows before it has been fetched."""
    return source.class_name in TEXT_TO_VIDEO_PIPELINES


def refuse_videos(source: ModelSource) -> None:
    """For what handles still images only: raise ``FreeUValueError`` for a model that generates videos."""
    if family_of(source.class_name) is not None:
        takers = "freeu analyze and freeu video take it" if generates_videos(source) else "freeu video takes it"
        raise FreeUValueError(
            f"{source.label} ({source.class_name}) generates video, and this generates still images: {takers}"
        )

"""What a user asks of ``freeu video``, and how it becomes a plan: cheap checks first, then the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from freeu.errors import FreeUValueError, unknown_name
from freeu.extras import need, need_diffusers
from freeu.pipelines.io.clip_files import Clip, read_clip
from freeu.pipelines.io.frames import Frames, frames_sha
from freeu.pipelines.io.inputs import check_side, fit_size, open_image, parse_seeds, pixel_sha
from freeu.pipelines.io.prompts import collect_prompts
from freeu.pipelines.models.addons.add_ons import check_fit
from freeu.pipelines.models.schedulers import sampler_name
from freeu.pipelines.models.sources.families import check_family, check_frames, fetch_adapter, find_adapter, frame_limit
from freeu.pipelines.models.sources.sources import ModelSource, find_model, fingerprint, hub_snapshot
from freeu.pipelines.runs.plan import CLIP_FORMATS, MAX_FPS, ModelReference, Plan
from freeu.pipelines.runs.reproduce import adapter_reference
from freeu.pipelines.runs.request import Prepared, Request, check_range, check_settings, resized

if TYPE_CHECKING:
    from PIL.Image import Image

    from freeu.pipelines.models.loading import Loaded

VIDEO_STRENGTH = 0.6


@dataclass(frozen=True)
class VideoRequest(Request):
    """A run of ``freeu video``; None means the model's own default.

    Args:
        video: begin with this clip; ``video_strength`` (0..1) of it is noised away.
        motion_adapter: a directory or hub id; makes a video model of a Stable Diffusion.
        fps: frames a second; an input video is read at this rate too.
        formats: names of ``plan.CLIP_FORMATS`` with commas; "mp4" is always written.
        decode_chunk: frames decoded at once.
        the others: as in ``Request``.
    """

    video: Path | None = None
    video_strength: float | None = None
    motion_adapter: str | None = None
    fps: int | None = None
    formats: str = "mp4,webp"
    decode_chunk: int | None = None

    @property
    def task(self) -> str:
        if self.image is not None:
            return "image-to-video"
        return "video" if self.video is None else "video-to-video"

    @property
    def prompted(self) -> bool:
        return bool(self.prompts or self.prompts_from)


@dataclass(frozen=True)
class Sources:
    """The models of a request: the one that draws, and a motion adapter or None."""

    model: ModelSource
    adapter: ModelSource | None


def parse_formats(text: str) -> tuple[str, ...]:
    """Formats from "mp4,webp", each once; MP4 comes first even if it is not named, since all else is made from it.

    Raises:
        FreeUValueError: an unknown one.
    """
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in CLIP_FORMATS:
            raise unknown_name("--format", name, CLIP_FORMATS)
    return tuple(dict.fromkeys(["mp4", *names]))


def check_video_request(request: VideoRequest, output: Path) -> Sources:
    """Everything that can be wrong without loading a model; nothing is written.

    Raises:
        FreeUValueError: the first thing that is wrong, with its value and the fix.
    """
    if request.prompted:
        collect_prompts(request.prompts, request.prompts_from)
    parse_formats(request.formats)
    check_range("--frames", request.frames, 2, 1_000)
    check_range("--fps", request.fps, 1, MAX_FPS)
    check_range("--decode-chunk", request.decode_chunk, 1, 1_000)
    check_range("--video-strength", request.video_strength, 0.0, 1.0)
    check_settings(request, output)
    if request.video is None and request.video_strength is not None:
        raise FreeUValueError("--video-strength needs a video to start from: give --video FILE too")
    if request.video is not None and request.image is not None:
        raise FreeUValueError("a clip begins with --image or with --video, not both: leave one out")
    need_diffusers()
    need("video", "av")
    if request.image is not None:
        open_image(request.image)
    clip = _whole(request.video) if request.video is not None else None
    source = find_model(request.model, "DEFAULT_VIDEO_MODEL")
    if not source.whole:
        raise FreeUValueError(f"{source.label} is a U-Net alone: give the directory of its whole pipeline")
    adapter = find_adapter(request.motion_adapter) if request.motion_adapter is not None else None
    if source.kind != "hub":
        _check_fit(request, Sources(source, adapter))
        check_fit(source, request.loras, request.embeddings)
        fps = request.fps or source.world.get("default_fps")
        if clip is not None and fps is not None:
            _count(clip, int(fps), request.frames, None)
    return Sources(source, adapter)


def _whole(path: Path) -> Clip:
    """The input video, decoded once from its beginning to its end, so that damage is found before a model is loaded."""
    clip = read_clip(path)
    if sum(1 for _ in clip) < 2:
        raise FreeUValueError(f"--video {path} shows a single frame: a clip has at least 2")
    return clip


def _check_fit(request: VideoRequest, found: Sources) -> None:
    """Whether the model takes what it is given; the files of a local one are looked into, nothing is loaded."""
    family = check_family(
        found.model,
        found.adapter is not None,
        request.prompted,
        request.image is not None,
        request.video is not None,
    )
    if request.negative_prompt and not family.prompt:
        raise FreeUValueError(f"{found.model.label} takes no prompt: leave --negative-prompt out")
    if request.frames is not None:
        place = (found.adapter or found.model).path
        folders = () if place is None else (place, place / "unet", place / "motion_adapter")
        check_frames(request.frames, frame_limit(*folders), (found.adapter or found.model).label)


def prepare_video(request: VideoRequest, found: Sources) -> Prepared:
    """Load the model and settle everything it decides. Nothing is written.

    Args:
        request: checked by ``check_video_request``.
        found: what that gave.

    Raises:
        FreeUValueError: the model cannot be loaded or cannot do what is asked.
    """
    import torch

    from freeu.pipelines.models.loading import load, pick_device, pick_dtype

    device = pick_device(request.device)
    dtype = pick_dtype(request.dtype, device)
    scheduler = sampler_name(request.scheduler) if request.scheduler is not None else None
    source, adapter = found.model, found.adapter
    if source.kind == "hub":
        source = hub_snapshot(source, request.variant)
        _check_fit(request, replace(found, model=source))
    if adapter is not None:
        adapter = fetch_adapter(adapter)
    loaded = load(
        source,
        request.task,
        dtype=dtype,
        device=device,
        scheduler=scheduler,
        variant=request.variant,
        model_config=request.model_config,
        motion_adapter=adapter,
        loras=request.loras,
        embeddings=request.embeddings,
        fuse_loras=request.fuse_loras,
    )
    assert source.path is not None
    family = check_family(source, adapter is not None, request.prompted, bool(request.image), bool(request.video))
    assert loaded.frames is not None
    assert loaded.fps is not None
    fps, frames = request.fps or loaded.fps, request.frames or loaded.frames
    image, video, (width, height) = _inputs(request, loaded, fps, frames)
    for name, side in (("--width", width), ("--height", height)):
        check_side(name, side, loaded.multiple)
    if video is not None:
        frames = len(video)
    limit = getattr(loaded.pipe.unet.config, "motion_max_seq_length", None)
    check_frames(frames, limit, (adapter or source).label)
    steps = request.steps or loaded.steps
    strength = None
    if video is not None:
        strength = VIDEO_STRENGTH if request.video_strength is None else request.video_strength
        if int(steps * strength) < 1:
            raise FreeUValueError(
                f"--video-strength {strength:g} leaves none of {steps} steps to do: "
                f"raise it to {min(1.0, 1.01 / steps):.2g} or more, or raise --steps"
            )
    assert request.freeu is not None
    plan = Plan(
        command="video",
        prompts=collect_prompts(request.prompts, request.prompts_from) if request.prompted else ("",),
        negative_prompt=request.negative_prompt,
        seeds=parse_seeds(request.seeds),
        arms=("baseline", "freeu"),
        config=request.freeu.resolve(loaded.pipe),
        model=ModelReference(
            kind=source.kind,
            reference=source.reference,
            name=source.label,
            class_name=type(loaded.pipe).__name__,
            fingerprint=fingerprint(source.path),
            variant=request.variant,
            model_config=str(request.model_config.resolve()) if request.model_config else None,
        ),
        task=loaded.task,
        steps=steps,
        guidance=loaded.guidance if request.guidance is None else request.guidance,
        scheduler=scheduler,
        width=width,
        height=height,
        image_sha=pixel_sha(image) if image else None,
        mask_sha=None,
        image_strength=None,
        dtype=dtype,
        device=device,
        threads=request.threads or torch.get_num_threads(),
        frames=frames,
        fps=fps,
        formats=parse_formats(request.formats),
        decode_chunk=request.decode_chunk or family.chunk,
        video_sha=frames_sha(video) if video else None,
        video_strength=strength,
        motion_adapter=adapter_reference(adapter) if adapter is not None else None,
        loras=request.loras,
        embeddings=request.embeddings,
        fuse_loras=request.fuse_loras,
    )
    return Prepared(plan, loaded, image, None, video)


def _inputs(
    request: VideoRequest, loaded: Loaded, fps: int, frames: int
) -> tuple[Image | None, Frames | None, tuple[int, int]]:
    """The picture or the frames to begin with, at the size of the clips, and that size."""
    image = clip = None
    size = (loaded.native, loaded.native)
    if request.image is not None:
        image = open_image(request.image)
        size = fit_size(image.size, loaded.native, loaded.multiple)
    elif request.video is not None:
        clip = read_clip(request.video)
        size = fit_size((clip.width, clip.height), loaded.native, loaded.multiple)
    size = (request.width or size[0], request.height or size[1])
    for name, side in (("--width", size[0]), ("--height", size[1])):
        check_side(name, side, loaded.multiple)
    if image is not None:
        image, _ = resized(image, None, size)
    video = _frames(clip, fps, _count(clip, fps, request.frames, frames), size) if clip is not None else None
    return image, video, size


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
            picture = Image.fromarray(frame)
            found += [resized(picture, None, size)[0]] * times
    assert len(found) == count
    return tuple(found)

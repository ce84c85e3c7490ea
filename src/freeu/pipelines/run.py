"""Make the pictures of a plan: one pipeline call and one generator each, so that no picture depends on another.

That is what makes a run resumable to the bit: leaving out the pictures that are there already cannot change the rest.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.metadata import png_bytes
from freeu.pipelines.inputs import pixel_sha
from freeu.pipelines.loading import Loaded, quiet
from freeu.pipelines.manifest import Manifest, PictureRecord, environment, environment_differences, read_manifest
from freeu.pipelines.output import MANIFEST, OutputFolder
from freeu.pipelines.plan import ARMS, INPUT_IMAGE, INPUT_MASK, Picture, Plan
from freeu.pipelines.schedulers import fresh_scheduler

if TYPE_CHECKING:
    from PIL.Image import Image


class Progress(Protocol):
    """What a run reports while it works."""

    def kept(self, count: int) -> None:
        """``count`` pictures of an earlier run were verified and kept."""

    def step(self, picture: Picture, fraction: float) -> None:
        """``fraction`` (0..1) of a picture's denoising steps are done; 1 comes after it was written."""


class Silent:
    """Reports nothing."""

    def kept(self, count: int) -> None: ...

    def step(self, picture: Picture, fraction: float) -> None: ...


def make_pictures(
    loaded: Loaded,
    plan: Plan,
    output: OutputFolder,
    image: Image | None = None,
    mask: Image | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Make every picture that is not there yet, each with its settings inside, and keep the manifest up to date.

    Args:
        loaded: the pipeline that the plan was made for.
        plan: what to make.
        output: where; a folder with the manifest of the same plan is continued.
        image, mask: input picture and mask at the plan's size, for the tasks "image" and "inpaint".
        progress: told of every step.

    Raises:
        FreeUValueError: the folder belongs to another plan or environment.
        FreeURuntimeError: FreeU did not act on a picture, or the disk is full.
    """
    progress = progress or Silent()
    manifest = _claim(output, plan)
    kept = _verified(output.path, manifest)
    manifest.pictures = kept
    if kept:
        progress.kept(len(kept))
    output.write(MANIFEST, manifest.to_json())
    for name, picture in ((INPUT_IMAGE, image), (INPUT_MASK, mask)):
        if picture is not None:
            output.write(name, _png(picture))
    with quiet(), deterministic(plan.device, plan.threads):
        for todo in plan.pictures():
            if todo.file in kept:
                continue
            result, seconds, flagged = _draw(loaded.pipe, plan, todo, image, mask, progress)
            output.write(todo.file, png_bytes(result, settings_of(plan, todo, manifest.environment)))
            manifest.pictures[todo.file] = PictureRecord(
                todo.file, todo.prompt, todo.seed, todo.arm, pixel_sha(result), round(seconds, 3), flagged
            )
            output.write(MANIFEST, manifest.to_json())
            progress.step(todo, 1.0)
    return manifest


def _claim(output: OutputFolder, plan: Plan) -> Manifest:
    """The manifest to continue, or a new one."""
    now = environment(plan.device)
    if not (output.path / MANIFEST).exists():
        return Manifest(plan, now)
    found = read_manifest(output.path)
    other = found.plan.differences(plan) + environment_differences(found.environment, now)
    if other:
        raise FreeUValueError(
            f"--output {output.path} holds another run ({'; '.join(other)}): name a folder that does not exist yet"
        )
    return found


def _verified(folder: Path, manifest: Manifest) -> dict[str, PictureRecord]:
    """The records whose picture is there with the very pixels that were written."""
    from PIL import Image

    kept = {}
    for name, record in manifest.pictures.items():
        with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(folder / name) as image:
            if pixel_sha(image.convert("RGB")) == record.sha256:
                kept[name] = record
    return kept


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _draw(
    pipe: Any, plan: Plan, picture: Picture, image: Image | None, mask: Image | None, progress: Progress
) -> tuple[Image, float, bool]:
    """One picture: the image, the seconds its call took, and whether the safety checker blacked it out."""
    import torch

    import freeu

    fresh_scheduler(pipe)
    arguments: dict[str, Any] = {
        "prompt": picture.prompt,
        "negative_prompt": plan.negative_prompt or None,
        "num_inference_steps": plan.steps,
        "guidance_scale": plan.guidance,
        "width": plan.width,
        "height": plan.height,
        "image": image,
        "mask_image": mask,
        "strength": plan.image_strength,
        "generator": torch.Generator("cpu").manual_seed(picture.seed),
        "callback_on_step_end": _reporter(pipe, lambda fraction: progress.step(picture, fraction)),
    }
    known = inspect.signature(pipe.__call__).parameters
    arguments = {name: value for name, value in arguments.items() if name in known and value is not None}
    began = time.perf_counter()
    try:
        if picture.arm == "freeu":
            with freeu.enabled(pipe, plan.config) as handle:
                result = pipe(**arguments)
                handle.verify()
        else:
            result = pipe(**arguments)
    except torch.OutOfMemoryError:
        raise FreeURuntimeError(
            f"out of memory at {plan.width}x{plan.height} in {plan.dtype}: use a smaller --width and --height, "
            "--dtype float16 or --device cpu"
        ) from None
    except ValueError as error:
        if isinstance(error, FreeUValueError):
            raise
        raise FreeUValueError(f"{type(pipe).__name__} refuses these settings: {error}") from error
    flags = getattr(result, "nsfw_content_detected", None)
    return result.images[0].convert("RGB"), time.perf_counter() - began, bool(flags and flags[0])


def _reporter(pipe: Any, report: Callable[[float], None]) -> Callable[..., dict[str, Any]]:
    """A callback for the end of each step. It changes nothing; a step more or less than planned does no harm."""

    def callback(_pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        total = max(int(getattr(pipe, "num_timesteps", 0) or 0), step + 1)
        report(min((step + 1) / total, 0.99))
        return tensors

    return callback


@contextlib.contextmanager
def deterministic(device: str, threads: int) -> Iterator[None]:
    """Run on a fixed number of threads and, on CUDA, with kernels that give the same bits every time."""
    import torch

    before = torch.get_num_threads()
    cudnn = torch.backends.cudnn
    settings = (cudnn.deterministic, cudnn.benchmark)
    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cudnn.deterministic, cudnn.benchmark = settings


def settings_of(plan: Plan, picture: Picture, made_with: Mapping[str, str]) -> dict[str, Any]:
    """The settings that go inside a picture; no path of the machine is among them."""
    return {
        "prompt": picture.prompt,
        "negative_prompt": plan.negative_prompt,
        "seed": picture.seed,
        "arm": picture.arm,
        "arm_name": ARMS[picture.arm],
        "config": plan.config.to_dict() if plan.config and picture.arm == "freeu" else None,
        "model": {"name": plan.model.name, "class": plan.model.class_name, "fingerprint": plan.model.fingerprint},
        "task": plan.task,
        "steps": plan.steps,
        "guidance": plan.guidance,
        "scheduler": plan.scheduler,
        "width": plan.width,
        "height": plan.height,
        "image_sha256": plan.image_sha,
        "mask_sha256": plan.mask_sha,
        "image_strength": plan.image_strength,
        "dtype": plan.dtype,
        "device": plan.device,
        "threads": plan.threads,
        "environment": dict(made_with),
    }

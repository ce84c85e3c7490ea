"""Make the images or videos of a plan: a generator for each, and one pipeline call, or one for a batch of the plan.

That makes an interrupted run resumable bit for bit: leaving out calls whose images are there cannot change the rest.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from freeu.errors import FreeUError, FreeUValueError
from freeu.metadata import png_bytes
from freeu.pipelines.io.inputs import open_image, pixel_sha
from freeu.pipelines.io.journal import journaled
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.runs.generate import OnStep, generate_images
from freeu.pipelines.runs.interval import check_interval
from freeu.pipelines.runs.manifest import ImageRecord, Manifest, environment, environment_differences, read_manifest
from freeu.pipelines.runs.plan import (
    ARMS,
    INPUT_CONTROL,
    INPUT_IMAGE,
    INPUT_MASK,
    OF_SPEED,
    OF_VIDEO,
    Plan,
    PlannedImage,
)
from freeu.pipelines.runs.prepare import Prepared

if TYPE_CHECKING:
    from PIL.Image import Image


class Progress(Protocol):
    """What a run reports while it works."""

    def kept(self, count: int) -> None:
        """``count`` images of an earlier run were verified and kept."""

    def step(self, file: str, fraction: float, images: int = 1) -> None:
        """``fraction`` (0..1) of the steps of so many images are done, ``file`` the first; 1 after each was written."""


class Silent:
    """Reports nothing."""

    def kept(self, count: int) -> None: ...

    def step(self, file: str, fraction: float, images: int = 1) -> None: ...


@dataclass(frozen=True)
class Made:
    """What was written for one image or video: SHA-256 of its pixels, whether the safety checker blacked it out, files.

    Args:
        files: SHA-256 of the bytes of each file of a video, by name.
    """

    sha: str
    flagged: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


class Maker(Protocol):
    """How one kind of output is made, written and found again."""

    def inputs(self, prepared: Prepared) -> Iterator[tuple[str, bytes]]:
        """Names and bytes of the files that a reproduction starts from."""
        ...

    def intact(self, folder: Path, record: ImageRecord, plan: Plan) -> bool:
        """Whether what was written is there, unchanged."""
        ...

    def make(
        self,
        prepared: Prepared,
        batch: Sequence[PlannedImage],
        output: OutputFolder,
        settings: Sequence[dict[str, Any]],
        on_step: OnStep,
    ) -> list[Made]:
        """Generate the outputs of one call of the pipeline and write each with its settings inside."""
        ...


class ImageMaker:
    """Still images, a PNG each."""

    def inputs(self, prepared: Prepared) -> Iterator[tuple[str, bytes]]:
        named = ((INPUT_IMAGE, prepared.image), (INPUT_MASK, prepared.mask), (INPUT_CONTROL, prepared.control_image))
        for name, image in named:
            if image is not None:
                yield name, png(image)

    def intact(self, folder: Path, record: ImageRecord, plan: Plan) -> bool:
        with contextlib.suppress(FreeUError):
            return pixel_sha(open_image(folder / record.file)) == record.sha256
        return False

    def make(
        self,
        prepared: Prepared,
        batch: Sequence[PlannedImage],
        output: OutputFolder,
        settings: Sequence[dict[str, Any]],
        on_step: OnStep,
    ) -> list[Made]:
        images = generate_images(
            prepared.loaded.pipe,
            prepared.plan,
            batch,
            prepared.image,
            prepared.mask,
            on_step,
            prepared.control_image,
        )
        made = []
        for planned, (image, flagged), inside in zip(batch, images, settings, strict=True):
            output.write(planned.file, png_bytes(image, inside))
            made.append(Made(pixel_sha(image), flagged))
        return made


def make_run(prepared: Prepared, output: OutputFolder, maker: Maker, progress: Progress | None = None) -> Manifest:
    """Make everything of a plan that is not there yet, and keep the manifest up to date.

    Args:
        prepared: the plan, the pipeline it was made for, and what it starts from.
        output: where; a folder with the manifest of the same plan is continued.
        maker: of images or videos.
        progress: told of every step.

    Raises:
        FreeUValueError: the folder belongs to another plan or environment; no step falls in FreeU's interval.
        FreeURuntimeError: FreeU did not act, or the disk is full.
    """
    progress = progress or Silent()
    plan = prepared.plan
    check_interval(plan)
    manifest = claimed(output, plan)
    manifest.images = {name: one for name, one in manifest.images.items() if maker.intact(output.path, one, plan)}
    kept = frozenset(manifest.images)
    if kept:
        progress.kept(len(kept))
    with quiet(), deterministic(plan.device, plan.threads), journaled(output, manifest.to_json) as note:
        for name, data in maker.inputs(prepared):
            output.write(name, data)
        for batch in plan.batches():
            if all(todo.file in kept for todo in batch):
                continue
            began = time.perf_counter()
            settings = [settings_of(plan, todo, manifest.environment) for todo in batch]
            made = maker.make(prepared, batch, output, settings, telling(progress, batch))
            seconds = round((time.perf_counter() - began) / len(batch), 3)
            for todo, one in zip(batch, made, strict=True):
                record = ImageRecord(
                    todo.file, todo.prompt, todo.seed, todo.arm, one.sha, seconds, one.flagged, dict(one.files)
                )
                manifest.images[todo.file] = record
                note(record.to_dict())
                if todo.file not in kept:
                    progress.step(todo.file, 1.0)
    return manifest


def claimed(output: OutputFolder, plan: Plan) -> Manifest:
    """The manifest to continue, or a new one.

    Raises:
        FreeUValueError: the folder belongs to another plan or environment.
    """
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


def telling(progress: Progress, batch: Sequence[PlannedImage]) -> OnStep:
    """What a pipeline call tells of its steps."""
    return lambda fraction, _latents: progress.step(batch[0].file, fraction, len(batch))


def png(image: Image) -> bytes:
    """A PNG file of the pixels alone."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


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


def settings_of(plan: Plan, planned: PlannedImage, made_with: Mapping[str, str]) -> dict[str, Any]:
    """The settings that go inside an image or video; no path of the machine is among them."""
    of_video: dict[str, Any] = {}
    if plan.command == "video":
        data = plan.to_dict()
        of_video = {name: data[name] for name in OF_VIDEO}
        if plan.motion_adapter is not None:
            of_video["motion_adapter"] = {
                "name": plan.motion_adapter.name,
                "fingerprint": plan.motion_adapter.fingerprint,
            }
    added = plan.add_ons()
    for one in (*added.get("loras", ()), *added.get("embeddings", ())):
        del one["reference"]
    return {
        "prompt": planned.prompt,
        "negative_prompt": plan.negative_prompt,
        "seed": planned.seed,
        "arm": planned.arm,
        "arm_name": ARMS[planned.arm],
        "config": plan.config.to_dict() if plan.config and planned.arm == "freeu" else None,
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
        "frames": plan.frames,
        **of_video,
        **added,
        **({"control": {**plan.control.to_dict(), "reference": plan.control.name}} if plan.control else {}),
        **({"scalecrafter": plan.scalecrafter.to_dict()} if plan.scalecrafter else {}),
        **({"guiding": plan.guiding.to_dict()} if plan.guiding else {}),
        **({"guidance_rescale": plan.guidance_rescale} if plan.guidance_rescale is not None else {}),
        **({"reader": plan.reader} if plan.reader else {}),
        **({"prediction_type": plan.prediction_type} if plan.prediction_type else {}),
        **{name: getattr(plan, name) for name in OF_SPEED if getattr(plan, name) != getattr(Plan, name)},
        "dtype": plan.dtype,
        "device": plan.device,
        "threads": plan.threads,
        "environment": dict(made_with),
    }

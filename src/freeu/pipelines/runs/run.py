"""Make the images or videos of a plan: a generator for each, and one pipeline call, or one for a batch of the plan.

That makes an interrupted run resumable bit for bit: leaving out calls whose images are there cannot change the rest.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUError, FreeUValueError
from freeu.metadata import png_bytes
from freeu.pipelines.io.inputs import open_image, pixel_sha
from freeu.pipelines.io.journal import journaled
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.models.infotext import infotext
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.models.used import used_parts
from freeu.pipelines.runs.executors import Executor, InProcess, Made, Maker, Progress, Silent, Work
from freeu.pipelines.runs.generate import OnStep, generate_images
from freeu.pipelines.runs.interval import check_interval
from freeu.pipelines.runs.manifest import ImageRecord, Manifest, environment_differences, made_with, read_manifest
from freeu.pipelines.runs.plan import INPUT_CONTROL, INPUT_IMAGE, INPUT_MASK, INPUT_REGION, Plan, PlannedImage
from freeu.pipelines.runs.prepare import Prepared

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Produced:
    """One image before it is written: what is recorded of it, and its PNG file with the settings inside."""

    made: Made
    png: bytes


class ImageMaker:
    """Still images, a PNG each."""

    def inputs(self, prepared: Prepared) -> Iterator[tuple[str, bytes]]:
        named = (
            (INPUT_IMAGE, prepared.image),
            (INPUT_MASK, prepared.mask),
            (INPUT_CONTROL, prepared.control_image),
            (INPUT_REGION, prepared.region),
        )
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
        produced = self.produce(prepared, batch, settings, on_step)
        return [self.write(output, planned, one) for planned, one in zip(batch, produced, strict=True)]

    def produce(
        self,
        prepared: Prepared,
        batch: Sequence[PlannedImage],
        settings: Sequence[dict[str, Any]],
        on_step: OnStep,
    ) -> list[Produced]:
        """The images of one call of the pipeline; they follow from the plan, the batch and the settings alone."""
        images = generate_images(
            prepared.loaded.pipe,
            prepared.plan,
            batch,
            prepared.image,
            prepared.mask,
            on_step,
            prepared.control_image,
            prepared.region,
        )
        return [
            Produced(Made(pixel_sha(image), flagged), png_bytes(image, inside, parameters=infotext(inside)))
            for (image, flagged), inside in zip(images, settings, strict=True)
        ]

    def write(self, output: OutputFolder, planned: PlannedImage, one: Produced) -> Made:
        """Write one image, and give back what was written."""
        output.write(planned.file, one.png)
        return one.made


def make_run(
    prepared: Prepared,
    output: OutputFolder,
    maker: Maker,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Manifest:
    """Make everything of a plan that is not there yet, and keep the manifest up to date.

    Args:
        prepared: the plan, the pipeline it was made for, and what it starts from.
        output: where; a folder with the manifest of the same plan is continued.
        maker: of images or videos.
        progress: told of every step.
        executor: where the calls of the pipeline are made; None makes them in this process, one after the other.

    Raises:
        FreeUValueError: the folder belongs to another plan or environment; no step falls in FreeU's interval.
        FreeURuntimeError: FreeU did not act, or the disk is full.
    """
    progress = progress or Silent()
    plan = prepared.plan
    check_interval(plan)
    manifest = claimed(output, plan)
    manifest.used = used_parts(prepared.loaded.pipe)
    manifest.images = {name: one for name, one in manifest.images.items() if maker.intact(output.path, one, plan)}
    kept = frozenset(manifest.images)
    if kept:
        progress.kept(len(kept))
    with quiet(), deterministic(plan.device, plan.threads), journaled(output, manifest.to_json) as note:
        for name, data in maker.inputs(prepared):
            output.write(name, data)
        missing = tuple(batch for batch in plan.batches() if not all(todo.file in kept for todo in batch))
        work = Work(prepared, maker, output, missing, manifest.environment, progress)
        for batch, made, seconds in (executor or InProcess()).results(work):
            each = round(seconds / len(batch), 3)
            for todo, one in zip(batch, made, strict=True):
                record = ImageRecord(
                    todo.file, todo.prompt, todo.seed, todo.arm, one.sha, each, one.flagged, dict(one.files)
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
    now = made_with(plan)
    if not (output.path / MANIFEST).exists():
        return Manifest(plan, now)
    found = read_manifest(output.path)
    other = found.plan.differences(plan) + environment_differences(found.environment, now)
    if other:
        raise FreeUValueError(
            f"--output {output.path} holds another run ({'; '.join(other)}): name a folder that does not exist yet"
        )
    return found


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

"""Make the pictures of a plan: one pipeline call and one generator each, so that no picture depends on another.

That is what makes a run resumable to the bit: leaving out the pictures that are there already cannot change the rest.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from freeu.errors import FreeUValueError
from freeu.metadata import png_bytes
from freeu.pipelines.io.inputs import pixel_sha
from freeu.pipelines.io.output import MANIFEST, OutputFolder
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.runs.draw import OnStep, draw
from freeu.pipelines.runs.manifest import Manifest, PictureRecord, environment, environment_differences, read_manifest
from freeu.pipelines.runs.plan import ARMS, INPUT_CONTROL, INPUT_IMAGE, INPUT_MASK, OF_VIDEO, Picture, Plan

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
    control_image: Image | None = None,
) -> Manifest:
    """Make every picture that is not there yet, each with its settings inside, and keep the manifest up to date.

    Args:
        loaded: the pipeline that the plan was made for.
        plan: what to make.
        output: where; a folder with the manifest of the same plan is continued.
        image, mask: input picture and mask at the plan's size, for the tasks "image" and "inpaint".
        progress: told of every step.
        control_image: what the plan's ControlNet reads, at the plan's size.

    Raises:
        FreeUValueError: the folder belongs to another plan or environment.
        FreeURuntimeError: FreeU did not act on a picture, or the disk is full.
    """
    progress = progress or Silent()
    manifest = claimed(output, plan)
    kept = _verified(output.path, manifest)
    manifest.pictures = kept
    if kept:
        progress.kept(len(kept))
    output.write(MANIFEST, manifest.to_json())
    for name, picture in ((INPUT_IMAGE, image), (INPUT_MASK, mask), (INPUT_CONTROL, control_image)):
        if picture is not None:
            output.write(name, png(picture))
    with quiet(), deterministic(plan.device, plan.threads):
        for todo in plan.pictures():
            if todo.file in kept:
                continue
            began = time.perf_counter()
            result, flagged = draw(loaded.pipe, plan, todo, image, mask, telling(progress, todo), control_image)
            seconds = time.perf_counter() - began
            output.write(todo.file, png_bytes(result, settings_of(plan, todo, manifest.environment)))
            manifest.pictures[todo.file] = PictureRecord(
                todo.file, todo.prompt, todo.seed, todo.arm, pixel_sha(result), round(seconds, 3), flagged
            )
            output.write(MANIFEST, manifest.to_json())
            progress.step(todo, 1.0)
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


def _verified(folder: Path, manifest: Manifest) -> dict[str, PictureRecord]:
    """The records whose picture is there with the very pixels that were written."""
    from PIL import Image

    kept = {}
    for name, record in manifest.pictures.items():
        with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(folder / name) as image:
            if pixel_sha(image.convert("RGB")) == record.sha256:
                kept[name] = record
    return kept


def telling(progress: Progress, picture: Picture) -> OnStep:
    """What a pipeline call tells of its steps, for one picture."""
    return lambda fraction, _latents: progress.step(picture, fraction)


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


def settings_of(plan: Plan, picture: Picture, made_with: Mapping[str, str]) -> dict[str, Any]:
    """The settings that go inside a picture or clip; no path of the machine is among them."""
    data = plan.to_dict()
    if plan.motion_adapter is not None:
        data["motion_adapter"] = {name: data["motion_adapter"][name] for name in ("name", "fingerprint")}
    added = plan.add_ons()
    for one in (*added.get("loras", ()), *added.get("embeddings", ())):
        del one["reference"]
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
        "frames": plan.frames,
        **({name: data[name] for name in OF_VIDEO} if plan.command == "video" else {}),
        **added,
        **({"control": {**plan.control.to_dict(), "reference": plan.control.name}} if plan.control else {}),
        "dtype": plan.dtype,
        "device": plan.device,
        "threads": plan.threads,
        "environment": dict(made_with),
    }

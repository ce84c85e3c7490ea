"""Load what a manifest's plan needs, to make its images or videos again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from freeu.errors import FreeUValueError
from freeu.extras import need_diffusers
from freeu.pipelines.io.frames import Frames, frames_sha, read_frames
from freeu.pipelines.io.images import read_image
from freeu.pipelines.io.inputs import open_image, pixel_sha
from freeu.pipelines.models.addons.add_ons import AddOns, Embedding, Lora, moved_embeddings, moved_loras
from freeu.pipelines.models.control.control import named
from freeu.pipelines.models.control.files import fetch_control, find_control
from freeu.pipelines.models.loading import load, pick_device
from freeu.pipelines.models.sources.families import fetch_adapter, find_adapter
from freeu.pipelines.models.sources.sources import ModelSource, find_model, fingerprint
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.runs.plan import (
    INPUT_CONTROL,
    INPUT_IMAGE,
    INPUT_MASK,
    INPUT_REGION,
    INPUT_VIDEO,
    ModelReference,
    Plan,
)
from freeu.pipelines.runs.prepare import Prepared, model_reference

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Elsewhere:
    """Where the networks of a manifest are now, and how to compute; None and () mean what the manifest says.

    Args:
        model, motion_adapter, control: another place of the same one.
        add_ons: other places of the same LoRAs and embeddings, in the manifest's order; their weights and words are
            the manifest's.
        model_config, variant: as in ``ModelOptions``, for the model at that place.
        device, threads, offload: others than the manifest's.
    """

    model: str | None = None
    motion_adapter: str | None = None
    control: str | None = None
    add_ons: AddOns = AddOns()
    model_config: Path | None = None
    variant: str | None = None
    device: str | None = None
    threads: int | None = None
    offload: str | None = None


@dataclass(frozen=True)
class Recovered:
    """What a manifest's plan needs, as far as it is found without loading a model.

    Args:
        source: of the model.
        loras, embeddings: where they are now.
        image, mask, video, control_image, region: what the run starts from, or None.
        adapter, control: of the motion adapter and the ControlNet, or None.
    """

    source: ModelSource
    loras: tuple[Lora, ...]
    embeddings: tuple[Embedding, ...]
    image: Image | None
    mask: Image | None
    video: Frames | None
    control_image: Image | None
    region: Image | None
    adapter: ModelSource | None
    control: ModelSource | None


def recover(plan: Plan, folder: Path, elsewhere: Elsewhere) -> Recovered:
    """Find what a manifest's plan needs; no model is loaded.

    Args:
        plan: of the manifest.
        folder: of the manifest; input images and frames are read from there.
        elsewhere: what is not where the manifest says.

    Raises:
        FreeUValueError: the model is not there, or the inputs are not those of the plan.
    """
    need_diffusers()
    loras = moved_loras(plan.loras, elsewhere.add_ons.loras)
    embeddings = moved_embeddings(plan.embeddings, elsewhere.add_ons.embeddings)
    source = _find(plan, elsewhere)
    for name, wanted, what in (
        (INPUT_IMAGE, plan.image_sha, "an image"),
        (INPUT_MASK, plan.mask_sha, "a mask"),
        (INPUT_CONTROL, plan.control, "a control image"),
        (INPUT_REGION, plan.region_sha, "a region"),
    ):
        if wanted and not (folder / name).is_file():
            raise FreeUValueError(f"it was generated from {what} too: put {name} of its folder beside it, in {folder}")
    image = open_image(folder / INPUT_IMAGE) if plan.image_sha else None
    mask = read_image(folder / INPUT_MASK).convert("L") if plan.mask_sha and image else None
    read = open_image(folder / INPUT_CONTROL) if plan.control else None
    region = read_image(folder / INPUT_REGION).convert("L") if plan.region_sha else None
    for name, given, sha in (
        (INPUT_IMAGE, image, plan.image_sha),
        (INPUT_MASK, mask, plan.mask_sha),
        (INPUT_CONTROL, read, plan.control.sha if plan.control else None),
        (INPUT_REGION, region, plan.region_sha),
    ):
        if given is not None and pixel_sha(given) != sha:
            raise FreeUValueError(f"{folder / name} is not the image that the manifest names: its pixels differ")
    video = None
    if plan.video_sha is not None and plan.fps is not None:
        video = read_frames(folder / INPUT_VIDEO, 1000 / plan.fps)
        if video is None or frames_sha(video) != plan.video_sha:
            raise FreeUValueError(f"{folder / INPUT_VIDEO} is not the video that the manifest names, or not there")
    adapter = steering = None
    if plan.motion_adapter is not None:
        adapter = find_adapter(elsewhere.motion_adapter or plan.motion_adapter.reference)
    if plan.control is not None:
        steering = find_control(elsewhere.control or plan.control.reference)
    return Recovered(source, loras, embeddings, image, mask, video, read, region, adapter, steering)


def reload(plan: Plan, folder: Path, elsewhere: Elsewhere) -> Prepared:
    """Load what a manifest's plan needs, to reproduce its images or videos.

    Args:
        plan, folder, elsewhere: as in ``recover``.

    Raises:
        FreeUValueError: what ``recover`` refuses, or the model cannot be loaded.
    """
    here = recover(plan, folder, elsewhere)
    loras, embeddings = here.loras, here.embeddings
    adapter = None if here.adapter is None else fetch_adapter(here.adapter)
    steering = None if here.control is None else fetch_control(here.control)
    plan = replace(plan, offload=elsewhere.offload or plan.offload)
    try:
        device = pick_device(elsewhere.device or plan.device)
    except FreeUValueError:
        if elsewhere.device is not None:
            raise
        device = pick_device("auto")
    variant = elsewhere.variant or plan.model.variant
    model_config = elsewhere.model_config or (Path(plan.model.model_config) if plan.model.model_config else None)
    loaded = load(
        here.source,
        plan.task,
        dtype=plan.dtype,
        device=device,
        scheduler=plan.scheduler,
        variant=variant,
        model_config=model_config,
        motion_adapter=adapter,
        loras=loras,
        embeddings=embeddings,
        fuse_loras=plan.fuse_loras,
        control=steering,
        prediction_type=plan.prediction_type,
        memory=plan.memory,
    )
    found = model_reference(loaded, ModelOptions(variant=variant, model_config=model_config))
    plan = replace(plan, model=found, device=device, threads=elsewhere.threads or plan.threads)
    plan = replace(plan, loras=loras, embeddings=embeddings)
    if adapter is not None:
        plan = replace(plan, motion_adapter=adapter_reference(adapter))
    if plan.control is not None and steering is not None:
        plan = replace(plan, control=replace(plan.control, **named(steering)))
    return Prepared(plan, loaded, here.image, here.mask, here.video, here.control_image, here.region)


def _find(plan: Plan, elsewhere: Elsewhere) -> ModelSource:
    """The model, here or where it is said to be now."""
    try:
        return find_model(elsewhere.model or plan.model.reference)
    except FreeUValueError as error:
        if elsewhere.model is not None:
            raise
        raise FreeUValueError(
            f"it was generated by {plan.model.name}: say where that is with --model ({error})"
        ) from None


def adapter_reference(adapter: ModelSource) -> ModelReference:
    """How a plan names a local motion adapter."""
    assert adapter.path is not None
    return ModelReference(adapter.kind, adapter.reference, adapter.label, adapter.class_name, fingerprint(adapter.path))

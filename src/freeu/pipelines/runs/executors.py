"""Where the calls of the pipeline of a run are made: in this process, or by whatever else gives the same bits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from freeu.errors import FreeURuntimeError
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.used import used_parts
from freeu.pipelines.runs.generate import OnStep
from freeu.pipelines.runs.manifest import ImageRecord
from freeu.pipelines.runs.plan import ARMS, OF_SPEED, OF_VIDEO, Plan, PlannedImage
from freeu.pipelines.runs.prepare import Prepared

Batch = tuple[PlannedImage, ...]
"""The images of one call of the pipeline."""


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


@dataclass(frozen=True)
class Work:
    """The part of a run that is missing.

    Args:
        prepared: the plan, the pipeline, and what it starts from.
        maker: of images or videos.
        output: where they are written.
        batches: the calls of the pipeline, in the plan's order.
        made_with: the versions that the manifest records.
        progress: told of every step that the executor hears of.
    """

    prepared: Prepared
    maker: Maker
    output: OutputFolder
    batches: tuple[Batch, ...]
    made_with: Mapping[str, str]
    progress: Progress


class LostWorkersError(FreeURuntimeError):
    """Whoever makes the calls elsewhere is gone, and not by what was asked of it."""


class Executor(Protocol):
    """Makes and writes the outputs of every batch."""

    def results(self, work: Work) -> Iterator[tuple[Batch, list[Made], float]]:
        """Each batch once, in any order, when all its files are written, with the seconds it took.

        Whoever has enough closes the iterator, and may ask for other work then.
        """
        ...


class InProcess:
    """One batch after the other in this process."""

    def results(self, work: Work) -> Iterator[tuple[Batch, list[Made], float]]:
        plan = work.prepared.plan
        used = used_parts(work.prepared.loaded.pipe)
        for batch in work.batches:
            began = time.perf_counter()
            settings = [settings_of(plan, todo, work.made_with, used) for todo in batch]
            made = work.maker.make(work.prepared, batch, work.output, settings, telling(work.progress, batch))
            yield batch, made, time.perf_counter() - began


def telling(progress: Progress, batch: Sequence[PlannedImage]) -> OnStep:
    """What a pipeline call tells of its steps."""
    return lambda fraction, _latents: progress.step(batch[0].file, fraction, len(batch))


def settings_of(
    plan: Plan, planned: PlannedImage, made_with: Mapping[str, str], used: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings that go inside an image or video; no path of the machine is among them.

    Args:
        made_with: the versions that the manifest records.
        used: sampler, VAE and text encoders of the pipeline, as ``used.used_parts`` gives them.
    """
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
        "negative_prompt": plan.negative_of(planned),
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
        **({"weighting": plan.weighting} if plan.weighting else {}),
        **({"region_sha256": plan.region_sha} if plan.region_sha and planned.arm == "freeu" else {}),
        **({"prediction_type": plan.prediction_type} if plan.prediction_type else {}),
        **{name: getattr(plan, name) for name in OF_SPEED if getattr(plan, name) != getattr(Plan, name)},
        "dtype": plan.dtype,
        "device": plan.device,
        "threads": plan.threads,
        **({"used": dict(used)} if used else {}),
        "environment": dict(made_with),
    }

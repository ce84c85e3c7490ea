"""What a user asks of ``freeu rerender``, and how it becomes a job: checks first, then the video, then the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.motion.estimate import FlowEstimator
from freeu.motion.raft import raft
from freeu.pipelines.io.inputs import parse_seeds
from freeu.pipelines.io.output import file_sha
from freeu.pipelines.models.control.control import MAX_SCALE, canny, named
from freeu.pipelines.models.control.files import fetch_control, find_control, load_control
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.models.sources.sources import ModelSource
from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.option import check_range, shell_line, words
from freeu.pipelines.runs.manifest import environment
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.runs.prepare import prepare
from freeu.pipelines.runs.request import Request, Sources, check_request
from freeu.rerender.denoise.settings import DEFAULT_STAGES, STAGES, KeyFrameSettings
from freeu.rerender.options import RerenderOptions
from freeu.rerender.video.segments import KeyFrameChoice
from freeu.rerender.video.source import Source, frames_sha, open_source

KIND, SCHEMA = "freeu-rerender", 1
NO_CONTROL = "none"
SCHEDULER = "ddim"
"""As in the paper. With other schedulers, above all PNDM, the stages have less effect in image-to-image."""

if TYPE_CHECKING:
    from freeu.pipelines.io.clip_files import Frame


@dataclass(frozen=True)
class Rerender:
    """A run of ``freeu rerender``.

    Args:
        video: the file.
        request: one prompt, one seed, the model, FreeU and the sampling; its command is "compare" for the video without
            and with FreeU, "generate" for one of them. Its ``control`` holds weight and order of the ControlNet alone.
        options: see there.
    """

    video: Path
    request: Request
    options: RerenderOptions = RerenderOptions()

    @property
    def plain_request(self) -> Request:
        """The request of the model alone: the ControlNet of the key frames is not the pipeline's."""
        sampling = replace(self.request.sampling, scheduler=self.request.sampling.scheduler or SCHEDULER)
        return replace(self.request, sampling=sampling, control=ControlOptions())


@dataclass
class Found:
    """What the checks before loading found."""

    source: Source
    model: Sources
    control: ModelSource | None
    flow: FlowEstimator | None


@dataclass
class Job:
    """A run whose model is loaded.

    Args:
        record: everything that determines the video, as plain data for JSON.
        source: the video at its working size.
        plan: everything that determines an image of the model.
        loaded: the pipeline.
        settings: of the key frames.
        keys: when a frame becomes a key frame.
        controlnet: a ``ControlNetModel``, or None.
        flow: the flow estimator; None is that of ``Tracker``.
        notes: what a user should know before the run.
    """

    record: dict[str, Any]
    source: Source
    plan: Plan
    loaded: Loaded
    settings: KeyFrameSettings
    keys: KeyFrameChoice
    controlnet: Any
    flow: FlowEstimator | None = None
    notes: tuple[str, ...] = ()


def check_rerender(run: Rerender, output: Path) -> Found:
    """Check everything that can be checked without loading a model; nothing is written.

    Raises:
        FreeUValueError: the first thing that is wrong, with its value and the fix.
    """
    run.options.check()
    check_range("--controlnet-weight", run.request.control.control_weight, 0.0, MAX_SCALE)
    if run.request.control.skip_filter_order is not None and run.request.freeu is None:
        raise FreeUValueError("--no-freeu leaves nothing for --skip-filter-order to say: give one or the other")
    if len(parse_seeds(run.request.sampling.seeds)) > 1:
        raise FreeUValueError(
            f"a video is made from one seed, got --seed {run.request.sampling.seeds}: make several runs"
        )
    need("video", "av", "cv2")
    model = check_request(run.plain_request, output)
    control = _control(run.options.control, model.model)
    flow = raft(run.options.raft) if run.options.raft is not None else None
    return Found(open_source(run.video, run.options.frames), model, control, flow)


def _control(name: str | None, model: ModelSource) -> ModelSource | None:
    """The ControlNet by name; for None the embedded one if the model is embedded, else none."""
    if name is None:
        name = "canny" if model.kind == "embedded" else NO_CONTROL
    return None if name == NO_CONTROL else find_control(name)


def prepare_rerender(run: Rerender, found: Found) -> Job:
    """Load the model and fix every setting that depends on it. Nothing is written.

    Args:
        run: checked by ``check_rerender``.
        found: what that gave.

    Raises:
        FreeUValueError: the model or the ControlNet cannot be loaded, or they do not fit.
    """
    import torch

    control = fetch_control(found.control) if found.control is not None else None
    prepared = prepare(run.plain_request, found.model)
    loaded = prepared.loaded
    size = run.request.size(loaded, found.source.size)
    plan = replace(prepared.plan, width=size[0], height=size[1], config=run.request.config(loaded.pipe))
    source = found.source.at(size)
    settings = KeyFrameSettings(
        prompt=plan.prompts[0],
        negative_prompt=plan.negative_prompt,
        steps=plan.steps,
        guidance=plan.guidance,
        strength=run.options.denoising_strength,
        control_scale=run.request.control.settings()["scale"],
        seed=plan.seeds[0],
        stages=tuple(
            stage
            for stage in (*DEFAULT_STAGES, *(run.options.enable or ()))
            if stage not in (run.options.disable or ())
        ),
    )
    network = None
    if control is not None:
        with quiet():
            network = load_control(control, loaded.pipe.unet, getattr(torch, plan.dtype), loaded.source.label)
            network.to(plan.device)
    record = {
        "kind": KIND,
        "schema": SCHEMA,
        "plan": plan.to_dict(),
        "video": {
            "name": source.path.name,
            "frames": len(source),
            "fps": source.clip.fps,
            "sound": source.sound,
            "sha256": frames_sha(source),
        },
        "settings": settings.record(),
        "keys_by": asdict(run.options.keys),
        "control": named(control) if control is not None else None,
        "raft": file_sha(run.options.raft) if run.options.raft is not None else None,
        "environment": environment(plan.device),
    }
    return Job(record, source, plan, loaded, settings, run.options.keys, network, found.flow, prepared.notes)


def command_line(job: Job) -> str:
    """The shell command that makes this video from the same source and model."""
    plan, settings, control = job.plan, job.settings, job.record["control"]
    stages = [stage for stage in STAGES if settings.on(stage) != (stage in DEFAULT_STAGES)]
    options = RerenderOptions(
        denoising_strength=settings.strength,
        key_every=job.keys.interval,
        key_content=job.keys.content,
        control=control["name"] if control else NO_CONTROL,
        enable=[stage for stage in stages if settings.on(stage)],
        disable=[stage for stage in stages if not settings.on(stage)],
        frames=len(job.source),
    )
    found = ["--seed", str(settings.seed)]
    found += ["--compare"] if plan.command == "compare" else []
    found += [*plan.model_words(), *words(ControlOptions(control_weight=settings.control_scale))]
    found += [*plan.sampling_words(), *words(options), *plan.run_words()]
    return shell_line("rerender", [job.source.path.name, settings.prompt], found)


def canny_edges(frame: Frame) -> Frame:
    """The Canny preprocessor: the control image of a frame, uint8 (H, W, 3), white edges on black."""
    import numpy as np
    from PIL import Image

    return np.asarray(canny(Image.fromarray(frame)), np.uint8)

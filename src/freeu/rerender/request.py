"""What a user asks of ``freeu rerender``, and how it becomes a job: cheap checks first, the video, then the model."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError, unknown_name
from freeu.extras import need
from freeu.motion.estimate import FlowEstimator
from freeu.motion.raft import raft
from freeu.pipelines.io.inputs import check_side, fit_size, parse_seeds
from freeu.pipelines.io.output import file_sha
from freeu.pipelines.models.control.control import canny, named
from freeu.pipelines.models.control.files import fetch_control, find_control, load_control
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.models.sources.sources import ModelSource
from freeu.pipelines.runs.manifest import environment
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.runs.request import Request, check_range, check_request, prepare
from freeu.rerender.denoise.settings import DEFAULT_STAGES, STAGES, KeyFrameSettings
from freeu.rerender.film.keyframes import KeyFrameChoice
from freeu.rerender.film.source import Source, frames_sha, open_source

KIND, SCHEMA = "freeu-rerender", 1
STRENGTH = 0.75
"""Of the noise on key frames, unless told otherwise."""
NO_CONTROL = "none"
PRESET = "gentle"
"""FreeU's settings unless others are named: the published ones make films less steady, measured by
``benchmarks/bench_rerender.py``."""
SCHEDULER = "ddim"
"""That of the paper. With others, PNDM above all, part of what the stages say is lost in image-to-image."""

if TYPE_CHECKING:
    from freeu.pipelines.io.clip_files import Frame


@dataclass(frozen=True)
class Rerender:
    """A run of ``freeu rerender``.

    Args:
        video: the file.
        request: one prompt, one seed, the model, FreeU and the numbers of drawing; its command is "compare" for the
            film without and with FreeU, "generate" for one of them.
        strength: 0..1, how much of a key frame is noised away; with 0 the film comes back as it went in.
        control: as ``--control``; "none" for no ControlNet; None for the embedded model's own.
        control_scale: weight of what the ControlNet adds, 0..2.
        control_order: "after" or "before": whether FreeU filters skips after or before the ControlNet adds to them;
            None for what the FreeU settings say.
        keys: which frames are drawn.
        more: stages that are on beside ``settings.DEFAULT_STAGES``.
        without: stages that are left out, of ``settings.STAGES``.
        frames: use only so many of the video; None uses all.
        raft: an ONNX file of RAFT, which finds the flow instead of OpenCV's DIS; see ``raft.raft``.
    """

    video: Path
    request: Request
    strength: float = STRENGTH
    control: str | None = None
    control_scale: float = 1.0
    control_order: str | None = None
    keys: KeyFrameChoice = field(default_factory=KeyFrameChoice)
    more: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    frames: int | None = None
    raft: Path | None = None


@dataclass
class Found:
    """What the cheap checks of a run found."""

    source: Source
    model: ModelSource
    control: ModelSource | None
    flow: FlowEstimator | None


@dataclass
class Job:
    """A run whose model is loaded.

    Args:
        record: everything that decides the film, as JSON can say it.
        source: the video at its working size.
        plan: what decides a picture of the model.
        loaded: the pipeline.
        settings: of the key frames.
        keys: which they are.
        controlnet: a ``ControlNetModel``, or None.
        flow: how flow is found; None: ``flow.Tracker``'s own way.
    """

    record: dict[str, Any]
    source: Source
    plan: Plan
    loaded: Loaded
    settings: KeyFrameSettings
    keys: KeyFrameChoice
    controlnet: Any
    flow: FlowEstimator | None = None


def check_rerender(run: Rerender, output: Path) -> Found:
    """Everything that can be wrong without loading a model; nothing is written.

    Raises:
        FreeUValueError: the first thing that is wrong, with its value and the fix.
    """
    check_range("--video-strength", run.strength, 0.0, 1.0)
    check_range("--control-scale", run.control_scale, 0.0, 2.0)
    check_range("--frames", run.frames, 2, 1_000_000)
    if run.control_order is not None and run.request.freeu is None:
        raise FreeUValueError("--no-freeu leaves nothing for --control-order to say: give one or the other")
    for option, names in (("--with", run.more), ("--without", run.without)):
        for name in names:
            if name not in STAGES:
                raise unknown_name(option, name, STAGES)
    both = [name for name in run.more if name in run.without]
    if both:
        raise FreeUValueError(f"--with and --without name {both[0]} both: leave one out")
    if len(parse_seeds(run.request.seeds)) > 1:
        raise FreeUValueError(f"a film is made from one seed, got --seed {run.request.seeds}: make several runs")
    need("video", "av", "cv2")
    model = check_request(run.request, output)
    control = _control(run.control, model)
    flow = raft(run.raft) if run.raft is not None else None
    return Found(open_source(run.video, run.frames), model, control, flow)


def _control(name: str | None, model: ModelSource) -> ModelSource | None:
    """The ControlNet that is meant; without a word the embedded one, where the model is embedded."""
    if name is None:
        name = "canny" if model.kind == "embedded" else NO_CONTROL
    return None if name == NO_CONTROL else find_control(name)


def prepare_rerender(run: Rerender, found: Found) -> Job:
    """Load the model and settle everything it decides. Nothing is written.

    Args:
        run: checked by ``check_rerender``.
        found: what that gave.

    Raises:
        FreeUValueError: the model or the ControlNet cannot be loaded, or they do not fit.
    """
    import torch

    control = fetch_control(found.control) if found.control is not None else None
    prepared = prepare(replace(run.request, scheduler=run.request.scheduler or SCHEDULER), found.model)
    loaded = prepared.loaded
    fitted = fit_size(found.source.size, loaded.native, loaded.multiple)
    size = (run.request.width or fitted[0], run.request.height or fitted[1])
    for name, side in zip(("--width", "--height"), size, strict=True):
        check_side(name, side, loaded.multiple)
    plan = replace(prepared.plan, width=size[0], height=size[1])
    if plan.config is not None and run.control_order is not None:
        plan = replace(plan, config=plan.config.replace(control=run.control_order))
    source = found.source.at(size)
    settings = KeyFrameSettings(
        prompt=plan.prompts[0],
        negative_prompt=plan.negative_prompt,
        steps=plan.steps,
        guidance=plan.guidance,
        strength=run.strength,
        control_scale=run.control_scale,
        seed=plan.seeds[0],
        stages=tuple(stage for stage in (*DEFAULT_STAGES, *run.more) if stage not in run.without),
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
        "keys_by": asdict(run.keys),
        "control": named(control) if control is not None else None,
        "raft": file_sha(run.raft) if run.raft is not None else None,
        "environment": environment(plan.device),
    }
    return Job(record, source, plan, loaded, settings, run.keys, network, found.flow)


def command_line(job: Job) -> str:
    """The command that makes this film from the same video and model, for a shell."""
    plan, settings, keys, control = job.plan, job.settings, job.keys, job.record["control"]
    words = ["freeu", "rerender", job.source.path.name, settings.prompt, "--seed", str(settings.seed)]
    words += ["--compare"] if plan.command == "compare" else []
    words += [*plan.model_words(), "--control", control["name"] if control else NO_CONTROL]
    words += ["--control-scale", f"{settings.control_scale:g}", *plan.drawing_words()]
    words += ["--video-strength", f"{settings.strength:g}", "--key-every", str(keys.interval)]
    words += ["--key-content"] if keys.content else []
    for stage in STAGES:
        if settings.on(stage) != (stage in DEFAULT_STAGES):
            words += ["--with" if settings.on(stage) else "--without", stage]
    return shlex.join([*words, "--frames", str(len(job.source)), *plan.arithmetic_words()])


def edges(frame: Frame) -> Frame:
    """What a canny ControlNet is shown of a frame: uint8 (H, W, 3), white on black."""
    import numpy as np
    from PIL import Image

    return np.asarray(canny(Image.fromarray(frame)), np.uint8)

"""Load a model with diffusers: quietly, on the right device, for text-to-image, image-to-image or inpainting."""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.extras import need_diffusers
from freeu.pipelines.io.inputs import SIDE_MULTIPLE
from freeu.pipelines.io.reading import read_pickled, readable
from freeu.pipelines.models.addons.add_ons import Embedding, Lora, check_fit
from freeu.pipelines.models.addons.attaching import attach, check_classes
from freeu.pipelines.models.addons.lora_files import unet_class
from freeu.pipelines.models.fitness import check_channels, check_inputs, markers
from freeu.pipelines.models.memory import Memory, check_device, place
from freeu.pipelines.models.schedulers import set_prediction, set_sampler
from freeu.pipelines.models.sources.families import FAMILIES, MOTION, base_class, family_of, generates_videos
from freeu.pipelines.models.sources.sources import ModelSource, check_checkpoint_keys, hub_snapshot
from freeu.pipelines.models.sources.tasks import TASK_NAMES, VIDEO_TASKS

TASKS = {
    "text": "AutoPipelineForText2Image",
    "image": "AutoPipelineForImage2Image",
    "inpaint": "AutoPipelineForInpainting",
}
DIRECT = {
    ("StableDiffusionPipeline", "text"): "StableDiffusionPipeline",
    ("StableDiffusionPipeline", "image"): "StableDiffusionImg2ImgPipeline",
    ("StableDiffusionPipeline", "inpaint"): "StableDiffusionInpaintPipeline",
    ("StableDiffusionXLPipeline", "text"): "StableDiffusionXLPipeline",
    ("StableDiffusionXLPipeline", "image"): "StableDiffusionXLImg2ImgPipeline",
    ("StableDiffusionXLPipeline", "inpaint"): "StableDiffusionXLInpaintPipeline",
}
"""What the automatic pipelines choose, for the commonest models: to choose, they import every pipeline there is."""
DTYPES = ("float32", "float16", "bfloat16")


@dataclass
class Loaded:
    """A pipeline that is ready to generate, with what its settings mean by default.

    Args:
        pipe: the pipeline of diffusers, on its device.
        source: where it came from; ``source.path`` is local.
        task: one of ``plan.TASKS``.
        native: side in pixels of the square image it generates by default.
        multiple: sides of its images must be multiples of this, in pixels.
        steps, guidance: its defaults.
        frames: of its videos by default; None where it generates still images.
        fps: frames per second of its videos by default.
        own_scheduler: that of the model's files, from which ``choose_scheduler`` makes others; None where no files
            were read.
    """

    pipe: Any
    source: ModelSource
    task: str
    native: int
    multiple: int
    steps: int
    guidance: float
    frames: int | None = None
    fps: int | None = None
    own_scheduler: Any = None


def pick_device(name: str) -> str:
    """The device to use for "auto" or a name of torch ("cpu", "cuda", "cuda:1", "mps").

    Raises:
        FreeUValueError: no such device on this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = name.partition(":")[0]
    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name in here or (kind == "xpu" and hasattr(torch, "xpu") and torch.xpu.is_available()):
        return name
    raise FreeUValueError(f"device {name!r} is not on this machine: use {' or '.join(here)}")


def pick_dtype(name: str, device: str) -> str:
    """The number format for "auto" (float16 on CUDA, float32 elsewhere) or one of ``DTYPES``."""
    if name == "auto":
        return "float16" if device.startswith("cuda") else "float32"
    if name not in DTYPES:
        raise FreeUValueError(f"dtype must be auto, {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {name!r}")
    return name


def pick_autocast(name: str, device: str) -> str | None:
    """The number format in which fast runs compute the U-Net of a float32 model, or None.

    It is bfloat16 on processors that multiply in it (AVX512-BF16, AMX); elsewhere on a processor it would be slower.

    Args:
        name: the dtype that was asked for; only "auto" leaves the choice.
        device: a device of torch.
    """
    import torch

    if name != "auto" or device != "cpu":
        return None
    # Private names of torch, some of which versions lack: without an answer nothing is cast.
    known = (getattr(torch.cpu, check, None) for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bfloat16" if any(check is not None and check() for check in known) else None


def load(
    source: ModelSource,
    task: str = "text",
    *,
    dtype: str = "float32",
    device: str = "cpu",
    scheduler: str | None = None,
    variant: str | None = None,
    model_config: Path | None = None,
    motion_adapter: ModelSource | None = None,
    loras: Sequence[Lora] = (),
    embeddings: Sequence[Embedding] = (),
    fuse_loras: bool = False,
    control: ModelSource | None = None,
    prediction_type: str | None = None,
    memory: Memory = Memory(),
) -> Loaded:
    """Load a pipeline.

    Args:
        source: what ``find_model`` gave.
        task: one of ``plan.TASKS``; a model that generates videos from a text makes "text" "video".
        dtype: one of ``DTYPES``.
        device: a device of torch.
        scheduler: a name of ``schedulers.SAMPLERS``; None keeps the model's own.
        variant: of the weights' files, such as "fp16".
        model_config: for a single file or an original ModelScope checkpoint, a diffusers directory with the
            configuration and tokenizers; without it they are looked up on the hub.
        motion_adapter: a local one makes an AnimateDiff pipeline of a Stable Diffusion, with the noise schedule that
            such adapters were trained on.
        loras, embeddings, fuse_loras: see ``attaching.attach``.
        control: a local ControlNet, which makes the pipeline that of the same task with a ControlNet.
        prediction_type: what the U-Net predicts, of ``schedulers.PREDICTION_TYPES``; None is as the model says, of a
            single file by the keys "v_pred" and "ztsnr".
        memory: how memory is saved.

    Raises:
        FreeUValueError: damaged or missing files, a model without a U-Net, one that cannot do this task, or add-ons or
            a ControlNet that do not fit it.
    """
    need_diffusers()
    check_device(memory, device)
    if not source.whole:
        raise FreeUValueError(f"{source.label} is a U-Net alone: give the directory of its whole pipeline")
    if source.kind == "hub":
        source = hub_snapshot(source, variant)
    check_fit(source, loras, embeddings)
    check_inputs(source, task)
    if task == "text" and generates_videos(source):
        task = "video"
    with quiet():
        check_classes(source.class_name, unet_class(source), loras, embeddings)
        first = "text" if motion_adapter is not None else task
        with _no_weights_missing(source.label):
            if source.modelscope is not None:
                pipe = _convert(source, first, dtype, variant, model_config)
            elif source.kind == "file":
                pipe = _load_file(source, first, dtype, model_config)
            else:
                pipe = _load(source, first, dtype, variant)
        if motion_adapter is not None:
            pipe = _set_in_motion(pipe, motion_adapter, task, dtype, source)
        if getattr(pipe, "unet", None) is None:
            raise FreeUValueError(f"{source.label} ({type(pipe).__name__}) has no U-Net: FreeU has nothing to act on")
        _find_text_model(pipe)
        latent = getattr(getattr(getattr(pipe, "vae", None), "config", None), "latent_channels", None)
        check_channels(source.label, pipe.unet.config.get("in_channels"), latent, task)
        if control is not None:
            pipe = _controlled(pipe, control, source)
        attach(pipe, loras, embeddings, fuse_loras)
        own = pipe.scheduler
        choose_scheduler(pipe, source, scheduler, prediction_type)
        place(pipe, device, memory, source.label)
        pipe.set_progress_bar_config(disable=True)
    return replace(describe_pipeline(pipe, source, task), own_scheduler=own)


def choose_scheduler(pipe: Any, source: ModelSource, scheduler: str | None, prediction_type: str | None = None) -> None:
    """Give a pipeline, which has the scheduler of its files, the one that is asked for.

    Args:
        pipe: of diffusers, changed.
        source: its files, which may say what the U-Net predicts.
        scheduler, prediction_type: as for ``load``.

    Raises:
        FreeUValueError: a scheduler that does not work with this model.
    """
    if scheduler is not None:
        set_sampler(pipe, scheduler)
    marked = markers(source)
    if marked.zero_snr and scheduler is None and "rescale_betas_zero_snr" not in pipe.scheduler.config:
        set_sampler(pipe, "ddim")
    set_prediction(pipe, prediction_type or marked.prediction_type, marked.zero_snr)


def _own_class(source: ModelSource, task: str) -> str:
    """The pipeline of a model's own kind for a task."""
    family = family_of(source.class_name)
    own = family.from_video if family is not None and task == "video-to-video" else base_class(source.class_name)
    return own or source.class_name


def _load(source: ModelSource, task: str, dtype: str, variant: str | None) -> Any:
    import diffusers

    direct = DIRECT.get((source.class_name, task))
    auto = getattr(diffusers, direct or TASKS.get(task) or _own_class(source, task))
    options: dict[str, Any] = {"local_files_only": True, **_dtype_option(dtype)}
    if variant is not None:
        options["variant"] = variant
    with readable(source.label):
        try:
            return auto.from_pretrained(source.path, **options)
        except ValueError as error:
            if "AutoPipeline" in str(error):
                raise FreeUValueError(
                    f"{source.label} ({source.class_name}) cannot do {TASK_NAMES[task]} in diffusers"
                ) from None
            raise


def _convert(source: ModelSource, task: str, dtype: str, variant: str | None, model_config: Path | None) -> Any:
    """An original ModelScope checkpoint."""
    from freeu.pipelines.models.modelscope.pipeline import modelscope_pipeline

    if task in TASKS:
        raise FreeUValueError(f"{source.label} ({source.class_name}) cannot do {TASK_NAMES[task]} in diffusers")
    if variant is not None:
        raise FreeUValueError(f"{source.label} is an original checkpoint, with one of each file: leave --variant out")
    return modelscope_pipeline(source, _own_class(source, task), dtype, model_config)


def _load_file(source: ModelSource, task: str, dtype: str, model_config: Path | None) -> Any:
    """A single checkpoint. diffusers reads ``.ckpt`` with ``weights_only``, so no code in it can run."""
    import diffusers

    assert source.path is not None
    keys: list[str] = []
    with readable(source.label):
        if source.path.suffix == ".ckpt":
            keys = list(read_pickled(source.path, "meta"))
            check_checkpoint_keys(source.label, keys)
        else:
            from freeu.pipelines.models.sources.sources import safetensors_keys

            keys = safetensors_keys(source.path)
        xl = any(key.startswith("conditioner.embedders.") for key in keys)
        base = diffusers.StableDiffusionXLPipeline if xl else diffusers.StableDiffusionPipeline
        options = {"config": str(model_config)} if model_config is not None else {}
        try:
            pipe = base.from_single_file(str(source.path), local_files_only=True, **options, **_dtype_option(dtype))
        except Exception as error:
            if model_config is None and _is_hub_error(error):
                raise FreeUValueError(
                    f"the configuration that belongs to {source.label} is not in the local cache and the hub cannot be "
                    "reached: give --model-config, a diffusers directory for the same kind of model"
                ) from None
            raise
    return pipe if task == "text" else getattr(diffusers, TASKS[task]).from_pipe(pipe)


def _find_text_model(pipe: Any) -> None:
    """I2VGen-XL asks its text encoder for ``text_model.final_layer_norm``, which transformers 5 has one level up."""
    encoder = getattr(pipe, "text_encoder", None)
    if encoder is not None and type(pipe).__name__ == "I2VGenXLPipeline" and not hasattr(encoder, "text_model"):
        vars(encoder)["text_model"] = encoder  # past torch, which would take it for a part of itself


def _set_in_motion(pipe: Any, adapter: ModelSource, task: str, dtype: str, source: ModelSource) -> Any:
    """The AnimateDiff pipeline of a Stable Diffusion and a motion adapter."""
    import diffusers

    if type(pipe).__name__ != "StableDiffusionPipeline":
        raise FreeUValueError(
            f"{source.label} ({type(pipe).__name__}) takes no motion adapter here: those of AnimateDiff belong to "
            "Stable Diffusion 1.x"
        )
    with readable(adapter.label):
        motion = diffusers.MotionAdapter.from_pretrained(adapter.path, local_files_only=True, **_dtype_option(dtype))
    name = FAMILIES[MOTION].from_video if task == "video-to-video" else MOTION
    parts = {part: getattr(pipe, part) for part in ("vae", "text_encoder", "tokenizer", "unet")}
    # What the adapters were trained with, and diffusers documents for them.
    settings = {"beta_schedule": "linear", "clip_sample": False, "timestep_spacing": "linspace", "steps_offset": 1}
    scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, **settings)
    try:
        return getattr(diffusers, str(name))(**parts, motion_adapter=motion, scheduler=scheduler)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FreeUValueError(
            f"the motion adapter {adapter.label} does not fit {source.label}: another kind of model? ({reason})"
        ) from None


def _controlled(pipe: Any, control: ModelSource, source: ModelSource) -> Any:
    """The pipeline of the same task with a ControlNet."""
    from freeu.pipelines.models.control.control import attach_control, control_class
    from freeu.pipelines.models.control.files import load_control

    control_class(type(pipe).__name__)  # refuses one that takes none before weights are read
    return attach_control(pipe, load_control(control, pipe.unet, pipe.unet.dtype, source.label))


def _is_hub_error(error: BaseException | None) -> bool:
    while error is not None:
        if type(error).__module__.startswith(("huggingface_hub", "requests", "httpx", "httpcore", "urllib3")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _dtype_option(dtype: str) -> dict[str, Any]:
    """``torch_dtype`` became ``dtype`` in diffusers; each version warns about or rejects the other."""
    import torch
    from diffusers.utils import deprecation_utils

    name = "dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype"
    return {name: getattr(torch, dtype)}


def describe_pipeline(pipe: Any, source: ModelSource, task: str) -> Loaded:
    """A pipeline with what its settings mean by default, from its own configuration and from what ``source`` knows."""
    factor = int(getattr(pipe, "vae_scale_factor", 8))
    config = pipe.unet.config
    sample = config.sample_size
    side = sample if isinstance(sample, int) else (max(sample) if sample else 64)
    parameters = inspect.signature(pipe.__call__).parameters
    family = family_of(type(pipe).__name__)

    def default(*names: str) -> Any:
        """What the model says of itself, then what its pipeline does unless told otherwise."""
        for name in names:
            found = world.get(name, parameters[name].default if name in parameters else None)
            if found is not None:
                return found
        return None

    world = source.world
    videos = task in VIDEO_TASKS
    wide, high = default("width"), default("height")
    native = side * factor
    if videos and isinstance(wide, int) and isinstance(high, int):
        native = round(math.sqrt(wide * high))
    own = source.modelscope.frames if source.modelscope is not None else None
    frames = own or default("default_frames", "num_frames") or getattr(config, "num_frames", None) or 16
    guidance = default("default_guidance_scale", "guidance_scale", "max_guidance_scale")
    levels = 2 ** (len(config.block_out_channels) - 1) if family is not None and family.whole_levels else 1
    return Loaded(
        pipe=pipe,
        source=source,
        task=task,
        native=int(world.get("native_size", native)),
        multiple=math.lcm(SIDE_MULTIPLE, factor * levels),
        steps=int(default("default_steps", "num_inference_steps") or 30),
        guidance=7.5 if guidance is None else float(guidance),
        frames=int(frames) if videos else None,
        fps=int(world.get("default_fps", family.fps if family is not None else 8)) if videos else None,
    )


class _Collector(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def _no_weights_missing(label: str) -> Iterator[None]:
    """Refuse a model some of whose weights are in no file: both libraries make up random ones, and only warn."""
    import transformers

    collector = _Collector()
    libraries = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    before = [(library.level, library.handlers) for library in libraries]
    for library in libraries:
        library.setLevel(logging.WARNING)
        library.handlers = [collector]
    try:
        yield
    finally:
        for library, (level, handlers) in zip(libraries, before, strict=True):
            library.setLevel(level)
            library.handlers = handlers
    for message in collector.messages:
        if "newly initialized" in message:
            # "Some weights of NAME were not ..." of diffusers and transformers 4, "NAME LOAD REPORT" of transformers 5.
            found = re.search(r"Some weights of (\w+)|(\w+) LOAD REPORT", re.sub(r"\x1b\[\d*m", "", message))
            part = (found[1] or found[2]) if found else "a part"
            raise FreeUValueError(
                f"{label} lacks weights of its {part}: the files are not complete, or not written as transformers "
                f"{transformers.__version__} reads them (a newer one may)"
            )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' notes and bars off the screen; their settings come back afterwards."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    levels = [(log, log.get_verbosity()) for log in (diffusers_log, transformers_log)]
    bars = [log.is_progress_bar_enabled() for log, _ in levels]
    for log, _ in levels:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for (log, level), bar in zip(levels, bars, strict=True):
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()

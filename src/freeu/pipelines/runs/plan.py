"""Everything that decides the images of a run, as one frozen value that JSON can hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from freeu.config import READERS, FreeUConfig
from freeu.errors import FreeUValueError
from freeu.guiding.settings import Guiding
from freeu.pipelines.io.inputs import MAX_SEED, format_seeds
from freeu.pipelines.io.output import MANIFEST
from freeu.pipelines.models.addons.add_ons import (
    Embedding,
    Lora,
    added_text,
    check_together,
    embedding_from_dict,
    lora_from_dict,
)
from freeu.pipelines.models.control.control import Control, control_from_dict
from freeu.pipelines.models.memory import OFFLOADS, Memory
from freeu.pipelines.models.schedulers import PREDICTION_TYPES
from freeu.pipelines.models.sources.tasks import TASKS, VIDEO_TASKS
from freeu.pipelines.models.weighting import WEIGHTINGS
from freeu.pipelines.options.control import options_of
from freeu.pipelines.options.freeu import FreeUOptions, RegionOptions
from freeu.pipelines.options.guiding import options_of as guiding_options
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.option import shell_line, words
from freeu.pipelines.options.run import BatchOptions, RunOptions
from freeu.pipelines.options.sampling import ImageInput, PromptOptions, SamplingOptions
from freeu.pipelines.options.scalecrafter import options_of as scalecrafter_options
from freeu.pipelines.options.video import MAX_FPS, VIDEO_FORMATS, VideoOptions
from freeu.scalecrafter.settings import ScaleCrafter

ARMS = {"baseline": "without FreeU", "freeu": "with FreeU"}
COMMANDS = ("compare", "generate", "video")
KINDS = ("embedded", "directory", "file", "hub")
AUTOCAST = "bfloat16"
OF_VIDEO = ("fps", "formats", "decode_chunk", "video_sha", "video_strength", "motion_adapter")
"""Fields of a plan that only ``freeu video`` has."""
OF_ADD_ONS = ("loras", "embeddings", "fuse_loras")
"""Fields of a plan that only a model with LoRAs or embeddings has."""
OF_SPEED = ("batch", "autocast", "offload", "vae_tiling", "attention_slicing")
"""Fields of a plan that only fast runs, or those in little memory, have: each can change the last bits."""
INPUT_CONTROL, INPUT_REGION = "input-control.png", "input-region.png"
INPUT_IMAGE, INPUT_MASK, INPUT_VIDEO = "input-image.png", "input-mask.png", "input-video.png"


@dataclass(frozen=True)
class ModelReference:
    """The model of a run: how to find it again and how to tell that it is the same.

    Args:
        kind, reference: as in ``sources.ModelSource``.
        name: what to show.
        class_name: class of the pipeline that was used.
        fingerprint: see ``sources.fingerprint``.
        variant, model_config: the options of the command line, or None.
    """

    kind: str
    reference: str
    name: str
    class_name: str
    fingerprint: str
    variant: str | None = None
    model_config: str | None = None


@dataclass(frozen=True)
class PlannedImage:
    """One image or video to make: prompt number, prompt, seed, "baseline" or "freeu", and the suffix of its file."""

    index: int
    prompt: str
    seed: int
    arm: str
    suffix: str = ".png"

    @property
    def pair(self) -> str:
        """What the file names of both arms begin with."""
        return f"p{self.index:03d}-s{self.seed:04d}"

    @property
    def file(self) -> str:
        return f"{self.pair}-{self.arm}{self.suffix}"

    def file_as(self, suffix: str) -> str:
        """The name of the same video in another format, such as "webp"."""
        return f"{self.pair}-{self.arm}.{suffix}"


@dataclass(frozen=True)
class Plan:
    """What a run makes.

    Args:
        command: "compare", "generate" or "video".
        prompts, negative_prompt, seeds: every prompt is generated with every seed. ("",) for a model that takes none.
        arms: "baseline" and "freeu", or one of them.
        config: what FreeU does; None if no image uses it.
        model: see ``ModelReference``.
        task: "text", "image", "inpaint", "video" (from a text), "video-to-video" or "image-to-video".
        steps: denoising steps.
        guidance: scale of classifier-free guidance.
        scheduler: a name of ``schedulers.SAMPLERS``, or None for the model's own.
        width, height: of the images, in pixels.
        image_sha, mask_sha: SHA-256 of the pixels of the input image and mask at that size, or None.
        image_strength: 0..1, how much of the input image is replaced by noise; None for text-to-image.
        dtype, device, threads: the arithmetic; all three can change the last bits.
        frames: of each video, for the tasks of video; None for still images.
        fps: frames per second of the videos' files, and what a model that asks for it is told; None where no such file
            is written.
        formats: of the videos' files, "mp4" first.
        decode_chunk: frames that are decoded at once; a decoder that looks at neighbours depends on it.
        video_sha: SHA-256 of the frames of the input video at that size, or None.
        video_strength: 0..1, how much of the input video is replaced by noise.
        motion_adapter: what made a video model of ``model``, or None.
        loras, embeddings: what was added to the model.
        fuse_loras: whether the LoRAs were added to its weights for good, which changes the last bits.
        control: the ControlNet that steers it, or None.
        prediction_type: what the U-Net was said to predict, of ``schedulers.PREDICTION_TYPES``, or None.
        scalecrafter: how its convolutions are dilated for a size above its own, or None.
        batch: images of one arm that one call of the pipeline generates, of one prompt each; above 1 only for
            text-to-image. Each image has its own generator, so its noise does not depend on it.
        autocast: "bfloat16" computes the U-Net so, though the model is in ``dtype``; None computes it as it is.
        guiding: when guidance acts and what it does to frequencies, or None.
        guidance_rescale: 0..1, how far the contrast of a guided prediction is set to that of the conditional one, or
            None.
        reader: the only part of the resnet behind a site that sees what FreeU changed, of ``config.READERS``, or
            None for all.
        offload, vae_tiling, attention_slicing: how memory was saved, see ``memory.Memory``.
        weighting: how prompts are read, of ``weighting.WEIGHTINGS``; None reads them as words.
        negatives: the negative prompt of each prompt, in place of ``negative_prompt``; () where all have that.
        region_sha: SHA-256 of the pixels of the region at that size, white where FreeU acts, or None: everywhere.

    Raises:
        FreeUValueError: a field that is of the wrong type or outside its range, by name.
    """

    command: str
    prompts: tuple[str, ...]
    negative_prompt: str
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    config: FreeUConfig | None
    model: ModelReference
    task: str
    steps: int
    guidance: float
    scheduler: str | None
    width: int
    height: int
    image_sha: str | None
    mask_sha: str | None
    image_strength: float | None
    dtype: str
    device: str
    threads: int
    frames: int | None = None
    fps: int | None = None
    formats: tuple[str, ...] = ()
    decode_chunk: int | None = None
    video_sha: str | None = None
    video_strength: float | None = None
    motion_adapter: ModelReference | None = None
    loras: tuple[Lora, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    fuse_loras: bool = False
    control: Control | None = None
    prediction_type: str | None = None
    scalecrafter: ScaleCrafter | None = None
    batch: int = 1
    autocast: str | None = None
    guiding: Guiding | None = None
    guidance_rescale: float | None = None
    reader: str | None = None
    offload: str | None = None
    vae_tiling: bool = False
    attention_slicing: bool = False
    weighting: str | None = None
    negatives: tuple[str, ...] = ()
    region_sha: str | None = None

    def __post_init__(self) -> None:
        video = self.command == "video"
        no_prompt = self.task == "image-to-video" and self.prompts == ("",)
        prompts = bool(self.prompts) and all(isinstance(prompt, str) and prompt for prompt in self.prompts)
        known_formats = all(form in VIDEO_FORMATS for form in self.formats)
        checks = {
            "command": self.command in COMMANDS and (not video or self.task in VIDEO_TASKS),
            "prompts": prompts or no_prompt,
            "seeds": bool(self.seeds) and all(_whole(seed, 0, MAX_SEED) for seed in self.seeds),
            "arms": bool(self.arms) and all(arm in ARMS for arm in self.arms),
            "config": self.config is not None or "freeu" not in self.arms,
            "task": self.task in TASKS,
            "steps": _whole(self.steps, 1, 10_000),
            "guidance": _real(self.guidance, 0.0, 1_000.0),
            "width": _whole(self.width, 8, 16_384),
            "height": _whole(self.height, 8, 16_384),
            "threads": _whole(self.threads, 1, 4_096),
            "frames": _whole(self.frames, 1, 4_096) if self.task in VIDEO_TASKS else self.frames is None,
            "image_strength": self.image_strength is None or _real(self.image_strength, 0.0, 1.0),
            "video_strength": self.video_strength is None or _real(self.video_strength, 0.0, 1.0),
            "fps": _whole(self.fps, 1, MAX_FPS) if video else self.fps is None,
            "decode_chunk": not video or _whole(self.decode_chunk, 1, 4_096),
            "formats": known_formats and (not video or self.formats[:1] == ("mp4",)),
            "negative_prompt": isinstance(self.negative_prompt, str),
            "dtype": isinstance(self.dtype, str),
            "device": isinstance(self.device, str),
            "fuse_loras": isinstance(self.fuse_loras, bool),
            "prediction_type": self.prediction_type is None or self.prediction_type in PREDICTION_TYPES,
            "control": self.control is None or self.task not in VIDEO_TASKS,
            "scalecrafter": self.scalecrafter is None or self.task not in VIDEO_TASKS,
            "batch": self.batch == 1 or (_whole(self.batch, 2, 4_096) and self.batchable),
            "autocast": self.autocast in (None, AUTOCAST),
            "negatives": not self.negatives
            or (len(self.negatives) == len(self.prompts) and all(isinstance(one, str) for one in self.negatives)),
            "region_sha": self.region_sha is None or isinstance(self.region_sha, str),
            "weighting": self.weighting is None or self.weighting in WEIGHTINGS,
            "offload": self.offload is None or self.offload in OFFLOADS,
            "vae_tiling": isinstance(self.vae_tiling, bool),
            "attention_slicing": isinstance(self.attention_slicing, bool),
            "guidance_rescale": self.guidance_rescale is None or _real(self.guidance_rescale, 0.0, 1.0),
            "reader": self.reader is None or (self.reader in READERS and self.arms == ("freeu",)),
        }
        for name, fine in checks.items():
            if not fine:
                raise _unusable(name, getattr(self, name))
        check_together(self.loras, self.embeddings, self.fuse_loras)

    def images(self) -> Iterator[PlannedImage]:
        """Every image in the order in which it is made: the images that belong together are neighbours."""
        suffix = ".mp4" if self.command == "video" else ".png"
        for index, prompt in enumerate(self.prompts):
            for seed in self.seeds:
                for arm in self.arms:
                    yield PlannedImage(index, prompt, seed, arm, suffix)

    def negative_of(self, planned: PlannedImage) -> str:
        """The negative prompt of an image."""
        return self.negatives[planned.index] if self.negatives else self.negative_prompt

    def batches(self) -> Iterator[tuple[PlannedImage, ...]]:
        """Every image, those together that one call of the pipeline generates: pairs in the same order, arm by arm.

        Which images share a call follows from the plan alone: an interrupted run repeats whole calls, to the same bits.
        """
        images = self.images()
        while together := tuple(itertools.islice(images, self.batch * len(self.arms))):
            for place in range(len(self.arms)):
                yield together[place :: len(self.arms)]

    @property
    def batchable(self) -> bool:
        """Whether one call of the pipeline may generate several images of this plan."""
        return self.task == "text" and self.control is None

    @property
    def arithmetic(self) -> str:
        """The number formats and how many images are generated at once, for people; see ``arithmetic``."""
        return arithmetic(self.to_dict())

    @property
    def noun(self) -> str:
        """What a run makes: "image" or "video"."""
        return "video" if self.command == "video" else "image"

    @property
    def count(self) -> int:
        return len(self.prompts) * len(self.seeds) * len(self.arms)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` gives back an equal plan."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}
        data["config"] = self.config.to_dict() if self.config else None
        data["model"] = asdict(self.model)
        data["motion_adapter"] = asdict(self.motion_adapter) if self.motion_adapter else None
        if self.command != "video":
            # Manifests of images are what they were before there was video.
            for name in OF_VIDEO:
                del data[name]
        for name in OF_ADD_ONS:
            # Nor do manifests of a model as it is say anything of what could be added to it.
            del data[name]
        for name in OF_SPEED:
            if data[name] == getattr(Plan, name):
                del data[name]
        del data["control"], data["scalecrafter"], data["guiding"]
        for name in ("prediction_type", "guidance_rescale", "reader", "weighting", "region_sha"):
            if data[name] is None:
                del data[name]
        if not self.negatives:
            del data["negatives"]
        later = {"control": self.control, "scalecrafter": self.scalecrafter, "guiding": self.guiding}
        return data | self.add_ons() | {name: one.to_dict() for name, one in later.items() if one is not None}

    @property
    def model_text(self) -> str:
        """The model and what was added to it, for people, in one line."""
        control = f"ControlNet {self.control.name}" if self.control else ""
        added = " and ".join(filter(None, (added_text(self.add_ons()), control)))
        return f"{self.model.name} with {added}" if added else self.model.name

    def add_ons(self) -> dict[str, Any]:
        """What was added to the model, as plain data; empty where nothing was."""
        if not self.loras and not self.embeddings:
            return {}
        return {
            "loras": [lora.to_dict() for lora in self.loras],
            "embeddings": [embedding.to_dict() for embedding in self.embeddings],
            "fuse_loras": self.fuse_loras,
        }

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """Read what ``to_dict`` gave.

        Raises:
            FreeUValueError: a field that is missing, unknown or damaged, by name.
        """
        values = _exact_fields("plan", data, cls)
        for name in ("prompts", "seeds", "arms", "formats", "loras", "embeddings", "negatives"):
            values[name] = list(values[name]) if values[name] == () else values[name]
            if not isinstance(values[name], list):
                raise _unusable(name, values[name])
            values[name] = tuple(values[name])
        if values["config"] is not None:
            values["config"] = FreeUConfig.from_dict(values["config"])
        values["model"] = _reference("model", values["model"])
        if values["motion_adapter"] is not None:
            values["motion_adapter"] = _reference("motion_adapter", values["motion_adapter"])
        if values["control"] is not None:
            values["control"] = control_from_dict(values["control"])
        if values["scalecrafter"] is not None:
            values["scalecrafter"] = ScaleCrafter.from_dict(values["scalecrafter"])
        if values["guiding"] is not None:
            values["guiding"] = Guiding.from_dict(values["guiding"])
        values["loras"] = tuple(lora_from_dict(one) for one in values["loras"])
        values["embeddings"] = tuple(embedding_from_dict(one) for one in values["embeddings"])
        return cls(**values)

    @property
    def reads_folder(self) -> bool:
        """Whether ``command_line`` names files that the run wrote into its folder."""
        return any((self.image_sha, self.mask_sha, self.video_sha, self.control, self.negatives, self.region_sha))

    def command_line(self) -> str:
        """The command that makes these images or videos from the same model, for a shell."""
        if self.negatives:  # which no command line holds
            return shell_line("generate", [], ["--from", MANIFEST])
        found = ["--seeds", format_seeds(self.seeds), *self.model_words()]
        found += words(options_of(self.control, Path(INPUT_CONTROL))) if self.control else []
        found += words(scalecrafter_options(self.scalecrafter)) if self.scalecrafter else []
        found += words(guiding_options(self.guiding, self.guidance_rescale))
        found += self.sampling_words()
        found += words(RegionOptions(Path(INPUT_REGION))) if self.region_sha else []
        image = Path(INPUT_IMAGE) if self.image_sha else None
        if self.command == "video":
            video = Path(INPUT_VIDEO) if self.video_sha else None
            found += words(
                VideoOptions(
                    image,
                    video,
                    self.video_strength,
                    self.frames,
                    self.fps,
                    ",".join(self.formats),
                    self.decode_chunk,
                )
            )
        else:
            found += words(ImageInput(image, Path(INPUT_MASK) if self.mask_sha else None, self.image_strength))
        prompts = words(PromptOptions(prompts=[*filter(None, self.prompts)]))
        return shell_line(self.command, prompts, [*found, *self.run_words()])

    def model_words(self) -> list[str]:
        """The options that name the model and what was added to it."""
        options = ModelOptions(
            model=self.model.name,
            lora=[lora.option for lora in self.loras],
            fuse_lora=self.fuse_loras,
            embedding=[embedding.option for embedding in self.embeddings],
            prediction_type=self.prediction_type,
        )
        adapter = self.motion_adapter.name if self.motion_adapter is not None else None
        return words(options) + words(VideoOptions(motion_adapter=adapter))

    def sampling_words(self) -> list[str]:
        """The options for FreeU, the steps and the size."""
        found = words(FreeUOptions(config=str(self.config) if self.config is not None else None))
        if self.config is None and self.command == "generate":
            found.append("--no-freeu")
        return found + words(
            SamplingOptions(
                steps=self.steps,
                guidance_scale=self.guidance,
                negative_prompt=self.negative_prompt,
                scheduler=self.scheduler,
                weighting=self.weighting,
                width=self.width,
                height=self.height,
            )
        )

    def run_words(self) -> list[str]:
        """The options for the arithmetic and for memory."""
        options = RunOptions(
            self.dtype,
            self.device,
            self.threads,
            offload=self.offload,
            vae_tiling=self.vae_tiling,
            attention_slicing=self.attention_slicing,
        )
        return words(options) + words(BatchOptions(self.batch))

    @property
    def memory(self) -> Memory:
        """How memory is saved."""
        return Memory(self.offload, self.vae_tiling, self.attention_slicing)

    def differences(self, other: Plan) -> list[str]:
        """Fields in which two plans differ, as "name: mine, theirs"."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [
            f"{name}: {_short(mine.get(name))}, {_short(theirs.get(name))}"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name)
        ]


def arithmetic(data: Mapping[str, Any]) -> str:
    """The same of a plan as plain data."""
    cast = f", the U-Net in {data['autocast']}" if data.get("autocast") else ""
    together = f", {data['batch']} at a time" if data.get("batch", 1) > 1 else ""
    saved = f", offload {data['offload']}" if data.get("offload") else ""
    saved += "".join(f", {name.replace('_', ' ')}" for name in ("vae_tiling", "attention_slicing") if data.get(name))
    return f"{data['dtype']}{cast}{together}{saved}"


def _reference(what: str, data: Any) -> ModelReference:
    values = _exact_fields(what, data, ModelReference)
    for name, value in values.items():
        optional = name in ("variant", "model_config")
        if not (isinstance(value, str) or (optional and value is None)):
            raise _unusable(f"{what}.{name}", value)
    if values["kind"] not in KINDS:
        raise _unusable(f"{what}.kind", values["kind"])
    return ModelReference(**values)


def _short(value: Any) -> str:
    text = str(FreeUConfig.from_dict(value)) if isinstance(value, dict) and "b" in value else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unusable(name: str, value: object) -> FreeUValueError:
    return FreeUValueError(f"{name} is not usable: {_short(value) or repr(value)}")


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _real(value: object, low: float, high: float) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def _exact_fields(what: str, data: Any, cls: type) -> dict[str, Any]:
    """The fields of a dataclass, none more, and none missing but those with a default, which came later."""
    if not isinstance(data, Mapping):
        raise FreeUValueError(f"{what} must be a JSON object, got {type(data).__name__}")
    known = {item.name: item.default for item in fields(cls)}
    for name in sorted(known.keys() - data.keys()):
        if known[name] is MISSING:
            raise FreeUValueError(f"{what} has no field {name!r}")
    for name in sorted(data.keys() - known.keys()):
        raise FreeUValueError(f"{what} has an unknown field {name!r}")
    return {**{name: default for name, default in known.items() if default is not MISSING}, **data}

"""What a user asks for, and everything that can be wrong with it before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.extras import need, need_diffusers
from freeu.json_files import read_json
from freeu.pipelines.io.inputs import (
    check_side,
    fit_region,
    fit_size,
    open_image,
    open_mask,
    open_region,
    pixel_sha,
)
from freeu.pipelines.io.output import refuse_foreign
from freeu.pipelines.models.addons.add_ons import AddOns, check_fit, check_together
from freeu.pipelines.models.control.control import HIGH, LOW, Control, condition, control_class, named
from freeu.pipelines.models.control.files import check_control_fit, fetch_control, find_control
from freeu.pipelines.models.fitness import check_scale
from freeu.pipelines.models.sources.families import refuse_videos
from freeu.pipelines.models.sources.sources import ModelSource, find_model
from freeu.pipelines.models.weighting import check_weighting
from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions, RegionOptions, config_changes
from freeu.pipelines.options.guiding import GuidingOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.option import check_bounds, check_range
from freeu.pipelines.options.run import BatchOptions, RunOptions, SpeedOptions
from freeu.pipelines.options.sampling import ImageInput, SamplingOptions, effective_strength
from freeu.pipelines.options.scalecrafter import ScaleCrafterOptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from freeu.pipelines.io.frames import Frames
    from freeu.pipelines.models.loading import Loaded


@dataclass(frozen=True)
class Sources:
    """The networks of a request: the model, and a motion adapter and a ControlNet, or None."""

    model: ModelSource
    adapter: ModelSource | None = None
    control: ModelSource | None = None


@dataclass
class Inputs:
    """What a run starts from, at its size, and what the plan says of it.

    Args:
        size: width and height of what is generated, in pixels.
        plan: fields of ``plan.Plan``.
        image, mask, control_image, region: images at that size, or None.
        video: frames at that size, or None.
        notes: what a user should know of them.
    """

    size: tuple[int, int]
    plan: dict[str, Any] = field(default_factory=lambda: {"image_sha": None, "mask_sha": None, "image_strength": None})
    image: Image | None = None
    mask: Image | None = None
    control_image: Image | None = None
    video: Frames | None = None
    region: Image | None = None
    notes: list[str] = field(default_factory=list)

    def take_region(self, path: Path, multiple: int, like: Image | None = None) -> None:
        """Read where FreeU acts; the arguments are those of ``inputs.fit_region``."""
        region, note = open_region(path)
        self.region = fit_region(region, self.size, multiple, like)
        self.plan["region_sha"] = pixel_sha(self.region)
        self.notes += [note] if note else []


@dataclass(frozen=True)
class Request:
    """A run that makes images; ``video.request.VideoRequest`` is one that makes videos.

    Args:
        command: "compare" or "generate".
        prompts: what to generate, at least one.
        sampling, model, image, control, scalecrafter, guiding, run: the options, see ``pipelines.options``.
        add_ons: LoRAs and embeddings; those of ``model`` once their files were read.
        freeu: None makes images without FreeU.
        frames: of a model that makes video, where ``allow_videos`` lets one in.
        words: that the embedded model was taught, besides its own.
        speed: None generates images one by one, in the model's own number format: to the same bits as anywhere. Else
            several at once, and with ``--dtype auto`` in the quickest format.
        batch: how many of one arm are generated at once where ``speed`` is None.
        negatives: the negative prompt of each prompt; () gives all of them that of ``sampling``.
        region: where in the image FreeU acts.
    """

    command: str
    prompts: tuple[str, ...] = ()
    sampling: SamplingOptions = SamplingOptions()
    model: ModelOptions = ModelOptions()
    run: RunOptions = RunOptions()
    freeu: FreeUOptions | None = None
    add_ons: AddOns = AddOns()
    image: ImageInput = ImageInput()
    control: ControlOptions = ControlOptions()
    frames: int | None = None
    allow_videos: bool = False
    words: tuple[str, ...] = ()
    scalecrafter: ScaleCrafterOptions = ScaleCrafterOptions()
    speed: SpeedOptions | None = None
    guiding: GuidingOptions = GuidingOptions()
    batch: BatchOptions = BatchOptions()
    negatives: tuple[str, ...] = ()
    region: RegionOptions = RegionOptions()

    default_model = "DEFAULT_MODEL"
    """What ``freeu_zoo`` calls the model that is used where none is named."""

    @property
    def task(self) -> str:
        """What is started from; a name of ``tasks.TASKS``."""
        if self.image.image is None:
            return "text"
        return "image" if self.image.mask is None else "inpaint"

    @property
    def arms(self) -> tuple[str, ...]:
        """With FreeU, without it, or both."""
        if self.command == "generate":
            return ("baseline",) if self.freeu is None else ("freeu",)
        return ("baseline", "freeu")

    def config(self, pipe: Any) -> FreeUConfig | None:
        """FreeU's settings for a pipeline."""
        return None if self.freeu is None else self.freeu.resolve(pipe).replace(**config_changes(self.control))

    # -- what a kind of request checks and reads of its own ------------------------------------------------------

    def check_options(self) -> None:
        """What can be wrong with the options of this kind of run."""
        check_range("--frames", self.frames, 1, 1_000)
        self.image.check()
        self.control.check()
        self.scalecrafter.check(self.sampling)
        if self.speed is not None:
            check_bounds(self.speed)
        check_bounds(self.batch)
        if self.batch.batch > 1 and (self.task != "text" or self.control.control is not None):
            raise FreeUValueError(
                f"--batch {self.batch.batch}: only text-to-image without a ControlNet generates several at once: "
                "leave it out"
            )

    def check_files(self) -> None:
        """Open every input once, so that damage is found before a model is loaded."""
        if self.control.control_image is not None:
            open_image(self.control.control_image)
        if self.image.image is not None:
            image = open_image(self.image.image)
            if self.image.mask is not None:
                open_mask(self.image.mask, image)
        self.check_region()

    def check_region(self) -> None:
        """Whether the region can be read, and there is FreeU to act in it."""
        if self.region.region is not None:
            if self.freeu is None:
                raise FreeUValueError("--region says where FreeU acts, and --no-freeu leaves it out: give one of them")
            open_region(self.region.region)

    def find(self) -> Sources:
        """The networks that are meant, by their files alone."""
        control = find_control(self.control.control) if self.control.control is not None else None
        return Sources(find_model(self.model.model, self.default_model), control=control)

    def check_sources(self, found: Sources) -> None:
        """Whether the networks do what is asked, and fit together."""
        if not self.allow_videos:
            refuse_videos(found.model)
        if self.scalecrafter.scalecrafter:
            check_scale(found.model, self.sampling.width, self.sampling.height)
        if found.control is not None:
            if found.model.class_name:
                control_class(found.model.class_name)
            config = found.model.path / "unet" / "config.json" if found.model.path is not None else None
            if config is not None and config.is_file():
                check_control_fit(found.control, read_json(config), found.model.label)

    def fetch(self, found: Sources) -> Sources:
        """The networks with local copies of those that ``loading.load`` does not fetch."""
        return replace(found, control=fetch_control(found.control)) if found.control is not None else found

    def check_loaded(self, loaded: Loaded) -> None:
        """What is known of a model only once it is loaded."""
        if not self.allow_videos:
            refuse_videos(loaded.source)
        if self.frames is not None and loaded.frames is None:
            raise FreeUValueError(
                f"--frames is for models that generate video; {loaded.source.label} generates still images"
            )

    def read_inputs(self, loaded: Loaded, found: Sources, steps: int) -> Inputs:
        """The inputs at the size of the run."""
        guide = open_image(self.control.control_image) if self.control.control_image is not None else None
        image = open_image(self.image.image) if self.image.image is not None else None
        shape = open_region(self.region.region)[0].size if self.region.region is not None else None
        inputs = Inputs(self.size(loaded, image or guide or shape))
        mask = None
        if self.image.mask is not None and image is not None:
            mask, note = open_mask(self.image.mask, image)
            inputs.notes += [note] if note else []
        inputs.plan["frames"] = self.frames or loaded.frames
        inputs.plan["scalecrafter"] = self.scalecrafter.resolve(loaded.pipe, inputs.size, loaded.native)
        if image is not None:
            inputs.image, inputs.mask = resized(image, mask, inputs.size)
            inputs.plan |= {
                "image_sha": pixel_sha(inputs.image),
                "mask_sha": pixel_sha(inputs.mask) if inputs.mask else None,
                "image_strength": effective_strength(self.image.denoising_strength, steps),
            }
        if self.region.region is not None:
            inputs.take_region(self.region.region, loaded.multiple, image)
        if found.control is not None and guide is not None:
            settings = self.control.settings()
            inputs.control_image = condition(guide, inputs.size, settings["preprocess"])
            sha = pixel_sha(inputs.control_image)
            inputs.plan["control"] = Control(**named(found.control), **settings, low=LOW, high=HIGH, sha=sha)
        return inputs

    def size(self, loaded: Loaded, like: Image | tuple[int, int] | None) -> tuple[int, int]:
        """Width and height: as asked, else the shape of an input at the model's area, else the model's own."""
        fitted = (loaded.native, loaded.native)
        if like is not None:
            fitted = fit_size(like if isinstance(like, tuple) else like.size, loaded.native, loaded.multiple)
        size = (self.sampling.width or fitted[0], self.sampling.height or fitted[1])
        for name, side in zip(("--width", "--height"), size, strict=True):
            check_side(name, side, loaded.multiple)
        return size


def check_request(request: Request, output: Path) -> Sources:
    """Everything that can be wrong without loading a model; nothing is written.

    Args:
        request: of images or videos.
        output: the folder that the run will write.

    Returns:
        the networks that the request means.

    Raises:
        FreeUValueError: the first thing that is wrong, with its value and the fix.
    """
    request.sampling.check()
    request.guiding.check(request.sampling.guidance_scale)
    check_bounds(request.run)
    if request.freeu is not None:
        request.freeu.check()
    request.run.memory()
    check_weighting(
        request.sampling.weighting, [*request.prompts, *request.negatives, request.sampling.negative_prompt]
    )
    check_together(request.add_ons.loras, request.add_ons.embeddings, request.add_ons.fuse_loras)
    if request.add_ons.loras:
        need("personalize", "peft")
    request.model.check()
    refuse_foreign(output)
    request.check_options()
    need_diffusers()
    request.check_files()
    found = request.find()
    if not found.model.whole:
        raise FreeUValueError(f"{found.model.label} is a U-Net alone: give the directory of its whole pipeline")
    request.check_sources(found)
    check_fit(found.model, request.add_ons.loras, request.add_ons.embeddings)
    return found


def resized(image: Image, mask: Image | None, size: tuple[int, int]) -> tuple[Image, Image | None]:
    """Image and mask at a size: the image by Lanczos, the mask without new greys."""
    from PIL.Image import Resampling

    if image.size != size:
        image = image.resize(size, Resampling.LANCZOS)
    if mask is not None and mask.size != size:
        mask = mask.resize(size, Resampling.NEAREST)
        if mask.point(lambda value: 255 if value > 127 else 0).getbbox() is None:
            raise FreeUValueError(
                f"nothing of the mask's white is left at {size[0]}x{size[1]}: paint more of it, or raise --width and "
                "--height"
            )
    return image, mask

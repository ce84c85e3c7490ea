"""What a user asks for, and how it becomes a plan: cheap checks first, then the model, then everything it decides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.extras import need, need_diffusers
from freeu.pipelines.io.frames import Frames
from freeu.pipelines.io.inputs import check_side, fit_size, open_image, open_mask, parse_factors, parse_seeds, pixel_sha
from freeu.pipelines.io.output import refuse_foreign
from freeu.pipelines.io.prompts import collect_prompts, notes_on_tokens, unknown_words, without
from freeu.pipelines.models.addons.add_ons import Embedding, Lora, check_fit, check_together
from freeu.pipelines.models.control.control import HIGH, LOW, Control, check_control, condition, control_class, named
from freeu.pipelines.models.control.files import check_control_fit, fetch_control, find_control
from freeu.pipelines.models.schedulers import sampler_name
from freeu.pipelines.models.sources.families import refuse_clips
from freeu.pipelines.models.sources.sources import ModelSource, find_model, fingerprint, read_json
from freeu.pipelines.runs.plan import ModelReference, Plan
from freeu.presets import preset

if TYPE_CHECKING:
    from PIL.Image import Image

    from freeu.pipelines.models.loading import Loaded

CONTROL_OPTIONS = ("control_image", "control_preprocess", "control_scale", "control_start", "control_end")


@dataclass(frozen=True)
class FreeUChoice:
    """How the command line names FreeU's settings; all None means what ``freeu.recommend`` says.

    Args:
        preset: name of a preset.
        config: short text ("b1=1.3 b2=1.4 ...") or JSON, or a file that holds either.
        b, s: factors with commas.
        version, profile, start, end, ramp, strength, over_time, time_threshold: fields of ``FreeUConfig`` that override
            the rest.
        frame_strength: the field of that name, with commas.
        control_order: the field ``control``.
    """

    preset: str | None = None
    config: str | None = None
    b: str | None = None
    s: str | None = None
    version: int | None = None
    profile: str | None = None
    start: float | None = None
    end: float | None = None
    ramp: float | None = None
    strength: float | None = None
    over_time: str | None = None
    frame_strength: str | None = None
    time_threshold: int | None = None
    control_order: str | None = None

    def overrides(self) -> dict[str, Any]:
        """The single fields that were given."""
        names = ("version", "profile", "start", "end", "ramp", "strength", "over_time", "time_threshold")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.frame_strength is not None:
            found["frame_strength"] = _strengths(self.frame_strength)
        if self.control_order is not None:
            found["control"] = self.control_order
        return found

    def base(self) -> FreeUConfig | None:
        """What was named, or None for the model's recommendation.

        Raises:
            FreeUValueError: two ways at once, an unknown preset, a bad factor or text.
        """
        given = [name for name, value in (("preset", self.preset), ("config", self.config)) if value is not None]
        given += ["b/--s"] if self.b is not None or self.s is not None else []
        if len(given) > 1:
            raise FreeUValueError(f"--{' and --'.join(given)} say the same thing twice: give one of them")
        if self.preset is not None:
            return preset(self.preset)
        if self.config is not None:
            return parse_config(self.config)
        if not given:
            return None
        b = parse_factors("b", self.b) if self.b is not None else None
        s = parse_factors("s", self.s) if self.s is not None else None
        return FreeUConfig(b=b or (1.0,) * len(s or (1.0, 1.0)), s=s, **self.overrides())

    def resolve(self, model: Any) -> FreeUConfig:
        """The configuration for a pipeline or U-Net."""
        import freeu

        base = self.base()
        return (freeu.recommend(model) if base is None else base).replace(**self.overrides())

    def check(self) -> None:
        """Everything that can be wrong with it without a model."""
        base = self.base()
        (FreeUConfig(b=(1.1, 1.1)) if base is None else base).replace(**self.overrides())


def _strengths(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise FreeUValueError(
            f"--frame-strength must be numbers of 0 to 1 with commas, from the first frame to the last, such as "
            f"1,1,0.5; got {text!r}"
        ) from None


def parse_config(text: str) -> FreeUConfig:
    """A configuration from its short text, its JSON, or a file that holds one of them."""
    if "=" not in text and "{" not in text:
        path = Path(text).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise FreeUValueError(f'--config {text!r} is neither "b1=1.3 ..." nor a readable file: {reason}') from None
    text = text.strip()
    return FreeUConfig.from_json(text) if text.startswith("{") else FreeUConfig.parse(text.replace("\n", " "))


@dataclass(frozen=True)
class Request:
    """A run as the command line asks for it; None means the model's own default.

    Args:
        command: "compare" or "generate".
        prompts, prompts_from: see ``prompts.collect_prompts``.
        seeds: text for ``inputs.parse_seeds``.
        freeu: see ``FreeUChoice``; None makes pictures without FreeU.
        clips: whether a model that draws video is welcome.
        loras, embeddings: what ``add_ons`` found in the words of the command line.
        control, control_image: the ControlNet's name and the picture for it.
        control_preprocess, control_scale, control_start, control_end: fields of ``control.Control``.
        the others: as in ``plan.Plan``, and as the options of the same names.
    """

    command: str
    prompts: tuple[str, ...]
    prompts_from: str | None
    seeds: str
    freeu: FreeUChoice | None
    model: str | None = None
    model_config: Path | None = None
    variant: str | None = None
    image: Path | None = None
    mask: Path | None = None
    image_strength: float | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str = ""
    scheduler: str | None = None
    width: int | None = None
    height: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    threads: int | None = None
    frames: int | None = None
    clips: bool = False
    loras: tuple[Lora, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    fuse_loras: bool = False
    control: str | None = None
    control_image: Path | None = None
    control_preprocess: str | None = None
    control_scale: float | None = None
    control_start: float | None = None
    control_end: float | None = None

    @property
    def task(self) -> str:
        if self.image is None:
            return "text"
        return "image" if self.mask is None else "inpaint"

    def steering(self) -> dict[str, Any]:
        """Fields of ``control.Control`` that need no model."""
        return {
            "scale": 1.0 if self.control_scale is None else self.control_scale,
            "start": 0.0 if self.control_start is None else self.control_start,
            "end": 1.0 if self.control_end is None else self.control_end,
            "preprocess": self.control_preprocess or "canny",
        }


@dataclass
class Prepared:
    """A request whose model is loaded: the plan, the pipeline, and the pictures or frames that it is given."""

    plan: Plan
    loaded: Loaded
    image: Image | None
    mask: Image | None
    video: Frames | None = None
    control_image: Image | None = None


def check_request(request: Request, output: Path) -> ModelSource:
    """Everything that can be wrong without loading a model; nothing is written.

    Raises:
        FreeUValueError: the first thing that is wrong, with its value and the fix.
    """
    collect_prompts(request.prompts, request.prompts_from)
    check_settings(request, output)
    if request.image is None:
        if request.mask is not None:
            raise FreeUValueError("--mask needs the picture it belongs to: give --image FILE too")
        if request.image_strength is not None:
            raise FreeUValueError("--image-strength needs a picture to start from: give --image FILE too")
    _check_control(request)
    need_diffusers()
    if request.control_image is not None:
        open_image(request.control_image)
    if request.image is not None:
        image = open_image(request.image)
        if request.mask is not None:
            open_mask(request.mask, image)
    source = find_model(request.model)
    if not source.whole:
        raise FreeUValueError(f"{source.label} is a U-Net alone: give the directory of its whole pipeline")
    if not request.clips:
        refuse_clips(source)
    check_fit(source, request.loras, request.embeddings)
    if request.control is not None:
        control = find_control(request.control)
        if source.class_name:
            control_class(source.class_name)
        config = source.path / "unet" / "config.json" if source.path is not None else None
        if config is not None and config.is_file():
            check_control_fit(control, read_json(config), source.label)
    return source


def _check_control(request: Request) -> None:
    """A ControlNet and its picture come together, and its other options with them."""
    if request.control is None:
        given = [name for name in CONTROL_OPTIONS if getattr(request, name) is not None]
        given += ["control_order"] if request.freeu is not None and request.freeu.control_order is not None else []
        if given:
            raise FreeUValueError(f"--{given[0].replace('_', '-')} needs a ControlNet: give --control NAME|PATH too")
        return
    if request.control_image is None:
        raise FreeUValueError("--control needs the picture that it follows: give --control-image FILE too")
    check_control(**request.steering())
    if request.steering()["preprocess"] == "canny":
        need("video", "cv2")


def check_settings(request: Request, output: Path) -> None:
    """What can be wrong with the numbers and names of any run; nothing is read but the output folder.

    Raises:
        FreeUValueError: the first thing that is wrong, with its value and the fix.
    """
    parse_seeds(request.seeds)
    if request.freeu is not None:
        request.freeu.check()
    if request.scheduler is not None:
        sampler_name(request.scheduler)
    for name, side in (("width", request.width), ("height", request.height)):
        if side is not None:
            check_side(f"--{name}", side)
    check_range("--steps", request.steps, 1, 1_000)
    check_range("--guidance", request.guidance, 0.0, 100.0)
    check_range("--threads", request.threads, 1, 4_096)
    check_range("--image-strength", request.image_strength, 0.0, 1.0)
    check_range("--frames", request.frames, 1, 1_000)
    check_together(request.loras, request.embeddings, request.fuse_loras)
    if request.loras:
        need("personalize", "peft")
    refuse_foreign(output)
    if request.model_config is not None and not (request.model_config / "model_index.json").is_file():
        raise FreeUValueError(
            f"--model-config {request.model_config} is no directory of diffusers: no model_index.json"
        )


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raise ``FreeUValueError`` for a number outside its range; None passes."""
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise FreeUValueError(f"{name} must lie in {low:g} to {high:g}, got {value:g}")


def prepare(request: Request, source: ModelSource) -> Prepared:
    """Load the model and settle everything it decides. Nothing is written.

    Args:
        request: checked by ``check_request``.
        source: what that gave.

    Raises:
        FreeUValueError: the model cannot be loaded or cannot do what is asked.
    """
    import torch

    from freeu.pipelines.models.loading import load, pick_device, pick_dtype

    device = pick_device(request.device)
    dtype = pick_dtype(request.dtype, device)
    scheduler = sampler_name(request.scheduler) if request.scheduler is not None else None
    control = fetch_control(find_control(request.control)) if request.control is not None else None
    loaded = load(
        source,
        request.task,
        dtype=dtype,
        device=device,
        scheduler=scheduler,
        variant=request.variant,
        model_config=request.model_config,
        loras=request.loras,
        embeddings=request.embeddings,
        fuse_loras=request.fuse_loras,
        control=control,
    )
    if not request.clips:
        refuse_clips(loaded.source)  # a model of the hub is known only now
    if request.frames is not None and loaded.frames is None:
        raise FreeUValueError(f"--frames is for models that draw video; {loaded.source.label} draws still pictures")
    image = mask = None
    width, height = request.width or loaded.native, request.height or loaded.native
    asked = open_image(request.control_image) if request.control_image is not None else None
    if asked is not None:
        fitted = fit_size(asked.size, loaded.native, loaded.multiple)
        width, height = request.width or fitted[0], request.height or fitted[1]
    if request.image is not None:
        image = open_image(request.image)
        mask = open_mask(request.mask, image) if request.mask is not None else None
        fitted = fit_size(image.size, loaded.native, loaded.multiple)
        width, height = request.width or fitted[0], request.height or fitted[1]
        image, mask = resized(image, mask, (width, height))
    for name, side in (("--width", width), ("--height", height)):
        check_side(name, side, loaded.multiple)
    strength = None if image is None else (0.6 if request.image_strength is None else request.image_strength)
    steps = request.steps or loaded.steps
    if strength is not None and int(steps * strength) < 1:
        raise FreeUValueError(
            f"--image-strength {strength:g} leaves none of {steps} steps to do: "
            f"raise it to {min(1.0, 1.01 / steps):.2g} or more, or raise --steps"
        )
    steering, read = None, None
    if control is not None and asked is not None:
        read = condition(asked, (width, height), request.steering()["preprocess"])
        steering = Control(**named(control), **request.steering(), low=LOW, high=HIGH, sha=pixel_sha(read))
    config = request.freeu.resolve(loaded.pipe) if request.freeu is not None else None
    arms = ("baseline", "freeu") if request.command == "compare" else ("freeu" if config else "baseline",)
    assert loaded.source.path is not None
    plan = Plan(
        command=request.command,
        prompts=collect_prompts(request.prompts, request.prompts_from),
        negative_prompt=request.negative_prompt,
        seeds=parse_seeds(request.seeds),
        arms=arms,
        config=config,
        model=ModelReference(
            kind=loaded.source.kind,
            reference=loaded.source.reference,
            name=loaded.source.label,
            class_name=type(loaded.pipe).__name__,
            fingerprint=fingerprint(loaded.source.path),
            variant=request.variant,
            model_config=str(request.model_config.resolve()) if request.model_config else None,
        ),
        task=loaded.task,
        steps=steps,
        guidance=loaded.guidance if request.guidance is None else request.guidance,
        scheduler=scheduler,
        width=width,
        height=height,
        image_sha=pixel_sha(image) if image else None,
        mask_sha=pixel_sha(mask) if mask else None,
        image_strength=strength,
        dtype=dtype,
        device=device,
        threads=request.threads or torch.get_num_threads(),
        frames=request.frames or loaded.frames,
        loras=request.loras,
        embeddings=request.embeddings,
        fuse_loras=request.fuse_loras,
        control=steering,
    )
    return Prepared(plan, loaded, image, mask, control_image=read)


def resized(image: Image, mask: Image | None, size: tuple[int, int]) -> tuple[Image, Image | None]:
    """Picture and mask at a size: the picture by Lanczos, the mask without new greys."""
    from PIL.Image import Resampling

    if image.size != size:
        image = image.resize(size, Resampling.LANCZOS)
    if mask is not None and mask.size != size:
        mask = mask.resize(size, Resampling.NEAREST)
    return image, mask


def notes(plan: Plan, world: dict[str, Any]) -> Iterator[str]:
    """What a user should know before the pictures are made: no effect, or words the embedded model cannot draw."""
    if plan.config is not None and plan.config.identity:
        yield f"these settings are the identity: {plan.noun}s with and without FreeU will be equal"
    words_of = {one.token: one.name for one in plan.embeddings}
    yield from notes_on_tokens([*plan.prompts, plan.negative_prompt], words_of)
    if world:
        for prompt in plan.prompts:
            words = unknown_words(without(prompt, words_of), world)
            if words:
                model = "the embedded model without its LoRA" if plan.loras else "the embedded model"
                yield f"{model} cannot draw {', '.join(words)!r} (in {prompt!r}): it never saw them"

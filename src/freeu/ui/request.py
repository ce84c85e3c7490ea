"""What a visitor of the studio asks for, and everything that can be wrong with it before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.pipelines.io.inputs import MAX_SEED
from freeu.pipelines.models.addons.add_ons import MAX_WEIGHT, AddOns
from freeu.pipelines.models.control.control import MAX_SCALE
from freeu.pipelines.models.schedulers import SAMPLERS
from freeu.pipelines.options.control import ControlOptions
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.option import check_range
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import ImageInput, SamplingOptions
from freeu.pipelines.runs.request import Request

MAX_PROMPT = 2_000
MAX_STEPS = 150
MAX_SIDE = 2_048
"""Pixels of a side: one visitor must not take the memory of all."""


@dataclass(frozen=True)
class StudioRequest:
    """What a visitor asks for.

    Args:
        model: one of ``Studio.models``.
        prompt, negative_prompt, seed, steps, guidance: of the image.
        config: FreeU's settings.
        scheduler: a name of ``schedulers.SAMPLERS``, or None for the model's own.
        width, height: in pixels; None is the model's own size, or that of the input image at the model's area.
        image: a file to start from (image-to-image), or None.
        denoising: 0..1, how much of it is replaced; None is the default. Ignored without ``image``.
        control: one of ``Studio.controls``, or None; the fields after it are ignored without it.
        control_image: a file that the ControlNet follows.
        preprocessor: "canny" or "none".
        control_weight: 0..2.
        lora: a ``.safetensors`` file, or None.
        lora_weight: -10..10. Ignored without ``lora``.
        against: FreeU's settings of the first image; None is plain sampling.
    """

    model: str
    prompt: str
    seed: int
    steps: int
    guidance: float
    config: FreeUConfig
    negative_prompt: str = ""
    scheduler: str | None = None
    width: int | None = None
    height: int | None = None
    image: Path | None = None
    denoising: float | None = None
    control: str | None = None
    control_image: Path | None = None
    preprocessor: str = "canny"
    control_weight: float = 1.0
    lora: Path | None = None
    lora_weight: float = 1.0
    against: FreeUConfig | None = None

    def check(self) -> None:
        """What can be wrong whatever the studio offers.

        Raises:
            FreeUValueError: an empty or endless prompt, a number outside its range, an unknown scheduler.
        """
        if not self.prompt.strip():
            raise FreeUValueError("the prompt is empty: write what the image should show")
        for name, text in (("prompt", self.prompt), ("negative prompt", self.negative_prompt)):
            if len(text) > MAX_PROMPT:
                raise FreeUValueError(f"the {name} has {len(text)} letters, more than {MAX_PROMPT}: shorten it")
        if not 0 <= self.seed <= MAX_SEED:
            raise FreeUValueError(f"the seed must be 0 to {MAX_SEED}, or -1 for a random one, got {self.seed}")
        check_range("steps", self.steps, 1, MAX_STEPS)
        check_range("CFG scale", self.guidance, 0.0, 100.0)
        check_range("width", self.width, 8, MAX_SIDE)
        check_range("height", self.height, 8, MAX_SIDE)
        check_range("denoising strength", self.denoising, 0.0, 1.0)
        check_range("ControlNet weight", self.control_weight, 0.0, MAX_SCALE)
        check_range("LoRA weight", self.lora_weight, -MAX_WEIGHT, MAX_WEIGHT)
        if self.scheduler is not None and self.scheduler not in SAMPLERS:
            raise FreeUValueError(f"no scheduler {self.scheduler!r}: choose one of {', '.join(SAMPLERS)}")
        if self.control is not None and self.control_image is None:
            raise FreeUValueError("the ControlNet needs a control image: upload one, or choose no ControlNet")

    def options(self, reference: str | None, control: str | None, run: RunOptions, add_ons: AddOns) -> Request:
        """The same as the options of ``freeu generate``, for everything that a command and the studio share.

        Args:
            reference: the model, as for ``--model``.
            control: the ControlNet, as for ``--controlnet``.
            run: arithmetic.
            add_ons: of the studio and of the visitor.
        """
        followed = ControlOptions(control, self.control_image, self.preprocessor, self.control_weight)
        start = ImageInput(self.image, None, self.denoising) if self.image is not None else ImageInput()
        return Request(
            command="generate",
            prompts=(self.prompt.strip(),),
            sampling=SamplingOptions(
                seeds=str(self.seed),
                steps=self.steps,
                guidance_scale=self.guidance,
                negative_prompt=self.negative_prompt.strip(),
                scheduler=self.scheduler,
                width=self.width,
                height=self.height,
            ),
            model=ModelOptions(reference),
            run=run,
            freeu=FreeUOptions(config=self.config.to_json()),
            add_ons=add_ons,
            image=start,
            control=followed if control is not None else ControlOptions(),
        )

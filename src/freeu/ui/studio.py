"""Pairs of images without and with FreeU for people who move sliders: no image is generated twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import freeu
from freeu.analysis.measurement.content import AMPLITUDE, FREQUENCY, Panel, Series
from freeu.analysis.measurement.measure import spectrum
from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.pipelines.models.addons.add_ons import AddOns
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.models.schedulers import SAMPLERS
from freeu.pipelines.models.sources.sources import ModelSource
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.option import check_range
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.pages.page import python_lines
from freeu.pipelines.runs.generate import generate_image
from freeu.pipelines.runs.plan import ARMS, Plan
from freeu.pipelines.runs.prepare import Prepared, prepare
from freeu.pipelines.runs.request import Request, Sources, check_request
from freeu.pipelines.runs.run import deterministic

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PROMPT = 2_000
MAX_STEPS = 150
KEPT = 128
"""Images that are remembered."""

Progress = Callable[[str, float], None]
"""Told what is being done and how much of it (0..1)."""


@dataclass(frozen=True)
class StudioRequest:
    """What a visitor asks for.

    Args:
        model: one of ``Studio.models``.
        prompt, negative_prompt, seed, steps, guidance: of the image.
        scheduler: a name of ``schedulers.SAMPLERS``, or None for the model's own.
        config: FreeU's settings.
    """

    model: str
    prompt: str
    seed: int
    steps: int
    guidance: float
    config: FreeUConfig
    negative_prompt: str = ""
    scheduler: str | None = None


@dataclass(frozen=True)
class Pair:
    """The same image without and with FreeU.

    Args:
        off, on: the images.
        plan: of the second.
        remembered: how many of the two were there already.
    """

    off: Image
    on: Image
    plan: Plan
    remembered: int

    @property
    def caption(self) -> str:
        return f"{self.plan.prompts[0]}, seed {self.plan.seeds[0]}: {self.plan.config}"

    def texts(self) -> dict[str, str]:
        """The settings to copy: "python", "json", "short" and the "command" for a shell."""
        assert self.plan.config is not None
        return {
            "python": python_lines(self.plan),
            "json": self.plan.config.to_json(indent=2),
            "short": str(self.plan.config),
            "command": replace(self.plan, command="compare", arms=tuple(ARMS)).command_line(),
        }

    def spectra(self) -> Panel:
        """Relative log amplitude of both images."""
        lines = []
        for image, label, dashed in ((self.off, ARMS["baseline"], False), (self.on, ARMS["freeu"], True)):
            pixels = torch.from_numpy(np.asarray(image, dtype=np.float64) / 255.0).permute(2, 0, 1)
            curve = spectrum(pixels).curve
            lines.append(Series(label, tuple(curve.frequency.tolist()), tuple(curve.value.tolist()), dashed=dashed))
        return Panel("Spectra of the two images", FREQUENCY, AMPLITUDE, tuple(lines))


class Studio:
    """Generates for any number of visitors, one image at a time.

    Args:
        sources: the models that can be chosen; nothing else can be loaded.
        run: arithmetic, as for ``freeu compare``.
        add_ons: LoRAs and embeddings; every model gets them.
    """

    def __init__(self, sources: list[ModelSource], run: RunOptions = RunOptions(), add_ons: AddOns = AddOns()) -> None:
        self.sources = {source.label: source for source in sources}
        if len(self.sources) < len(sources):
            raise FreeUValueError("two models have one name: rename one of the folders")
        self._run, self._add_ons = run, add_ons
        self._lock = threading.Lock()
        self._ready: tuple[tuple[str, str | None], Prepared] | None = None
        self._images: OrderedDict[Plan, Image] = OrderedDict()

    @property
    def models(self) -> list[str]:
        """Names of the models, the first is the default."""
        return list(self.sources)

    def defaults(self, model: str) -> tuple[int, float, FreeUConfig]:
        """Steps, CFG scale and recommended settings of a model, which is loaded for that."""
        with self._lock:
            prepared = self._prepared(model, None)
            return prepared.plan.steps, prepared.plan.guidance, freeu.recommend(prepared.loaded.pipe)

    def pair(self, request: StudioRequest, progress: Progress = lambda text, done: None) -> Pair:
        """Generate what is asked for.

        Raises:
            FreeUValueError: an unknown model, an empty or endless prompt, a number outside its range.
            FreeURuntimeError: the device has too little memory.

        Warns:
            NoEffectWarning: the settings touch nothing of this model.
        """
        self._check(request)
        with self._lock:
            progress("loading the model", 0.0)
            prepared = self._prepared(request.model, request.scheduler)
            base = replace(
                prepared.plan,
                command="generate",
                prompts=(request.prompt.strip(),),
                negative_prompt=request.negative_prompt.strip(),
                seeds=(request.seed,),
                steps=request.steps,
                guidance=request.guidance,
            )
            off = replace(base, arms=("baseline",), config=None)
            on = off if request.config.identity else replace(base, arms=("freeu",), config=request.config)
            remembered = sum(plan in self._images for plan in (off, on))
            without = self._image(prepared, off, progress)
            with_freeu = self._image(prepared, on, progress)
        return Pair(without, with_freeu, replace(base, arms=("freeu",), config=request.config), remembered)

    def _check(self, request: StudioRequest) -> None:
        if request.model not in self.sources:
            raise FreeUValueError(f"no model {request.model!r} here: choose one of {', '.join(self.sources)}")
        if not request.prompt.strip():
            raise FreeUValueError("the prompt is empty: write what the image should show")
        for name, text in (("prompt", request.prompt), ("negative prompt", request.negative_prompt)):
            if len(text) > MAX_PROMPT:
                raise FreeUValueError(f"the {name} has {len(text)} letters, more than {MAX_PROMPT}: shorten it")
        check_range("seed", request.seed, 0, 2**32 - 1)
        check_range("steps", request.steps, 1, MAX_STEPS)
        check_range("CFG scale", request.guidance, 0.0, 100.0)
        if request.scheduler is not None and request.scheduler not in SAMPLERS:
            raise FreeUValueError(f"no scheduler {request.scheduler!r}: choose one of {', '.join(SAMPLERS)}")

    def _prepared(self, model: str, scheduler: str | None) -> Prepared:
        """The model, loaded; one at a time is in memory."""
        if self._ready is None or self._ready[0] != (model, scheduler):
            self._ready = None
            source = self.sources[model]
            request = Request(
                command="generate",
                prompts=("a",),
                sampling=SamplingOptions(scheduler=scheduler),
                model=ModelOptions(source.reference),
                run=self._run,
                freeu=FreeUOptions(config="b1=1.1 b2=1.1 s1=1.0 s2=1.0 v=2"),
                add_ons=self._add_ons,
            )
            self._ready = ((model, scheduler), prepare(request, Sources(source)))
        return self._ready[1]

    def _image(self, prepared: Prepared, plan: Plan, progress: Progress) -> Image:
        if plan not in self._images:
            what = ARMS[plan.arms[0]]
            with quiet(), deterministic(plan.device, plan.threads):
                self._images[plan], _ = generate_image(
                    prepared.loaded.pipe,
                    plan,
                    next(plan.images()),
                    on_step=lambda fraction, _latents: progress(f"generating {what}", fraction),
                )
            while len(self._images) > KEPT:
                self._images.popitem(last=False)
        self._images.move_to_end(plan)
        return self._images[plan]


def check_models(names: list[str], add_ons: AddOns = AddOns()) -> list[ModelSource]:
    """Find the models that a studio offers; none named is the embedded one. Nothing is loaded.

    Args:
        names: as for ``freeu compare --model``.
        add_ons: LoRAs and embeddings for each of them.

    Raises:
        FreeUValueError: the first that is not there, or that does not take what is added.
    """
    request = Request("generate", ("a",), add_ons=add_ons)
    nowhere = Path("freeu-studio-writes-nothing")
    chosen: list[str | None] = [*names] or [None]
    return [check_request(replace(request, model=ModelOptions(name)), nowhere).model for name in chosen]

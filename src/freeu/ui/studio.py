"""Pairs of images without and with FreeU for people who move sliders: no image is generated twice."""

from __future__ import annotations

import functools
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import freeu
from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError, NoEffectWarning
from freeu.pipelines.io.inputs import fit_size, open_image
from freeu.pipelines.models.addons.add_ons import AddOns, find_lora
from freeu.pipelines.models.control.files import embedded_controls, fetch_control, find_control
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.models.sources.sources import ModelSource
from freeu.pipelines.models.used import used_parts
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.runs.generate import generate_image
from freeu.pipelines.runs.interval import check_interval
from freeu.pipelines.runs.manifest import environment
from freeu.pipelines.runs.plan import ModelReference, Plan
from freeu.pipelines.runs.prepare import Prepared, settle
from freeu.pipelines.runs.request import Request, Sources, check_request
from freeu.pipelines.runs.run import deterministic
from freeu.presets.recommending import published_name
from freeu.ui.models import Models
from freeu.ui.pair import Pair, plan_of_first
from freeu.ui.request import StudioRequest

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT = 128
"""Images that are remembered."""

Progress = Callable[[str, float], None]
"""Told what is being done ("loading", "baseline" or "freeu") and how much of it (0..1); what it raises ends it."""


@dataclass(frozen=True)
class Defaults:
    """What a model's settings mean by default.

    Args:
        steps, guidance: its own.
        config: what ``freeu.recommend`` says of it.
        side: of its square image, in pixels.
        multiple: sides must be multiples of this, in pixels.
        reference: how a plan names the model.
        family: name of the preset that was published for its family.
    """

    steps: int
    guidance: float
    config: FreeUConfig
    side: int
    multiple: int
    reference: ModelReference
    family: str


class Studio:
    """Generates for any number of visitors, one image at a time.

    Args:
        sources: the models that can be chosen; nothing else can be loaded.
        run: arithmetic, as for ``freeu compare``.
        add_ons: LoRAs and embeddings; every model gets them.
        controls: the ControlNets that can be chosen.
    """

    def __init__(
        self,
        sources: list[ModelSource],
        run: RunOptions = RunOptions(),
        add_ons: AddOns = AddOns(),
        controls: Sequence[ModelSource] = (),
    ) -> None:
        self.sources = {source.label: source for source in sources}
        self._controls = {source.label: source for source in controls}
        if len(self.sources) < len(sources) or len(self._controls) < len(controls):
            raise FreeUValueError("two models have one name: rename one of the folders")
        self._run, self._add_ons = run, add_ons
        self._lock = threading.Lock()
        self._models = Models(self.sources, run, add_ons)
        self._images: OrderedDict[Plan, Image] = OrderedDict()
        self._seconds: dict[str, float] = {}
        self._defaults: dict[str, Defaults] = {}

    @property
    def models(self) -> list[str]:
        """Names of the models, the first is the default."""
        return list(self.sources)

    @property
    def controls(self) -> list[str]:
        """Names of the ControlNets."""
        return list(self._controls)

    def defaults(self, model: str) -> Defaults:
        """The defaults of a model, which is loaded for that the first time."""
        self._check_model(model)
        if model not in self._defaults:
            with self._lock:
                loaded, reference = self._models.ready(model, "text", None, None, self._add_ons.loras)
                self._defaults[model] = Defaults(
                    loaded.steps,
                    loaded.guidance,
                    freeu.recommend(loaded.pipe),
                    loaded.native,
                    loaded.multiple,
                    reference,
                    published_name(loaded.pipe),
                )
        return self._defaults[model]

    def fitted(self, model: str, image: Path) -> tuple[int, int]:
        """Width and height at which an image is used: its shape, the model's area.

        Raises:
            FreeUValueError: it cannot be read.
        """
        own = self.defaults(model)
        return fit_size(open_image(image).size, own.side, own.multiple)

    def pair_seconds(self, model: str) -> float | None:
        """How long a pair of images takes with a model, by the last image that it generated; None before the first."""
        return 2 * self._seconds[model] if model in self._seconds else None

    def pair(self, asked: StudioRequest, progress: Progress = lambda what, done: None) -> Pair:
        """Generate what is asked for.

        Raises:
            FreeUValueError: what ``StudioRequest.check`` refuses; a model or ControlNet that is not offered; a file or
                a number that the model cannot use.
            FreeURuntimeError: the device has too little memory.
        """
        asked.check()
        self._check_model(asked.model)
        if asked.control is not None and asked.control not in self._controls:
            raise FreeUValueError(f"no ControlNet {asked.control!r} here: choose one of {', '.join(self.controls)}")
        control = self._controls[asked.control] if asked.control is not None else None
        source = self.sources[asked.model]
        added = self._added(asked)
        request = asked.options(source.reference, control.reference if control else None, self._run, added)
        request.check_options()
        request.sampling.check()
        found = Sources(source, control=control)
        request.check_sources(found)
        with self._lock:
            progress("loading", 0.0)
            task = request.task
            loaded, reference = self._models.ready(asked.model, task, asked.scheduler, control, added.loras)
            prepared = settle(request, found, loaded, reference)
            on = prepared.plan
            off = plan_of_first(on, asked.against)
            check_interval(on)
            same = asked.config.identity and asked.against is None
            remembered = sum(plan in self._images for plan in (off, off if same else on))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                first = self._image(asked.model, prepared, off, progress)
                second = first if same else self._image(asked.model, prepared, on, progress)
            used = used_parts(prepared.loaded.pipe)
        told = [" ".join(str(one.message).split()) for one in caught if issubclass(one.category, NoEffectWarning)]
        notes = (*prepared.notes, *dict.fromkeys(told))
        image, followed = (path.name if path is not None else "" for path in (asked.image, asked.control_image))
        return Pair(first, second, on, remembered, notes, _environment(on.device), used, image, followed, asked.against)

    def _check_model(self, model: str) -> None:
        if model not in self.sources:
            raise FreeUValueError(f"no model {model!r} here: choose one of {', '.join(self.sources)}")

    def _added(self, asked: StudioRequest) -> AddOns:
        """The studio's LoRAs and embeddings with the visitor's LoRA."""
        if asked.lora is None:
            return self._add_ons
        lora = replace(_lora(asked.lora), weight=float(asked.lora_weight))
        return replace(self._add_ons, loras=(*self._add_ons.loras, lora))

    def _image(self, model: str, prepared: Prepared, plan: Plan, progress: Progress) -> Image:
        if plan not in self._images:
            arm = plan.arms[0]
            began = time.perf_counter()
            with quiet(), deterministic(plan.device, plan.threads):
                image, _ = generate_image(
                    prepared.loaded.pipe,
                    plan,
                    next(plan.images()),
                    prepared.image,
                    on_step=lambda fraction, _latents: progress(arm, fraction),
                    control_image=prepared.control_image,
                )
            self._seconds[model] = time.perf_counter() - began
            self._images[plan] = image
            while len(self._images) > KEPT:
                self._images.popitem(last=False)
        self._images.move_to_end(plan)
        return self._images[plan]


_environment = functools.cache(environment)
_lora = functools.lru_cache(maxsize=64)(find_lora)
"""An uploaded file is read once: its folder is named after what is in it, so it never changes."""


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


def check_controls(names: list[str], models: Sequence[ModelSource]) -> list[ModelSource]:
    """Find the ControlNets that a studio offers: those named, and the embedded ones for an embedded model.

    Those of the hub are fetched, once; no weights are read.

    Args:
        names: as for ``freeu compare --controlnet``.
        models: what ``check_models`` gave.

    Raises:
        FreeUValueError: the first that is not there.
    """
    embedded = [name for name in embedded_controls() if name.startswith("mini-")]
    wanted = [*names, *(embedded if any(one.kind == "embedded" for one in models) else [])]
    found = {source.label: source for source in map(fetch_control, map(find_control, wanted))}
    return list(found.values())

"""FreeU as a guider of diffusers' modular pipelines, which call the U-Net once for each branch of guidance.

A modular pipeline hands its guider the inputs of all branches, then calls ``prepare_models``, the U-Net and
``cleanup_models`` for one after the other. So a guider knows what each call is for, which no batch could tell. Read in
diffusers 0.42: ``guiders/guider_utils.py``, ``modular_pipelines/stable_diffusion_xl/denoise.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from freeu.adapters import adapter_for
from freeu.adapters.finding import unet_of
from freeu.config import FreeUConfig
from freeu.core.compiled import compiled_part
from freeu.core.patch import Handle
from freeu.core.schedule import Clock
from freeu.errors import FreeURuntimeError, FreeUValueError, shown
from freeu.extras import load_package
from freeu.presets import as_config
from freeu.schedule import Schedule

_BASE: Any = load_package("diffusers.guiders.guider_utils", "'freeu[diffusers]'").BaseGuidance


class FreeUGuidance(_BASE):  # type: ignore[misc]
    """A guider of diffusers with FreeU: guidance is that of the inner guider, and each of its calls runs with FreeU.

    Step, branch and combination are the inner guider's. FreeU is in the U-Net for the length of each call only; while
    it is there, it replaces what ``freeu.apply`` put on the U-Net. With ``guidance="conditional"`` it acts on the
    branches that see the prompt (``pred_cond``, also perturbed ones such as ``pred_cond_skip``). If the inner guider
    is disabled, or has one branch at a step, that branch is such a one.

    A fraction of the schedule is the step over the number of steps of the run, as for ``start`` and ``stop`` of
    diffusers' guiders: in an image-to-image run, of the steps that are left of it. A guider is told no noise levels, so
    that there is no schedule by sigma.

    Attributes:
        inner_guider: what guides. Its settings are reached from here too: ``guider.guidance_scale``.
        freeu: the ``FreeUConfig``.

    Args:
        inner_guider: any guider of diffusers, or what ``guider_config.json`` has of one.
        config: a ``FreeUConfig``, the name of a preset, or what ``FreeUConfig.to_dict`` gives.

    Raises:
        FreeUValueError: neither of these; ``share="guidance"``, which needs the branches in one batch; a schedule by
            sigma.

    >>> from diffusers import ClassifierFreeGuidance
    >>> import freeu
    >>> guider = freeu.FreeUGuidance(ClassifierFreeGuidance(guidance_scale=5.0), "sdxl")
    >>> guider.num_conditions, guider.guidance_scale, guider.freeu.version
    (2, 5.0, 2)
    """

    def __init__(
        self, inner_guider: Any, config: FreeUConfig | str | Mapping[str, Any]
    ) -> None:  # the names are keys of guider_config.json
        inner = _inner(inner_guider)
        settings = FreeUConfig.from_dict(config) if isinstance(config, Mapping) else as_config(config)
        if settings.share == "guidance":
            raise FreeUValueError(
                "share='guidance' needs both halves of guidance in one batch, and pipelines with a guider call the "
                "U-Net once for each: use the default"
            )
        self._clock = _StepClock(self)
        for schedule in settings.schedules:
            self._clock.check(schedule)
        self._input_predictions = inner._input_predictions
        super().__init__(getattr(inner, "_start", 0.0), getattr(inner, "_stop", 1.0))
        self._enabled = getattr(inner, "_enabled", True)
        self.register_to_config(inner_guider=json.loads(inner.to_json_string()), config=settings.to_dict())
        self.freeu = settings
        self._branches: tuple[str, ...] = ()
        self._next = 0
        self._run: _Run | None = None
        self._report: dict[str, int] | FreeURuntimeError | None = None
        self.inner_guider = inner  # last: from here on its attributes are reached through this guider

    def new(self, **changes: Any) -> FreeUGuidance:
        """A copy; ``inner_guider``, ``config`` and settings of the inner guider can be changed.

        >>> from diffusers import ClassifierFreeGuidance
        >>> import freeu
        >>> freeu.FreeUGuidance(ClassifierFreeGuidance(), "sdxl").new(guidance_scale=3.0).guidance_scale
        3.0
        """
        config = changes.pop("config", self.freeu)
        inner = changes.pop("inner_guider", self.inner_guider)
        # Not by ``inner.new``, which takes settings that were given by position for defaults.
        copy = type(inner).from_config(json.loads(inner.to_json_string()), **changes)
        return type(self)(copy, config)

    def verify(self) -> dict[str, int]:
        """How often FreeU changed each touched site in the run that is under way, or in the last one.

        Raises:
            FreeURuntimeError: as ``Handle.verify``; or there was no run.
        """
        if self._run is not None:
            return self._run.acting.verify()
        if isinstance(self._report, FreeURuntimeError):
            raise self._report
        if self._report is None:
            raise FreeURuntimeError("no pipeline has run with this guider: call it first")
        return self._report

    # -- what a pipeline calls ----------------------------------------------------------------------------------

    def disable(self) -> None:
        super().disable()
        self.inner_guider.disable()

    def enable(self) -> None:
        super().enable()
        self.inner_guider.enable()

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        super().set_state(step, num_inference_steps, timestep)
        self.inner_guider.set_state(step, num_inference_steps, timestep)
        self._take_off()  # what a call left that was interrupted
        if step == 0:
            self._run = None
        self._branches, self._next = (), 0

    def get_state(self) -> dict[str, Any]:
        return {**self.inner_guider.get_state(), "branches": self._branches}

    def prepare_inputs(self, *args: Any, **kwargs: Any) -> list[Any]:
        return self._noted(self.inner_guider.prepare_inputs(*args, **kwargs))

    def prepare_inputs_from_block_state(self, *args: Any, **kwargs: Any) -> list[Any]:
        return self._noted(self.inner_guider.prepare_inputs_from_block_state(*args, **kwargs))

    def prepare_models(self, denoiser: nn.Module) -> None:
        self._take_off()
        super().prepare_models(denoiser)
        self.inner_guider.prepare_models(denoiser)
        try:
            self._put_on(denoiser)
        except BaseException:
            self.inner_guider.cleanup_models(denoiser)
            raise

    def cleanup_models(self, denoiser: nn.Module) -> None:
        self._take_off()
        self.inner_guider.cleanup_models(denoiser)
        last = self._step is not None and self._step + 1 == self._num_inference_steps
        if last and self._next >= len(self._branches):
            self._end_run()

    def __call__(self, data: list[Any]) -> Any:
        return self.inner_guider(data)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner_guider.forward(*args, **kwargs)

    @property
    def is_conditional(self) -> bool:
        return bool(self.inner_guider.is_conditional)

    @property
    def num_conditions(self) -> int:
        return int(self.inner_guider.num_conditions)

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("inner_guider")
        if inner is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        inner = self.__dict__.get("inner_guider")
        own = name.startswith("_") or name in self.__dict__ or hasattr(type(self), name)
        if inner is not None and not own and hasattr(inner, name):
            setattr(inner, name, value)
        else:
            super().__setattr__(name, value)

    # -- inside -------------------------------------------------------------------------------------------------

    def _noted(self, batches: list[Any]) -> list[Any]:
        """Keep what the branches are, in the order of the calls to come."""
        self._branches = tuple(getattr(batch, self._identifier_key) for batch in batches)
        self._next = 0
        return batches

    def _sees_prompt(self) -> bool:
        """Whether the branch of the call to come does.

        Raises:
            FreeURuntimeError: the pipeline asked for no inputs of it, or the branch has another name than diffusers'.
        """
        if self._next >= len(self._branches):
            raise FreeURuntimeError(
                "guidance='conditional' needs to know which branch each call of the U-Net is for, and this pipeline "
                "did not ask the guider for its inputs: use the default"
            )
        branch = self._branches[self._next]
        if not branch.startswith(("pred_cond", "pred_uncond")):
            raise FreeURuntimeError(
                f"guidance='conditional' needs to know whether the branch {branch!r} of "
                f"{type(self.inner_guider).__name__} sees the prompt: use the default"
            )
        return branch.startswith("pred_cond")

    def _put_on(self, denoiser: nn.Module) -> None:
        acts = self.freeu.guidance != "conditional" or self._sees_prompt()
        self._next += 1
        if self._run is None or self._run.denoiser is not denoiser:
            self._run = _Run.begin(denoiser, self.freeu, self._clock)
        run = self._run
        run.on = run.acting if acts else run.idle
        run.on.attach()
        run.watch = run.on.model.register_forward_hook(self._after_call, always_call=True)

    def _take_off(self) -> None:
        run = self._run
        if run is None or run.on is None:
            return
        if run.watch is not None:
            run.watch.remove()
        on, run.on, run.watch = run.on, None, None
        on.detach()

    def _after_call(self, unet: nn.Module, _args: Any, output: Any) -> None:
        """Forward-hook of the U-Net: after an exception the pipeline does not come to ``cleanup_models``."""
        run = self._run
        if output is not None or run is None or run.watch is None:
            return
        # Torch is going through the hooks, and stands it only at the last of them that some are removed.
        if next(reversed(unet._forward_hooks)) == run.watch.id:
            self._take_off()

    def _end_run(self) -> None:
        """Keep what the run did, and nothing of the U-Net."""
        if self._run is None:
            return
        try:
            self._report = self._run.acting.verify()
        except FreeURuntimeError as error:
            self._report = error.with_traceback(None)
        self._run = None


class _StepClock(Clock):
    """Where in the denoising a call stands, from the step that a guider was told."""

    def __init__(self, guider: FreeUGuidance) -> None:
        super().__init__()
        self._guider = guider

    def check(self, schedule: Schedule, continuous: bool = False) -> None:
        if schedule.unit == "sigma":
            raise FreeUValueError(
                "a guider is told steps and timesteps and no noise levels: use unit='fraction' or unit='timestep', or "
                "freeu.apply(pipe, config) with a schedule by sigma"
            )

    def position(self, timestep: Tensor, unit: str) -> Tensor:
        if unit != "fraction":
            return super().position(timestep, unit)
        step, steps = self._guider._step, self._guider._num_inference_steps
        if step is None or not steps:
            raise FreeURuntimeError("a schedule by fraction needs the step, and this pipeline told the guider none")
        if step >= steps:
            raise FreeURuntimeError(
                f"the guider was told step {step} of {steps}: the scheduler calls the U-Net more than once for each "
                "step, so its fractions are not known: use unit='timestep', or another scheduler"
            )
        return torch.tensor(step / steps, dtype=torch.float64)


@dataclass
class _Run:
    """FreeU in one run of a pipeline: made once, put on and taken off at every call of the U-Net.

    Args:
        denoiser: what the pipeline calls.
        acting: FreeU as configured.
        idle: FreeU that does nothing, for branches without it: it replaces what else is on the U-Net.
        on: which of the two is in the U-Net.
        watch: the hook that takes it off after an exception.
    """

    denoiser: nn.Module
    acting: Handle
    idle: Handle
    on: Handle | None = None
    watch: RemovableHandle | None = None

    @classmethod
    def begin(cls, denoiser: nn.Module, config: FreeUConfig, clock: Clock) -> _Run:
        """Find the U-Net's sites.

        Raises:
            FreeURuntimeError: the U-Net is compiled as a whole, or a part of it that sites lie in is.
            NoSitesError: the denoiser has no skip concatenation that is known.
        """
        unet = unet_of(denoiser)
        adapter = adapter_for(unet)
        sites = adapter.find_sites(unet)
        acting = Handle(unet, sites, config.replace(guidance="both"), adapter.host, clock, attached=False)
        part = compiled_part(denoiser, [site.module for site in acting.sites], run=False) if acting.sites else None
        if part is not None:
            raise FreeURuntimeError(
                f"{part or 'the whole U-Net'} is compiled, and FreeUGuidance puts FreeU on and off at every call, "
                "which compiled code does not see: use unet.compile_repeated_blocks(), or freeu.apply(pipe, config) "
                "and compile then"
            )
        return cls(denoiser, acting, Handle(unet, sites, FreeUConfig(), adapter.host, attached=False))


def _inner(guider: Any) -> Any:
    """A guider, or the one that a configuration names."""
    if isinstance(guider, FreeUGuidance):
        raise FreeUValueError("the inner guider has FreeU already: give FreeUGuidance the guider inside of it")
    if isinstance(guider, _BASE):
        return guider
    if not isinstance(guider, Mapping):
        raise FreeUValueError(f"the inner guider must be a guider of diffusers, got {shown(guider)}")
    name = guider.get("_class_name")
    # Looked up among what is there: a file must not choose what is imported.
    found = next((cls for cls in _known(_BASE) if cls.__name__ == name), None)
    if found is None or issubclass(found, FreeUGuidance):
        raise FreeUValueError(
            f"no guider of the name {shown(name)} is loaded: import its class first, or give FreeUGuidance the guider"
        )
    return found.from_config(dict(guider))


def _known(cls: Any) -> Iterator[Any]:
    for below in cls.__subclasses__():
        yield below
        yield from _known(below)

"""The model that is in memory: loaded once, then asked for in the forms that requests need.

Another scheduler, another task, a ControlNet or a LoRA change what is there; none of them loads the model again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from freeu.errors import FreeUValueError
from freeu.pipelines.models.addons.add_ons import AddOns, Lora, check_fit, check_together
from freeu.pipelines.models.addons.attaching import attach
from freeu.pipelines.models.control.control import attach_control
from freeu.pipelines.models.control.files import load_control
from freeu.pipelines.models.loading import Loaded, choose_scheduler, load, pick_device, pick_dtype, quiet
from freeu.pipelines.models.sources.sources import ModelSource
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.runs.plan import ModelReference
from freeu.pipelines.runs.prepare import model_reference

KEPT_TEXTS = 64
"""Encoded prompts that are remembered; one of SDXL takes 0.6 MB."""


class Models:
    """The models of a studio, one of them in memory. Not safe for threads: ``Studio`` has the lock.

    Args:
        sources: what can be loaded, by name.
        run: arithmetic.
        add_ons: LoRAs and embeddings that every model gets.
    """

    def __init__(self, sources: dict[str, ModelSource], run: RunOptions, add_ons: AddOns) -> None:
        self._sources, self._run, self._add_ons = sources, run, add_ons
        self._name: str | None = None
        self._base: Loaded | None = None
        self._reference: ModelReference | None = None
        self._loras: tuple[Lora, ...] = ()
        self._pipes: dict[tuple[str, str], Any] = {}
        self._texts: OrderedDict[Any, Any] = OrderedDict()

    def loaded(self, name: str) -> Loaded:
        """A model for text-to-image, with its defaults."""
        if self._base is None or self._name != name:
            self._forget()
            device = pick_device(self._run.device)
            base = load(
                self._sources[name],
                dtype=pick_dtype(self._run.dtype, device),
                device=device,
                loras=self._add_ons.loras,
                embeddings=self._add_ons.embeddings,
                fuse_loras=self._add_ons.fuse_loras,
            )
            self._remember_texts(base.pipe)
            self._name, self._base, self._loras = name, base, self._add_ons.loras
            self._reference = model_reference(base, ModelOptions())
        return self._base

    def ready(
        self, name: str, task: str, scheduler: str | None, control: ModelSource | None, loras: tuple[Lora, ...]
    ) -> tuple[Loaded, ModelReference]:
        """A model for a task, and how a plan names it.

        Args:
            name: of the model.
            task: "text" or "image".
            scheduler: a name of ``schedulers.SAMPLERS``, or None for the model's own.
            control: the ControlNet, a local one, or None.
            loras: all that it is to have; those of the studio are the first.

        Raises:
            FreeUValueError: the model takes no such scheduler, task, ControlNet or LoRA.
        """
        base = self.loaded(name)
        assert self._reference is not None
        self._set_loras(base, loras)
        pipe = self._pipe(base, task, control)
        pipe.scheduler = base.own_scheduler
        choose_scheduler(pipe, base.source, scheduler)
        reference = replace(self._reference, class_name=type(pipe).__name__)
        return replace(base, pipe=pipe, task=task), reference

    def _forget(self) -> None:
        self._name = self._base = self._reference = None
        self._pipes, self._loras = {}, ()
        self._texts.clear()

    def _pipe(self, base: Loaded, task: str, control: ModelSource | None) -> Any:
        """The pipeline of a task; all share the modules of the first."""
        if task == "text" and control is None:
            return base.pipe
        key = (task, control.label if control is not None else "")
        if key not in self._pipes:
            pipe = self._pipe(base, task, None) if control is not None else _image_pipe(base)
            if control is not None:
                with quiet():
                    network = load_control(control, pipe.unet, pipe.unet.dtype, base.source.label)
                    pipe = attach_control(pipe, network).to(pipe.device)
            if "maybe_convert_prompt" in vars(base.pipe):  # that of embeddings with several vectors
                pipe.maybe_convert_prompt = base.pipe.maybe_convert_prompt
            pipe.set_progress_bar_config(disable=True)
            self._remember_texts(pipe)
            self._pipes[key] = pipe
        return self._pipes[key]

    def _set_loras(self, base: Loaded, loras: tuple[Lora, ...]) -> None:
        """Give the model these LoRAs and no others."""
        if loras == self._loras:
            return
        if self._add_ons.fuse_loras:
            raise FreeUValueError("this studio was started with --fuse-lora: no other LoRA can be added to the weights")
        check_together(loras, self._add_ons.embeddings, False)
        check_fit(base.source, loras, ())
        self._texts.clear()  # a LoRA can change the text encoder
        files = [(one.path, one.sha) for one in loras]
        if files == [(one.path, one.sha) for one in self._loras]:
            base.pipe.set_adapters([f"lora_{number}" for number in range(len(loras))], [one.weight for one in loras])
        else:
            self._replace_loras(base, loras)
        self._loras = loras

    def _replace_loras(self, base: Loaded, loras: Sequence[Lora]) -> None:
        try:
            with quiet():
                if self._loras:
                    base.pipe.unload_lora_weights()
                attach(base.pipe, loras)
                base.pipe.to(base.pipe.device)
        except Exception:
            self._forget()  # half of a LoRA may be in it
            raise

    def _remember_texts(self, pipe: Any) -> None:
        """Encode each prompt once: FreeU does not touch the text encoder."""
        encode = getattr(pipe, "encode_prompt", None)
        if encode is None:
            return

        def remembered(*args: Any, **kwargs: Any) -> Any:
            plain = (str, int, float, bool, type(None), type(pipe.device))
            if not all(isinstance(value, plain) for value in (*args, *kwargs.values())):
                return encode(*args, **kwargs)
            key = (type(pipe), args, tuple(sorted(kwargs.items())))
            if key not in self._texts:
                self._texts[key] = encode(*args, **kwargs)
            self._texts.move_to_end(key)
            while len(self._texts) > KEPT_TEXTS:
                self._texts.popitem(last=False)
            return self._texts[key]

        pipe.encode_prompt = remembered


def _image_pipe(base: Loaded) -> Any:
    """The pipeline of image-to-image with the modules of one of text-to-image."""
    import diffusers

    try:
        # Named one by one: of its own accord it takes over no module of another class than it expects.
        return diffusers.AutoPipelineForImage2Image.from_pipe(base.pipe, **base.pipe.components)
    except ValueError:
        raise FreeUValueError(
            f"{base.source.label} ({type(base.pipe).__name__}) cannot do image-to-image in diffusers: remove the image"
        ) from None

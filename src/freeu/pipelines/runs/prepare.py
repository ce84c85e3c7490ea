"""A checked request whose model is loaded: the plan, and everything that a run starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError, shown
from freeu.pipelines.io.inputs import parse_seeds
from freeu.pipelines.io.prompts import notes_on_tokens, unknown_words, without
from freeu.pipelines.models.loading import Loaded, load, pick_autocast, pick_device, pick_dtype, quiet
from freeu.pipelines.models.schedulers import sampler_name
from freeu.pipelines.models.sources.sources import fingerprint
from freeu.pipelines.models.tokens import notes_on_length
from freeu.pipelines.models.weighting import can_weight, check_encoders, is_weighted, plain_text
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.runs.plan import ModelReference, Plan
from freeu.pipelines.runs.request import Request, Sources

if TYPE_CHECKING:
    from PIL.Image import Image

    from freeu.pipelines.io.frames import Frames


@dataclass
class Prepared:
    """What a run needs: the plan, the pipeline, the images or frames that it starts from, and notes for the user.

    ``evidence`` says what speaks for settings of FreeU that nobody gave.
    """

    plan: Plan
    loaded: Loaded
    image: Image | None = None
    mask: Image | None = None
    video: Frames | None = None
    control_image: Image | None = None
    region: Image | None = None
    notes: tuple[str, ...] = ()
    evidence: str | None = None


def prepare(request: Request, found: Sources) -> Prepared:
    """Load the model and settle everything it decides, for images and videos alike. Nothing is written.

    Args:
        request: checked by ``check_request``.
        found: what that gave.

    Raises:
        FreeUValueError: the model cannot be loaded or cannot do what is asked.
    """
    run = request.run
    device = pick_device(run.device)
    dtype = pick_dtype(run.dtype, device)
    scheduler = request.sampling.scheduler
    found = request.fetch(found)
    loaded = load(
        found.model,
        request.task,
        dtype=dtype,
        device=device,
        scheduler=sampler_name(scheduler) if scheduler is not None else None,
        variant=request.model.variant,
        model_config=request.model.model_config,
        motion_adapter=found.adapter,
        loras=request.add_ons.loras,
        embeddings=request.add_ons.embeddings,
        fuse_loras=request.add_ons.fuse_loras,
        control=found.control,
        prediction_type=request.model.prediction_type,
        memory=run.memory(),
    )
    return settle(request, found, loaded, model_reference(loaded, request.model))


def settle(request: Request, found: Sources, loaded: Loaded, model: ModelReference) -> Prepared:
    """Settle everything that a loaded model decides. Nothing is written.

    Args:
        request: checked by ``check_request``.
        found: its networks, local ones.
        loaded: the pipeline for its task, with everything that the request adds to it.
        model: how the plan names it.

    Raises:
        FreeUValueError: the model cannot do what is asked.
    """
    import torch

    sampling, run = request.sampling, request.run
    device = pick_device(run.device)
    request.check_loaded(loaded)
    if sampling.weighting is not None:
        check_encoders(loaded.pipe, run.offload)
    steps = sampling.steps or loaded.steps
    inputs = request.read_inputs(loaded, found, steps)
    guidance = loaded.guidance if sampling.guidance_scale is None else sampling.guidance_scale
    plan = Plan(
        command=request.command,
        prompts=request.prompts,
        negative_prompt=sampling.negative_prompt,
        seeds=parse_seeds(sampling.seeds),
        arms=request.arms,
        config=request.config(loaded.pipe),
        model=model,
        task=loaded.task,
        steps=steps,
        guidance=guidance,
        scheduler=sampler_name(sampling.scheduler) if sampling.scheduler is not None else None,
        width=inputs.size[0],
        height=inputs.size[1],
        dtype=pick_dtype(run.dtype, device),
        device=device,
        threads=run.threads or torch.get_num_threads(),
        loras=request.add_ons.loras,
        embeddings=request.add_ons.embeddings,
        fuse_loras=request.add_ons.fuse_loras,
        prediction_type=request.model.prediction_type,
        weighting=sampling.weighting,
        negatives=request.negatives,
        batch=request.batch.batch,
        offload=run.offload,
        vae_tiling=run.vae_tiling,
        attention_slicing=run.attention_slicing,
        **inputs.plan,
        **request.guiding.resolve(loaded.pipe, guidance, inputs.size),
    )
    if request.speed is not None:
        plan = replace(plan, autocast=pick_autocast(run.dtype, device))
        batch = request.speed.batch or (default_batch(plan) if plan.batchable else 1)
        if batch > 1 and not plan.batchable:
            raise FreeUValueError(f"--batch {batch}: only text-to-image generates several at once: leave it out")
        plan = replace(plan, batch=batch)
    world = loaded.source.world
    known = world and {**world, "words": [*world.get("words", ()), *request.words]}
    inputs_of = (inputs.image, inputs.mask, inputs.video, inputs.control_image, inputs.region)
    with quiet():
        cut = tuple(notes_on_reading(loaded.pipe, plan))
    if run.offload is not None and device == "cpu":
        inputs.notes.append(f"--offload {run.offload} saves nothing on the cpu: it is for accelerators")
    options = request.freeu if plan.config is not None else None
    other = options.made_for_another(loaded.pipe, plan.model.fingerprint, plan.model.name) if options else None
    said = (*inputs.notes, *([other] if other else []), *cut, *notes(plan, known))
    return Prepared(plan, loaded, *inputs_of, notes=said, evidence=options.evidence(loaded.pipe) if options else None)


def notes_on_reading(pipe: Any, plan: Plan) -> Iterator[str]:
    """What a user should know of how prompts are read: an end that is cut, weights that are taken for words."""
    if plan.weighting is not None:
        return
    texts = [*plan.prompts, *(plan.negatives or [plan.negative_prompt])]
    can = can_weight(pipe)
    for place, cut in enumerate(notes_on_length(pipe, texts)):
        yield f"{cut}; --weighting a1111 reads all of it" if can and place == 0 else cut
    weighted = next(filter(is_weighted, texts), None)
    if weighted is not None and can:
        yield f"the weights in {shown(weighted, 60)} are read as words: --weighting a1111 applies them"


def default_batch(plan: Plan) -> int:
    """How many images one call generates where nobody says.

    A processor is busy with one image of 512x512, and small ones are bundled to as many pixels; an accelerator takes
    eight of that size. Both were chosen so that memory grows little beyond that of the model.
    """
    pixels = 512 * 512 * (8 if plan.device.startswith("cuda") else 1)
    return max(1, min(32, pixels // (plan.width * plan.height)))


def model_reference(loaded: Loaded, options: ModelOptions) -> ModelReference:
    """How a plan names a loaded model."""
    assert loaded.source.path is not None
    return ModelReference(
        kind=loaded.source.kind,
        reference=loaded.source.reference,
        name=loaded.source.label,
        class_name=type(loaded.pipe).__name__,
        fingerprint=fingerprint(loaded.source.path),
        variant=options.variant,
        model_config=str(options.model_config.resolve()) if options.model_config else None,
    )


def notes(plan: Plan, world: dict[str, Any]) -> Iterator[str]:
    """What a user should know before a run: no effect, or words that the embedded model does not know."""
    if plan.config is not None and plan.config.identity:
        yield f"these settings are the identity: {plan.noun}s with and without FreeU will be equal"
    words_of = {one.token: one.name for one in plan.embeddings}
    yield from notes_on_tokens([*plan.prompts, *(plan.negatives or [plan.negative_prompt])], words_of)
    if world:
        for prompt in plan.prompts:
            known = prompt if plan.weighting is None else plain_text(prompt)
            words = unknown_words(without(known, words_of), world)
            if words:
                model = "the embedded model without its LoRA" if plan.loras else "the embedded model"
                yield f"{model} cannot generate {', '.join(words)!r} (in {prompt!r}): it never saw them"

"""From a checkpoint to what makes an image model need a few steps alone: a LoRA or a U-Net, and a sampler."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import LCMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

from freeu.personalize import Checkpoint
from freeu_zoo import __version__, assemble, card, grid
from freeu_zoo.errors import ZooError
from freeu_zoo.export.directory import finish, tidy, training_facts
from freeu_zoo.files import sha256, write_atomically, write_json
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import diffusion
from freeu_zoo.training.distillation import lcm, lora
from freeu_zoo.training.run import average_of, facts_of
from freeu_zoo.world import captions

OF_PARENT = ("native_size", "prompt", "nouns", "styles", "colours", "words", "relations", "layouts")
"""What a distilled model can generate, and how to ask, is what its parent says."""

STEPS = (4, 2, 1)
"""Of the sample sheet, a row each; the parent's rows, above, have its own number and those that are more than one."""


def scheduler(recipe: Recipe) -> LCMScheduler:
    """The sampler, over the timesteps that the student was trained at."""
    made: LCMScheduler = LCMScheduler.from_config(
        diffusion.scheduler().config, original_inference_steps=recipe.lcm.solver_steps
    )
    return made


def trained(recipe: Recipe, home: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The averaged weights of a run, and its numbers.

    Raises:
        ZooError: nothing was trained yet.
    """
    state = Checkpoint(home / "lcm.ckpt", lcm.identity(recipe)).read()
    if state is None:
        raise ZooError(f"nothing trained in {home} yet; run --stage lcm first")
    return average_of(state), facts_of(state)


def pipeline(recipe: Recipe, home: Path, parent: Path) -> StableDiffusionPipeline:
    """The parent's pipeline with the averaged student and its sampler (float32).

    Raises:
        ZooError: nothing was trained yet.
    """
    average, _ = trained(recipe, home)
    pipe: Any = StableDiffusionPipeline.from_pretrained(parent, scheduler=scheduler(recipe))
    student = lcm.build(recipe, pipe.unet)
    student.load_state_dict(lcm.learned(recipe, student).weights(average), strict=False)
    return StableDiffusionPipeline(**{**pipe.components, "unet": student.eval()}, requires_safety_checker=False)


def export(recipe: Recipe, home: Path, parent: Path, destination: Path, samples: bool = True) -> None:
    """Write the LoRA or the U-Net in float16, the sampler, ``freeu-zoo.json``, card and sample sheet.

    ``destination``, which is replaced, needs the parent: ``freeu_zoo.assemble`` makes one pipeline of both.

    Raises:
        ZooError: nothing was trained yet.
    """
    average, numbers = trained(recipe, home)
    made: Any = pipeline(recipe, home, parent)
    new = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    part = lcm.learned(recipe, made.unet)
    parameters = sum(parameter.numel() for parameter in part.parameters())
    if isinstance(part, lora.LowRank):
        weights = {name: value.half().contiguous() for name, value in part.exported(average).items()}
        write_atomically(new / assemble.LORA, lambda path: save_file(weights, path, {"format": "pt"}))
    else:
        torch.nn.Module.to(made.unet, torch.float16)
        made.unet.save_pretrained(new / "unet", safe_serialization=True)
        tidy(new / "unet" / "config.json")
    made.scheduler.save_pretrained(new / "scheduler")
    facts = describe(recipe, numbers, parent, parameters)
    write_json(new / "freeu-zoo.json", facts)
    (new / "README.md").write_text(card.text(facts), encoding="utf-8")
    if samples:
        write_samples(recipe, parent, new, new / "samples.png")
    finish(new, destination)


def describe(recipe: Recipe, numbers: dict[str, Any], parent: Path, parameters: int) -> dict[str, Any]:
    """What ``freeu-zoo.json`` says: what it belongs to, how to ask, and how it was made."""
    world = json.loads((parent / "freeu-zoo.json").read_text(encoding="utf-8"))
    settings = recipe.lcm
    return {
        "kind": "lcm",
        "name": recipe.name,
        "description": recipe.description,
        "form": settings.form,
        "pipeline": "StableDiffusionPipeline",
        "zoo_version": __version__,
        "recipe": recipe.name,
        "parent": recipe.parent,
        "parent_sha256": sha256(parent / assemble.WEIGHTS),
        "parent_steps": world["default_steps"],
        "parent_guidance": world["default_guidance_scale"],
        "default_steps": recipe.sampling.steps,
        "default_guidance_scale": recipe.sampling.guidance,
        **{name: world[name] for name in OF_PARENT},
        "sheets": {"samples": [captions.plain_caption(scene) for scene in grid.strange(recipe)]},
        "solver_steps": settings.solver_steps,
        "distilled_guidance": list(settings.guidance),
        "rank": settings.rank if settings.form == "lora" else None,
        "parameters": parameters,
        "notes": recipe.notes,
        "training": training_facts(numbers, recipe.unet.batch),
    }


def write_samples(recipe: Recipe, parent: Path, addition: Path, output: Path) -> None:
    """Write the sample sheet: the parent with its own steps and with few, then the model in ``STEPS``.

    Prompt n has seed n. The model is assembled and loaded as a user would.
    """
    facts = json.loads((addition / "freeu-zoo.json").read_text(encoding="utf-8"))
    asked = facts["sheets"]["samples"]
    seeds = list(range(len(asked)))
    teacher: Any = StableDiffusionPipeline.from_pretrained(parent)
    images = []
    for steps in (facts["parent_steps"], *(steps for steps in STEPS if steps > 1)):
        images += grid.generate(teacher, asked, steps, facts["parent_guidance"], seeds)
    with tempfile.TemporaryDirectory() as folder:
        assemble.assemble(parent, addition, Path(folder) / "model")
        student: Any = StableDiffusionPipeline.from_pretrained(Path(folder) / "model")
    for steps in STEPS:
        images += grid.generate(student, asked, steps, recipe.sampling.guidance, seeds)
    write_atomically(output, grid.sheet(images, len(asked)).save)

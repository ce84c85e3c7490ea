"""From a checkpoint to a ``TextToVideoSDPipeline`` directory that anything can load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import TextToVideoSDPipeline

from . import diffusion, video
from .checkpoint import Checkpoint
from .errors import ZooError
from .recipe import Recipe
from .training import average_of
from .video import Parent


def pipeline(recipe: Recipe, home: Path, parent: Parent) -> tuple[TextToVideoSDPipeline, dict[str, Any]]:
    """The pipeline with averaged weights (float32) and the parent's autoencoder, and the training's numbers.

    Raises:
        ZooError: nothing was trained yet.
    """
    state = Checkpoint(home / "unet.ckpt", video.identity(recipe)).read()
    if state is None:
        raise ZooError(f"nothing trained in {home} yet; run --stage unet first")
    weights = average_of(state)
    tokenizer, encoder = video.build_text(recipe)
    network = video.build(recipe)
    for name, model in (("text.", encoder), ("unet.", network)):
        model.load_state_dict({k.removeprefix(name): v for k, v in weights.items() if k.startswith(name)})
        model.eval()
    made = TextToVideoSDPipeline(
        vae=video.load_coder(parent.coder),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=network,
        scheduler=diffusion.scheduler(),
    )
    return made, state.facts

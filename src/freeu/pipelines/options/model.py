"""The model and what is added to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from freeu.errors import FreeUValueError, unknown_name
from freeu.pipelines.models.addons.add_ons import AddOns, parse_embeddings, parse_loras
from freeu.pipelines.models.schedulers import PREDICTION_TYPES
from freeu.pipelines.options.option import Argument, Option

MODEL_HELP = "A diffusers directory, a .safetensors or .ckpt file, a hub id (owner/name), or an embedded model"


@dataclass(frozen=True)
class NamedModel:
    """A model that must be named, by its place in the command."""

    model: Annotated[str, Argument(f"{MODEL_HELP}.", "MODEL")]


@dataclass(frozen=True)
class ChosenModel:
    """A model that may be named, by its place in the command."""

    model: Annotated[str | None, Argument(f"{MODEL_HELP} (default: the embedded one).", "[MODEL]")] = None


@dataclass(frozen=True)
class ModelOptions:
    """The model of a run, and LoRAs and embeddings for it."""

    PANEL: ClassVar[str] = "Model"

    model: Annotated[str | None, Option(f"{MODEL_HELP} (default: the embedded one).", "MODEL")] = None
    lora: Annotated[
        list[str] | None,
        Option(
            "Add a LoRA (.safetensors of diffusers or kohya, or its folder) with a weight (default 1); may be given "
            "again.",
            "FILE[:WEIGHT]",
        ),
    ] = None
    fuse_lora: Annotated[bool, Option("Fuse the LoRAs into the model's weights before sampling.")] = False
    embedding: Annotated[
        list[str] | None,
        Option(
            "Add a textual-inversion embedding, and its word in prompts (default: as its file says); may be given "
            "again.",
            "FILE[:TOKEN]",
        ),
    ] = None
    model_config: Annotated[
        Path | None,
        Option(
            "For a single file or an original checkpoint without network: a diffusers directory with the configuration "
            "of its kind.",
            "DIR",
        ),
    ] = None
    prediction_type: Annotated[
        str | None,
        Option(f"What the U-Net predicts: {', '.join(PREDICTION_TYPES)} (default: as the model says).", "TYPE"),
    ] = None
    variant: Annotated[str | None, Option("Which weight files to use, such as fp16.", "NAME")] = None

    def add_ons(self) -> AddOns:
        """What is added to the model; the files' headers are read.

        Raises:
            FreeUValueError: a file that is not there or is something else.
        """
        return AddOns(parse_loras(self.lora), parse_embeddings(self.embedding), self.fuse_lora)

    def check(self) -> None:
        """Raise ``FreeUValueError`` for a configuration that is none, or an unknown prediction."""
        if self.prediction_type is not None and self.prediction_type not in PREDICTION_TYPES:
            raise unknown_name("--prediction-type", self.prediction_type, PREDICTION_TYPES)
        if self.model_config is not None and not (self.model_config / "model_index.json").is_file():
            raise FreeUValueError(
                f"--model-config {self.model_config} is no diffusers directory: it has no model_index.json"
            )

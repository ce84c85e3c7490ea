"""Load the result of ``freeu dreambooth train`` to generate with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.personalize.dreambooth.dreambooth import KIND, MODEL_FOLDER
from freeu.personalize.training.lora import DIFFUSERS_FILE
from freeu.personalize.training.record import RECORD, read_record
from freeu.pipelines.models.addons.add_ons import Lora, find_lora
from freeu.pipelines.runs.plan import Plan


@dataclass(frozen=True)
class Subject:
    """A trained subject.

    Args:
        token, class_noun: the words for it.
        model: for ``Request.model``; None is the embedded model.
        variant, model_config: as in ``Request``.
        loras: the LoRA with its weight; () if all weights were trained.
        fingerprint: of the model that was trained with a LoRA; None if all weights were trained.
    """

    token: str
    class_noun: str
    model: str | None
    variant: str | None
    model_config: Path | None
    loras: tuple[Lora, ...]
    fingerprint: str | None

    def notes(self, plan: Plan) -> Iterator[str]:
        """What a user should know before the images are made."""
        if self.fingerprint is not None and plan.model.fingerprint != self.fingerprint:
            yield f"{plan.model.name} is not the model that {self.token!r} was trained on: results may differ"
        for prompt in plan.prompts:
            if self.token.lower() not in prompt.lower().split():
                yield f"{prompt!r} does not contain {self.token!r}, the token of the subject"


def find_subject(folder: Path, weight: float = 1.0, model: str | None = None) -> Subject:
    """The subject of a training; no weights are loaded.

    Args:
        folder: of ``freeu dreambooth train``.
        weight: of the LoRA, see ``add_ons.Lora``; 1 if all weights were trained.
        model: another path of the model that was trained; None takes that of the training.

    Raises:
        FreeUValueError: no such training, an unfinished one, or a weight where there is no LoRA.
    """
    record = read_record(folder, KIND) if folder.is_dir() else None
    if record is None:
        raise FreeUValueError(f"{folder} holds no training ({RECORD}): give the --output of freeu dreambooth train")
    trained = record["model"]
    words = [record.get("token"), record.get("class_noun"), trained.get("fingerprint")]
    if not all(isinstance(word, str) for word in words):
        raise FreeUValueError(f"{folder / RECORD} is damaged: token, class_noun or the model's fingerprint are missing")
    if "steps" not in record:
        raise FreeUValueError(f"the training in {folder} is not finished: give its command again to resume it")
    if record.get("full"):
        if weight != 1 or model is not None:
            raise FreeUValueError(f"{folder} holds a whole model: leave --lora-weight and --model out")
        return Subject(words[0], words[1], str(folder / MODEL_FOLDER), None, None, (), None)
    config = trained.get("model_config")
    return Subject(
        token=words[0],
        class_noun=words[1],
        model=model or _reference(trained),
        variant=trained.get("variant"),
        model_config=Path(config) if isinstance(config, str) else None,
        loras=(find_lora(folder / DIFFUSERS_FILE, weight),),
        fingerprint=words[2],
    )


def _reference(model: dict[str, Any]) -> str:
    reference = model.get("reference")
    if not isinstance(reference, str):
        raise FreeUValueError("the training does not say which model it used: give it with --model")
    return reference

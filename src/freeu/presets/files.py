"""Presets in files, as ``freeu tune`` writes them: settings, the model they are for, and what speaks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.json_files import read_json

KIND = "freeu-preset"
SCHEMA = 1
MODEL_PRESET = "freeu.json"
"""Name of a preset file that lies in the folder of the model that it is for."""


@dataclass(frozen=True)
class PresetFile:
    """What a search found for one model.

    Args:
        name: for people.
        config: FreeU's settings; None if none is best.
        model: name of the model.
        fingerprint: of its files, as in a manifest.
        guidance: the CFG scale at which it was found.
        steps: the steps at which it was found.
        verdict: in words.
        provenance: data, numbers and versions, as plain data.
    """

    name: str
    config: FreeUConfig | None
    model: str
    fingerprint: str
    guidance: float
    steps: int
    verdict: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; ``read_preset`` reads it."""
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "name": self.name,
            "config": self.config.to_dict() if self.config is not None else None,
            "model": {"name": self.model, "fingerprint": self.fingerprint},
            "guidance": self.guidance,
            "steps": self.steps,
            "verdict": self.verdict,
            "provenance": dict(self.provenance),
        }


def is_preset_file(text: str) -> bool:
    """Whether the name of a preset is that of a file."""
    return text.endswith(".json") or "/" in text or "\\" in text


def read_preset(path: Path) -> PresetFile:
    """Read a preset file.

    Raises:
        FreeUValueError: it cannot be read, is none, is damaged (saying where), or has a newer schema.
    """
    data = read_json(path)
    if data.get("kind") != KIND:
        raise FreeUValueError(f'{path} is not a preset of freeu: it lacks "kind": "{KIND}"')
    if data.get("schema") != SCHEMA:
        raise FreeUValueError(f"{path} has schema {data.get('schema')!r}, not {SCHEMA}: a newer freeu may read it")
    try:
        model = data["model"]
        config = None if data["config"] is None else FreeUConfig.from_dict(data["config"])
        found = PresetFile(
            data["name"],
            config,
            model["name"],
            model["fingerprint"],
            float(data["guidance"]),
            int(data["steps"]),
            data["verdict"],
            data["provenance"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FreeUValueError(f"the preset {path} is damaged: {error}") from None
    texts = (found.name, found.model, found.fingerprint, found.verdict)
    if not all(isinstance(text, str) for text in texts) or not isinstance(found.provenance, Mapping):
        raise FreeUValueError(f"the preset {path} is damaged: its names must be texts, its provenance an object")
    return found

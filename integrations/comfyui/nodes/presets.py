"""Published and own settings by their names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import IO

from freeu import preset, presets
from freeu.presets.files import read_preset

from ..logic.axes import OFF
from .exact import CATEGORY

FOLDER = "freeu"
"""Below ComfyUI's ``models``: preset files that ``freeu tune`` writes."""


def register_folder() -> None:
    """Let ComfyUI know the folder of preset files."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".json"})


class FreeUPreset(IO.ComfyNode):
    """The settings of a preset as text, for the input ``config`` of ``FreeUExact``."""

    @classmethod
    def define_schema(cls) -> Any:
        return IO.Schema(
            node_id="FreeUPreset",
            display_name="FreeU preset",
            category=CATEGORY,
            description="Settings by name: the published ones, and files of `freeu tune` in models/freeu. They carry "
            "their operator version and win over the widgets of FreeU (exact).",
            inputs=[IO.Combo.Input("preset", options=[*presets(), *folder_paths.get_filename_list(FOLDER)])],
            outputs=[IO.String.Output("config"), IO.String.Output("about")],
        )

    @classmethod
    def execute(cls, preset: str) -> Any:
        return IO.NodeOutput(*_named(preset))


def _named(name: str) -> tuple[str, str]:
    """Settings as JSON, and where they come from."""
    if not name.endswith(".json"):
        found = presets()[name]
        return preset(name).to_json(), f"{found.family}; {found.source}; {found.evidence}"
    own = read_preset(Path(folder_paths.get_full_path_or_raise(FOLDER, name)))
    return OFF if own.config is None else own.config.to_json(), f"{own.model}; {own.verdict}"

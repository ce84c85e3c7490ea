"""Settings from an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import IO

from freeu import FreeUError

from ..logic.images import inside, read_settings
from .exact import CATEGORY


class FreeUFromImage(IO.ComfyNode):
    """What an image of freeu, A1111, Forge or ComfyUI says about how it was made."""

    @classmethod
    def define_schema(cls) -> Any:
        return IO.Schema(
            node_id="FreeUFromImage",
            display_name="FreeU settings from image",
            category=CATEGORY,
            description="Reads FreeU's settings, the prompts, seed, steps and CFG scale from a PNG in the input "
            "folder. Nothing in the file is run.",
            inputs=[IO.Combo.Input("image", options=_files(), upload=IO.UploadType.image)],
            outputs=[
                IO.String.Output("config"),
                IO.String.Output("prompt"),
                IO.String.Output("negative_prompt"),
                IO.Int.Output("seed"),
                IO.Int.Output("steps"),
                IO.Float.Output("cfg"),
                IO.String.Output("summary"),
            ],
        )

    @classmethod
    def execute(cls, image: str) -> Any:
        found = read_settings(inside(folder_paths.get_input_directory(), image))
        texts = (found.config, found.prompt, found.negative_prompt)
        return IO.NodeOutput(*texts, found.seed, found.steps, found.cfg, str(found))

    @classmethod
    def validate_inputs(cls, image: str) -> bool | str:
        try:
            inside(folder_paths.get_input_directory(), image)
        except FreeUError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, image: str) -> str:
        status = inside(folder_paths.get_input_directory(), image).stat()
        return f"{status.st_mtime_ns} {status.st_size}"


def _files() -> list[str]:
    """Images in the input folder itself."""
    names = [path.name for path in Path(folder_paths.get_input_directory()).iterdir() if path.is_file()]
    return sorted(folder_paths.filter_files_content_types(names, ["image"]))

"""Settings that an image brings along: of freeu, A1111 and Forge, or a graph of ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu import FreeUConfig, FreeUValueError
from freeu.metadata.reading import config_of, find

from .axes import OFF


@dataclass(frozen=True)
class ImageSettings:
    """What an image says.

    Args:
        config: FreeU's settings as text; those that change nothing where it names none.
        prompt, negative_prompt: "" where there is none.
        seed, steps, cfg: 0, 20 and 7 where it names none.
        missing: which of all these it does not name.
    """

    config: str
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    cfg: float
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """For people."""
        lines = [f"FreeU: {'none' if self.config == OFF else self.config}"]
        lines += [f"prompt: {self.prompt}", f"negative prompt: {self.negative_prompt}"]
        lines.append(f"seed {self.seed}, steps {self.steps}, CFG scale {self.cfg:g}")
        return "\n".join([*lines, *([f"not in the image: {', '.join(self.missing)}"] if self.missing else [])])


def inside(folder: str | Path, name: str) -> Path:
    """The path of a file in a folder or below it.

    Raises:
        FreeUValueError: no such file, or a name that leads out of the folder, links included.
    """
    root = Path(folder).resolve()
    path = (root / name).resolve() if "\0" not in name else root
    if not path.is_relative_to(root) or not path.is_file():
        raise FreeUValueError(f"image must be the name of a file in ComfyUI's input folder, got {name!r}")
    return path


def read_settings(path: Path) -> ImageSettings:
    """The settings in a file.

    Raises:
        FreeUValueError: it cannot be read, holds none, or such as nobody could apply.
    """
    found = find(path)
    if found is None:
        raise FreeUValueError(f"{path.name} holds no settings: neither those of freeu nor of A1111 or ComfyUI")
    said = found.parameters
    names = {"seed": "Seed", "steps": "Steps", "guidance": "CFG scale"}
    return _built(
        path,
        config_of(found),
        {"prompt": said.prompt, "negative_prompt": said.negative_prompt},
        {name: said.fields.get(theirs) for name, theirs in names.items()},
    )


def _built(
    path: Path, config: FreeUConfig | None, texts: Mapping[str, Any], numbers: Mapping[str, Any]
) -> ImageSettings:
    missing = [name for name, value in {"FreeU": config, **texts, **numbers}.items() if value in (None, "")]
    try:
        seed, steps = int(numbers["seed"] or 0), int(numbers["steps"] or 20)
        cfg = float(7.0 if numbers["guidance"] in (None, "") else numbers["guidance"])
    except (TypeError, ValueError):
        raise FreeUValueError(f"{path.name}: seed, steps or CFG scale is no number") from None
    if not (0 <= seed < 1 << 64 and 1 <= steps <= 10_000 and 0.0 <= cfg <= 100.0):
        raise FreeUValueError(f"{path.name}: seed {seed}, steps {steps} or CFG scale {cfg} is out of range")
    prompt, negative = (text if isinstance(text, str) else "" for text in texts.values())
    return ImageSettings(
        OFF if config is None else config.to_json(), prompt, negative, seed, steps, cfg, tuple(missing)
    )

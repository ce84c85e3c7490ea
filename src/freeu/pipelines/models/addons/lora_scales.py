"""How strong each module of a LoRA is: alpha over rank, as its file says.

diffusers takes one alpha for a file, and of others only some: names of modules that it converts lose theirs. Where a
file has more than one scale, the scales are multiplied into the weights here, and diffusers is told of none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.json_files import parse_json
from freeu.pipelines.io.reading import read_header, read_numbers, readable

if TYPE_CHECKING:
    from torch import Tensor

METADATA = "lora_adapter_metadata"
"""Where diffusers stores PEFT's configuration, in the header of a file."""
_MATRIX = re.compile(r"[._]lora(_down|_up|_A|_B|\.down|\.up|_linear_layer\.down|_linear_layer\.up)\.(weight|bias)$")
_ALPHA = re.compile(r"([._]lora(_down|_up|_A|_B|\.down|\.up|_linear_layer)?)?\.alpha$")
_TO = ("_down", "_A", ".down", "_linear_layer.down")


def is_alpha(name: str) -> bool:
    """Whether a tensor is the alpha of a module."""
    return name.endswith(".alpha")


def read_scales(path: Path) -> dict[str, float]:
    """Alpha over rank of every module of a file, by the part of its names before ``lora_down``; 1 without an alpha.

    Only the header and the alphas are read.

    Raises:
        FreeUValueError: an alpha of nothing, or one that is no number above 0.
    """
    header = read_header(path)
    ranks = {}
    for name, shape in header.shapes.items():
        found = _MATRIX.search(name)
        if found is not None and found[1] in _TO and found[2] == "weight":
            ranks[name[: found.start()]] = shape[0]
    scales = dict.fromkeys(ranks, 1.0)
    for name, alpha in read_numbers(path, [name for name in header.shapes if is_alpha(name)]).items():
        module = _ALPHA.sub("", name)
        if module not in ranks:
            raise FreeUValueError(f"{path.name} is damaged: it has {name!r} and no matrices that it belongs to")
        if alpha == 0:
            raise FreeUValueError(
                f"{path.name} has alpha 0 in {module!r}, which kohya's trainer takes for the rank and other programs "
                f"for no effect: write the alpha that is meant, {ranks[module]} for the rank"
            )
        if not (math.isfinite(alpha) and alpha > 0):
            raise FreeUValueError(f"{path.name} has alpha {alpha:g} in {module!r}: it must be a number above 0")
        scales[module] = alpha / ranks[module]
    return scales


def scaled_state(path: Path) -> tuple[dict[str, Tensor] | None, float | None]:
    """What diffusers is to load, and the one scale that every module must then have.

    Returns:
        None and the scale, where diffusers reads the file rightly by itself; else its tensors with their scales
        multiplied in and the scale 1. The scale is None where PEFT's configuration in the file says it by module.

    Raises:
        FreeUValueError: as ``read_scales``, or a configuration beside alphas.
    """
    from safetensors.torch import load_file

    header = read_header(path)
    scales = read_scales(path)
    alphas = [name for name in header.shapes if is_alpha(name)]
    if METADATA in header.metadata:
        parts = {name.partition(".")[0] for name in header.shapes}
        known = _configured(path, header.metadata[METADATA])
        if alphas:
            raise FreeUValueError(f"{path.name} says its scale twice, in {METADATA} and in {alphas[0]!r}: leave one")
        if parts <= known:
            return None, None
        raise FreeUValueError(
            f"the LoRA {path.name} has weights of {', '.join(sorted(parts - known))}, of which its {METADATA} says "
            "nothing: save it again with pipe.save_lora_weights of diffusers"
        )
    ranks = {shape[0] for name, shape in header.shapes.items() if _is_to_rank(name)}
    of_kohya = all(name.startswith("lora_") for name in header.shapes)
    one = set(scales.values())
    if len(one) == 1 and len(ranks) == 1 and (not alphas or (of_kohya and len(alphas) == len(scales))):
        return None, one.pop()
    with readable(f"the LoRA {path.name}"):
        tensors = load_file(path)
    return {name: _scaled(name, tensor, scales) for name, tensor in tensors.items() if not is_alpha(name)}, 1.0


def _is_to_rank(name: str) -> bool:
    found = _MATRIX.search(name)
    return found is not None and found[1] in _TO and found[2] == "weight"


def _scaled(name: str, tensor: Tensor, scales: Mapping[str, float]) -> Tensor:
    """A matrix from the rank times its module's scale; in float32, since half precision could overflow."""
    found = _MATRIX.search(name)
    if found is None or found[1] in _TO:
        return tensor
    scale = scales.get(name[: found.start()])
    if scale is None:
        raise FreeUValueError(f"the LoRA is damaged: {name!r} is there, and the matrix to its rank is not")
    return tensor if scale == 1 else tensor.float() * scale


def _configured(path: Path, text: str) -> set[str]:
    """The parts of a pipeline that PEFT's configuration in a file speaks of."""
    data: Any = parse_json(text, f"the {METADATA} of the LoRA {path.name}")
    if not isinstance(data, dict):
        raise FreeUValueError(f"the LoRA {path.name} is damaged: its {METADATA} is no JSON object")
    return {name.partition(".")[0] for name in data}

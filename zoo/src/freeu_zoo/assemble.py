"""Models that are shipped as an addition to another one, put together into a directory that ``from_pretrained`` loads.

What is added is small, and the rest would be shipped twice otherwise. The directory lies in the user's cache, is made
once, and may be deleted at any time. This needs numpy and safetensors, and neither torch nor diffusers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from freeu_zoo.errors import ZooError
from freeu_zoo.files import sha256, write_atomically, write_json

LORA = "pytorch_lora_weights.safetensors"
"""As ``load_lora_weights`` of diffusers finds it; its alpha is its rank."""

WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"
CACHE = "FREEU_ZOO_CACHE"
"""The environment variable that names another folder than the user's cache."""


def cached(base: Path, addition: Path) -> Path:
    """The directory of a model and its addition, assembled if it is not there yet.

    Raises:
        ZooError: the addition belongs to another model, or the cache cannot be written.
    """
    folder = cache_folder() / f"{addition.name}-{_digest(base, addition)}"
    if (folder / "model_index.json").exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = folder.with_name(f".{os.getpid()}.{folder.name}")
        shutil.rmtree(new, ignore_errors=True)
        try:
            assemble(base, addition, new)
            # Another process may have been faster; then its directory is the same.
            if not (folder / "model_index.json").exists():
                new.replace(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise ZooError(
            f"cannot put {addition.name} together in {folder.parent} ({error.strerror or error}): set {CACHE} to a "
            "folder that can be written"
        ) from None
    return folder


def cache_folder() -> Path:
    """Where assembled models lie: ``$FREEU_ZOO_CACHE``, or ``freeu-zoo`` in the user's cache."""
    if named := os.environ.get(CACHE):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "freeu-zoo"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "freeu-zoo"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "freeu-zoo"


def assemble(base: Path, addition: Path, out: Path) -> None:
    """Write the directory of a pipeline: the parts of ``base``, and in their place what ``addition`` has.

    Args:
        base: a pipeline's directory.
        addition: with ``freeu-zoo.json``, ``scheduler`` and either ``unet`` or a LoRA, which is merged into the U-Net
            of ``base``.
        out: a new folder.

    Raises:
        ZooError: the addition belongs to another model than ``base``.
    """
    facts = json.loads((addition / "freeu-zoo.json").read_text(encoding="utf-8"))
    if facts["parent_sha256"] != sha256(base / WEIGHTS):
        raise ZooError(f"{addition.name} belongs to another {facts['parent']} than the one in {base}: distil it anew")
    index = json.loads((base / "model_index.json").read_text(encoding="utf-8"))
    for part in (path.name for path in base.iterdir() if path.is_dir()):
        own = addition / part
        shutil.copytree(own if own.is_dir() else base / part, out / part)
    if (addition / LORA).exists():
        merge(out / WEIGHTS, addition / LORA)
    settings = json.loads((out / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    shutil.copyfile(addition / "freeu-zoo.json", out / "freeu-zoo.json")
    write_json(out / "model_index.json", {**index, "scheduler": ["diffusers", settings["_class_name"]]})


def merge(weights: Path, lora: Path) -> None:
    """Add a LoRA to the weights of a U-Net's file, in float32; they are stored in the type they had."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    tensors, pairs = load_file(weights), load_file(lora)
    for name, down in pairs.items():
        layer, found, _ = name.partition(".lora_A.weight")
        if not found:
            continue
        target = f"{layer.removeprefix('unet.')}.weight"
        up = pairs[f"{layer}.lora_B.weight"].astype(np.float32)
        added = up.reshape(len(up), -1) @ down.astype(np.float32).reshape(len(down), -1)
        before = tensors[target]
        tensors[target] = (before.astype(np.float32) + added.reshape(before.shape)).astype(before.dtype)
    write_atomically(weights, lambda path: save_file(tensors, path, {"format": "pt"}))
    weights.chmod(0o644)  # safetensors makes files that only their owner can read


def _digest(*folders: Path) -> str:
    """A short name of everything in these folders that decides an image."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".json", ".safetensors", ".txt"):
                digest.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()[:12]

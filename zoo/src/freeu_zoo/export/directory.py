"""What the directories of all models have in common: tidy JSON, tokenizer files, facts of the training, their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from freeu_zoo.files import replace_directory, write_atomically, write_json


def finish(new: Path, destination: Path) -> None:
    """Put a finished directory in its place."""
    for path in new.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes files that only their owner can read
    replace_directory(new, destination)


def training_facts(numbers: dict[str, Any], batch: int) -> dict[str, Any]:
    """What a card tells of a run."""
    step, seconds = numbers["step"], numbers["seconds"]
    return {
        "samples": step * batch,
        "steps": step,
        "minutes": round(seconds / 60, 1),
        "samples_per_second": round(step * batch / max(seconds, 1e-9), 1),
        "curve": _thin(numbers["curve"]),
    }


def vocabulary_files(folder: Path) -> None:
    """Write ``vocab.json`` and ``merges.txt`` from ``tokenizer.json``: transformers before 5 wants them."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    write_json(folder / "vocab.json", model["vocab"])
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def prefix_text_encoder(folder: Path) -> None:
    """Name a CLIP text encoder's weights as published models do: transformers before 5 reads no others.

    It would begin with random weights instead, and not fail.
    """
    path = folder / "model.safetensors"
    prefix = "text_model."
    weights = {prefix + name.removeprefix(prefix): value for name, value in load_file(path).items()}
    write_atomically(path, lambda part: save_file(weights, part, {"format": "pt"}))


def tidy(path: Path) -> None:
    """Take out of a ``config.json`` what only the machine that trained has a use for."""
    config = json.loads(path.read_text(encoding="utf-8"))
    # The first tells where the weights lay on the machine that trained; for the second see vae.py.
    for entry in ("_name_or_path", "block_out_channels" if path.parent.name == "vae" else ""):
        config.pop(entry, None)
    write_json(path, config)


def parts(made: Any) -> list[dict[str, Any]]:
    """What a pipeline consists of, for the card."""
    network, encoder, coder = made.unet.config, made.text_encoder.config, made.vae.config
    notes = {
        "unet": f"widths {'-'.join(map(str, network.block_out_channels))}, "
        f"{network.layers_per_block} layers per block, attention at 16x16 and 8x8",
        "text_encoder": f"{encoder.num_hidden_layers} layers, {encoder.hidden_size} wide, "
        f"{encoder.vocab_size} tokens, inputs of {encoder.max_position_embeddings}",
        "vae": f"f = 4, {coder.latent_channels} latent channels, scaling factor {coder.scaling_factor}",
    }
    return [
        {
            "part": name,
            "class": type(getattr(made, name)).__name__,
            "parameters": sum(p.numel() for p in getattr(made, name).parameters()),
            "notes": note,
        }
        for name, note in notes.items()
    ]


def _thin(curve: list[list[float]], most: int = 16) -> list[dict[str, float]]:
    """At most about ``most`` points of the loss curve, the last one among them."""
    stride = max(1, -(-len(curve) // most))
    kept = curve[::-1][::stride][::-1]
    return [
        {"step": int(step), "minutes": round(seconds / 60, 1), "loss": round(loss, 4), "held_out": round(held, 4)}
        for step, seconds, loss, held in kept
    ]

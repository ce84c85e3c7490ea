"""Which ControlNet is meant, whether it fits a U-Net, and its weights: no code in any file runs."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.json_files import read_json
from freeu.pipelines.io.reading import Header, read_header, readable
from freeu.pipelines.models.sources.sources import ModelSource, check_hub, embedded_models

CLASS = "ControlNetModel"
_WHAT = "give a diffusers directory, a .safetensors file, or a hub id (owner/name)"
_ADVICE = "give a directory or a file with --controlnet"
_FILES = (".safetensors", ".ckpt", ".pth", ".pt", ".bin")
_WEIGHTS = "diffusion_pytorch_model"
# What a ControlNet and the U-Net whose encoder it copies have in common, and how to say it.
_SHARED = {
    "block_out_channels": "widths",
    "layers_per_block": "layers per block",
    "cross_attention_dim": "a text width of",
    "addition_embed_type": "an added embedding of",
}


def find_control(text: str) -> ModelSource:
    """The ControlNet that a user named; small files and headers are read alone.

    Args:
        text: a diffusers directory, a ``.safetensors`` file of diffusers or of the original layout, the name of an
            embedded ControlNet ("canny"), or a hub id.

    Raises:
        FreeUValueError: nothing of that name, another kind of model, damaged files, or a hub out of reach.
    """
    text = text.strip()
    path = Path(text).expanduser()
    if path.is_dir():
        return _described(ModelSource("directory", str(path.resolve()), path.resolve()))
    if path.is_file():
        return _file(path.absolute())
    embedded = embedded_controls()
    if text in embedded:
        return _described(ModelSource("embedded", text, embedded[text]))
    hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", text) and path.suffix not in _FILES
    if hub and not Path(text.partition("/")[0]).exists():
        from huggingface_hub import try_to_load_from_cache

        if not isinstance(try_to_load_from_cache(text, "config.json"), str):
            check_hub(text, advice=_ADVICE)
        return ModelSource("hub", text, None, CLASS, False)
    held = f"embedded: {', '.join(embedded)}; else" if embedded else "this installation of freeu-zoo holds none:"
    raise FreeUValueError(f"no ControlNet {text!r}: {held} {_WHAT}")


def embedded_controls() -> dict[str, Path]:
    """The ControlNets of ``freeu-zoo``, each by its name ("mini-canny") and by what it reads ("canny")."""
    places = list(embedded_models().values())
    # No zoo, one from before there were ControlNets, or one without its weights.
    with contextlib.suppress(ModuleNotFoundError, AttributeError, ValueError):
        places.append(Path(importlib.import_module("freeu_zoo").control_path()))
    found = {}
    for place in places:
        config = place / "config.json"
        if config.is_file() and read_json(config).get("_class_name") == CLASS:
            found[place.name.removeprefix("mini-")] = found[place.name] = place
    return found


def fetch_control(source: ModelSource) -> ModelSource:
    """The local copy of a ControlNet of the hub; others as they are."""
    if source.kind != "hub" or source.path is not None:
        return source
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(source.reference, allow_patterns=["config.json", f"{_WEIGHTS}*"])
    except (OSError, ValueError) as error:
        raise FreeUValueError(f"cannot fetch {source.reference}: {' '.join(str(error).split())[:200]}") from None
    return _described(ModelSource("hub", source.reference, Path(folder)))


def check_control_fit(source: ModelSource, unet: Mapping[str, Any], label: str) -> None:
    """Whether a ControlNet was made for U-Nets of this architecture; no weights are read.

    Args:
        source: a ControlNet; of one that is still on the hub nothing is known.
        unet: configuration of the U-Net.
        label: the model's name, for the message.

    Raises:
        FreeUValueError: it was made for another one, with both numbers; it reads something else than images.
    """
    if source.path is None:
        return
    known = _file_config(read_header(source.path)) if source.kind == "file" else _config(source.path)
    wanted = {name: unet[name] for name in _SHARED if name in unet}  # a file may leave out what is usual
    for name, value in wanted.items():
        if name in known and _plain(known[name]) != _plain(value):
            raise FreeUValueError(
                f"the ControlNet {source.label} has {_SHARED[name]} {_text(known[name])}, and the U-Net of {label} "
                f"{_text(value)}: take one that was trained for the same kind of model"
            )
    # An inpainting U-Net takes mask and image beside the latents; its ControlNet is given the latents alone.
    latents = unet.get("out_channels", 4)
    if known.get("in_channels", latents) != latents:
        raise FreeUValueError(
            f"the ControlNet {source.label} takes latents of {known['in_channels']} channels, and {label} has "
            f"{latents}: take one that was trained for the same kind of model"
        )
    if known.get("conditioning_channels", 3) != 3:
        raise FreeUValueError(
            f"the ControlNet {source.label} reads {known['conditioning_channels']} channels, and images have 3"
        )


def load_control(source: ModelSource, unet: Any, dtype: Any, label: str = "this model") -> Any:
    """The ControlNet with its weights, checked against a U-Net.

    Args:
        source: what ``find_control`` and ``fetch_control`` gave.
        unet: the ``UNet2DConditionModel`` that it is to steer.
        dtype: of torch.
        label: the model's name, for messages.

    Returns:
        a ``ControlNetModel``.

    Raises:
        FreeUValueError: made for another architecture, damaged, or weights that do not belong to its configuration.
    """
    import diffusers

    assert source.path is not None, "a ControlNet of the hub is fetched first"
    check_control_fit(source, unet.config, label)
    with readable(f"the ControlNet {source.label}"):
        if source.kind == "file":
            loaded, strange = _load_file(source.path, unet), []
        else:
            loaded, info = diffusers.ControlNetModel.from_pretrained(
                source.path, local_files_only=True, variant=_variant(source.path), output_loading_info=True
            )
            strange = [*info["missing_keys"], *info["unexpected_keys"]]
    strange += [name for name, parameter in loaded.named_parameters() if parameter.is_meta]
    if strange:
        raise FreeUValueError(
            f"the weights of the ControlNet {source.label} are not those of its configuration ({strange[0]}): fetch it "
            "again"
        )
    return loaded.to(dtype).eval()


def _described(source: ModelSource) -> ModelSource:
    assert source.path is not None
    if (source.path / "model_index.json").is_file():
        raise FreeUValueError(f"--controlnet {source.label} is a whole pipeline, no ControlNet: give it with --model")
    index = source.path / "config.json"
    name = str(read_json(index).get("_class_name")) if index.is_file() else ""
    if name != CLASS:
        what = f"is of the class {name}" if name else "is a folder without config.json"
        raise FreeUValueError(f"--controlnet {source.label} {what}, no {CLASS} of diffusers")
    return ModelSource(source.kind, source.reference, source.path, name, False)


def _variant(folder: Path) -> str | None:
    """None, or "fp16" where the directory holds that variant of its weights alone."""
    names = {item.name for item in folder.iterdir()}
    plain = any(name.startswith(f"{_WEIGHTS}{end}") for name in names for end in (".safetensors", ".bin", "-"))
    return None if plain or not any(".fp16." in name for name in names) else "fp16"


def _config(folder: Path) -> dict[str, Any]:
    """The configuration of a directory; what it leaves out has the value that diffusers gives it."""
    import diffusers

    parameters = inspect.signature(diffusers.ControlNetModel.__init__).parameters
    defaults = {name: one.default for name, one in parameters.items() if one.default is not one.empty}
    return {**defaults, **read_json(folder / "config.json")}


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _text(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value).lower()


# -- single files ---------------------------------------------------------------------------------------------------

_CONDITION = "controlnet_cond_embedding."
_ORIGINAL = re.compile(r"^(control_model\.)?input_hint_block\.0\.weight$")


def _file(path: Path) -> ModelSource:
    if path.suffix != ".safetensors":
        raise FreeUValueError(
            f"--controlnet {path.name} is no .safetensors file: freeu runs no code of a file: convert it or give a "
            "diffusers directory"
        )
    names = read_header(path).shapes
    if f"{_CONDITION}conv_in.weight" not in names and not any(map(_ORIGINAL.match, names)):
        raise FreeUValueError(
            f"--controlnet {path.name} is no ControlNet: nothing in it reads an image of edges or such"
        )
    return ModelSource("file", str(path), path, CLASS, False)


def _file_config(header: Header) -> dict[str, Any]:
    """What the shapes in a single file tell of its configuration, in either layout."""
    shapes = header.shapes
    found: dict[str, Any] = {}
    for name in ("conv_in.weight", "input_blocks.0.0.weight", "control_model.input_blocks.0.0.weight"):
        if name in shapes:
            found["in_channels"] = shapes[name][1]
    keys = [shape for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")]
    if keys:
        found["cross_attention_dim"] = keys[0][1]
    added = any(name.startswith("add_embedding.") or "label_emb." in name for name in shapes)
    found["addition_embed_type"] = "text_time" if added else None
    widths = [shapes.get(f"down_blocks.{block}.resnets.0.conv1.weight") for block in range(8)]
    if widths[0] is not None:
        found["block_out_channels"] = tuple(shape[0] for shape in widths if shape is not None)
        found["layers_per_block"] = sum(f"down_blocks.0.resnets.{n}.conv1.weight" in shapes for n in range(8))
    reads = [shape for name, shape in shapes.items() if name == f"{_CONDITION}conv_in.weight" or _ORIGINAL.match(name)]
    return {**found, "conditioning_channels": reads[0][1]}


def _load_file(path: Path, unet: Any) -> Any:
    """A single file, with the configuration that a ControlNet for this U-Net has."""
    import diffusers
    import torch

    shapes = read_header(path).shapes
    embedding = [shapes[f"{_CONDITION}conv_in.weight"][0]] if f"{_CONDITION}conv_in.weight" in shapes else []
    while (name := f"{_CONDITION}blocks.{2 * len(embedding) - 1}.weight") in shapes:
        embedding.append(shapes[name][0])
    made = {"conditioning_embedding_out_channels": tuple(embedding)} if embedding else {}
    with torch.device("meta"):
        empty = diffusers.ControlNetModel.from_unet(unet, load_weights_from_unet=False, **made)
    held = sum(name.startswith("control_model.") for name in shapes) or len(shapes)
    if held != len(empty.state_dict()):
        raise FreeUValueError(
            f"the ControlNet {path.name} has {held} tensors, and one for this U-Net {len(empty.state_dict())}: it is "
            "damaged, or was trained for another kind of model"
        )
    config = dict(empty.config) | {"in_channels": unet.config.out_channels, "_class_name": CLASS}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return diffusers.ControlNetModel.from_single_file(str(path), config=folder, local_files_only=True)

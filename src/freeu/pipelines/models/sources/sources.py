"""Which model is meant: an embedded one, a directory, a single checkpoint file, or a hub id.

Only small files are read and nothing heavy is imported, so a wrong name, a DiT or a VAE fails at once.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.json_files import read_json
from freeu.pipelines.io.reading import read_header
from freeu.pipelines.models.sources.modelscope_files import CONFIGURATION, ModelScopeFiles, read_configuration
from freeu.presets.files import MODEL_PRESET

CHECKPOINTS = (".safetensors", ".ckpt")
_ADVICE = "give a directory or a file with --model, or leave --model out for the embedded model"
_PARTS = {"VAE": ("first_stage_model.",), "text encoder": ("cond_stage_model.", "conditioner.embedders.")}
"""What a whole checkpoint holds beside its U-Net, by the beginnings of its names."""
SAMPLE_BYTES = 1 << 20
NO_SKIPS = (
    "it has no skip connections that meet a decoder, and those are what FreeU re-weights. Use a U-Net model "
    "(Stable Diffusion 1.x, 2.x or XL)"
)


@dataclass(frozen=True)
class ModelSource:
    """A model that was found.

    Args:
        kind: "embedded", "directory", "file" or "hub".
        reference: what finds it again on this machine: embedded name, absolute path or hub id.
        path: where it lies; None for a hub id that has not been fetched.
        class_name: class of the pipeline, or of the bare U-Net; "" where only loading will tell.
        whole: False for a U-Net without its pipeline.
        world: what the embedded model says of itself (``freeu-zoo.json``).
        modelscope: what an original ModelScope checkpoint says of itself; it is converted when it is loaded.
    """

    kind: str
    reference: str
    path: Path | None
    class_name: str = ""
    whole: bool = True
    world: dict[str, Any] = field(default_factory=dict)
    modelscope: ModelScopeFiles | None = None

    @property
    def label(self) -> str:
        """The name to show: never more of a path than its last part."""
        if self.kind in ("embedded", "hub"):
            return self.reference
        return Path(self.reference).name


def find_model(text: str | None, default: str = "DEFAULT_MODEL") -> ModelSource:
    """Find the model that a user named; None is the embedded one.

    Args:
        default: how ``freeu_zoo`` calls the embedded one: "DEFAULT_MODEL", or "DEFAULT_VIDEO_MODEL".
        text: a directory (of diffusers, or an original ModelScope text-to-video checkpoint), a ``.safetensors`` or
            ``.ckpt`` file, the name of an embedded model, or a hub id ("owner/name") that is in the local cache or on
            the hub.

    Raises:
        FreeUValueError: nothing of that name (with the nearest ones), a hub out of reach, a model without a U-Net, or
            no embedded model.
    """
    if text is None:
        return _embedded(None, default)
    text = text.strip()
    path = Path(text).expanduser()
    if path.is_dir():
        return describe_directory(path, ModelSource("directory", str(path.resolve()), path.resolve()))
    if path.is_file():
        return _file(path.absolute())  # not where a link leads: files of the hub's cache have no suffix there
    if text in embedded_models() or text in _distributions():
        return _embedded(text, default)
    owner, slash, _ = text.partition("/")
    is_hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", text) and not text.endswith(CHECKPOINTS)
    if is_hub and slash and not Path(owner).exists():
        need("diffusers", "huggingface_hub")
        if not _cached(text):
            check_hub(text)  # before anything heavy is imported: a hub out of reach is told within seconds
        return ModelSource("hub", text, None)
    raise _unknown(text, path)


def embedded_models() -> dict[str, Path]:
    """The models of ``freeu-zoo`` by name; empty if it is not installed."""
    try:
        zoo = importlib.import_module("freeu_zoo")
    except ModuleNotFoundError:
        return {}
    return {str(name): Path(path) for name, path in zoo.models().items()}


def _distributions() -> dict[str, str]:
    """Embedded models that are installed by themselves, with the names of their distributions."""
    try:
        zoo = importlib.import_module("freeu_zoo")
    except ModuleNotFoundError:
        return {}
    return dict(getattr(zoo, "DISTRIBUTIONS", {}))


def _embedded(name: str | None, default: str) -> ModelSource:
    need("demo", "freeu_zoo")
    zoo = importlib.import_module("freeu_zoo")
    name = name or str(getattr(zoo, default, ""))
    if name not in embedded_models():
        if name in _distributions():
            raise FreeUValueError(
                f"{name} is not installed: pip install {_distributions()[name]}, or give a model of yours with --model"
            )
        kind = "embedded video model" if default == "DEFAULT_VIDEO_MODEL" else "embedded model"
        raise FreeUValueError(f"freeu-zoo holds no {kind}: give one with --model, a directory, a file or a hub id")
    try:
        path = Path(zoo.model_path(name))
    except ValueError as error:  # one that is put together in the user's cache, which cannot be written
        raise FreeUValueError(str(error)) from None
    return describe_directory(path, ModelSource("embedded", name, path))


def _unknown(text: str, path: Path) -> FreeUValueError:
    """The error for a name that means nothing, with local and embedded names that come near."""
    names = list(embedded_models())
    nearby = _candidates(path.parent)
    near = difflib.get_close_matches(path.name, [*names, *(item.name for item in nearby)], n=3, cutoff=0.5)
    shown = [name if name in names else str(path.parent / name) for name in near]
    hint = f"did you mean {' or '.join(shown)}? " if shown else ""
    embedded = f"embedded: {', '.join(names)}; else " if names else ""
    return FreeUValueError(
        f"no model {text!r}: {hint}{embedded}give a diffusers directory, "
        "a .safetensors or .ckpt file, or a hub id (owner/name)"
    )


def _candidates(folder: Path) -> Iterable[Path]:
    try:
        return [
            item
            for item in folder.iterdir()
            if item.suffix in CHECKPOINTS or (item.is_dir() and _index_file(item) is not None)
        ]
    except OSError:
        return []


# -- directories ----------------------------------------------------------------------------------------------------


def _index_file(folder: Path) -> Path | None:
    for name in ("model_index.json", "config.json", CONFIGURATION):
        if (folder / name).is_file():
            return folder / name
    return None


def describe_directory(folder: Path, source: ModelSource) -> ModelSource:
    """Fill in what a directory's own JSON says of it.

    Raises:
        FreeUValueError: no model of diffusers, one without a U-Net, or an original checkpoint of another kind than
            ModelScope's text-to-video.
    """
    index = _index_file(folder)
    if index is None:
        raise FreeUValueError(f"{folder} is no model of diffusers: it has neither model_index.json nor config.json")
    data = read_json(index)
    if index.name == CONFIGURATION:
        original = read_configuration(folder, data, source.label)
        return ModelSource(source.kind, source.reference, folder, "TextToVideoSDPipeline", modelscope=original)
    name = str(data.get("_class_name", "")) or "a model that names no class"
    whole = index.name == "model_index.json"
    if whole and "unet" not in data:
        inner = next((part for part in ("transformer", "prior", "decoder") if part in data), None)
        what = "a diffusion transformer (DiT)" if inner == "transformer" else "a pipeline without a U-Net"
        raise FreeUValueError(f"{source.label} ({name}) is {what}: {NO_SKIPS}")
    if not whole and "UNet" not in name:
        raise _no_unet(source.label, name, folder)
    world = read_json(folder / "freeu-zoo.json") if (folder / "freeu-zoo.json").is_file() else {}
    return ModelSource(source.kind, source.reference, folder, name, whole, world)


def _no_unet(label: str, name: str, folder: Path) -> FreeUValueError:
    what = "a model"
    if "Autoencoder" in name or "VQModel" in name:
        what = "a VAE"
    elif "Transformer" in name or "DiT" in name:
        what = "a diffusion transformer (DiT)"
    elif "ControlNet" in name:
        what = "a ControlNet, half a U-Net"
    whole = folder.resolve().parent
    fix = f"; this one belongs to {whole}" if (whole / "model_index.json").is_file() else ""
    return FreeUValueError(f"{label} ({name}) is {what}: {NO_SKIPS}{fix}")


# -- single files ---------------------------------------------------------------------------------------------------


def _file(path: Path) -> ModelSource:
    if path.suffix not in CHECKPOINTS:
        raise FreeUValueError(f"{path.name} is no checkpoint: give a directory, a .safetensors or a .ckpt file")
    if path.suffix == ".safetensors":
        check_checkpoint_keys(path.name, safetensors_keys(path))
    return ModelSource("file", str(path), path)


def safetensors_keys(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file, from its header alone; a damaged file raises ``FreeUValueError``."""
    return list(read_header(path).shapes)


def check_checkpoint_keys(label: str, keys: Iterable[str]) -> None:
    """Make sure that a single file is a whole Stable Diffusion; anything else raises ``FreeUValueError``."""
    names = list(keys)
    if any(name.startswith("model.diffusion_model.input_blocks.") for name in names):
        for part, prefixes in _PARTS.items():
            if not any(name.startswith(prefixes) for name in names):
                raise FreeUValueError(
                    f"{label} has no {part} ({prefixes[0]}...): give a whole checkpoint, or the directory of its "
                    "pipeline"
                )
        return
    text = "\n".join(names)
    if (
        re.search(r"(double_blocks|joint_blocks|transformer_blocks\.\d+\.(attn|ff))", text)
        and "down_blocks" not in text
    ):
        raise FreeUValueError(f"{label} is a diffusion transformer (DiT): {NO_SKIPS}")
    if "lora" in text.lower():
        raise FreeUValueError(f"{label} is a LoRA, no model: give the model that it belongs to")
    if any(name.startswith(("down_blocks.", "input_blocks.")) for name in names):
        raise FreeUValueError(f"{label} is a U-Net alone: give the directory of its pipeline, or a whole checkpoint")
    if re.search(r"^(first_stage_model\.)?(encoder|decoder|quant_conv|post_quant_conv)\.", text, re.MULTILINE):
        raise FreeUValueError(f"{label} is a VAE: {NO_SKIPS}")
    raise FreeUValueError(f"{label} is no Stable Diffusion checkpoint: no U-Net (model.diffusion_model...) is in it")


# -- fingerprints ---------------------------------------------------------------------------------------------------


def fingerprint(path: Path) -> str:
    """A short text that changes when the model changes: "sha256:..." or, for big files, "sampled-sha256:...".

    Every file counts with its name and size, but for ``freeu.json``, which says what was measured on it. Files of
    up to 64 MiB are hashed whole; of bigger ones 18 samples of 1 MiB spread from the first byte to the last, so that
    several gigabytes take a moment.
    """
    whole_limit = 64 << 20
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    digest = hashlib.sha256()
    sampled = False
    for file in files:
        relative = file.name if file == path else file.relative_to(path).as_posix()
        if relative.startswith(".") or "/." in relative:
            continue  # caches of download tools
        if relative == MODEL_PRESET:
            continue
        size = file.stat().st_size
        digest.update(f"{relative}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= whole_limit:
                while chunk := stream.read(SAMPLE_BYTES):
                    digest.update(chunk)
                continue
            sampled = True
            for part in range(18):
                stream.seek((size - SAMPLE_BYTES) * part // 17)
                digest.update(stream.read(SAMPLE_BYTES))
    return f"{'sampled-' if sampled else ''}sha256:{digest.hexdigest()[:32]}"


# -- the hub --------------------------------------------------------------------------------------------------------


def hub_snapshot(source: ModelSource, variant: str | None = None) -> ModelSource:
    """The local copy of a hub model, fetched if need be.

    Args:
        source: of kind "hub".
        variant: of the weights' files, such as "fp16".

    Raises:
        FreeUValueError: the cache holds only part of it and the hub cannot be reached (or ``HF_HUB_OFFLINE`` is set),
            or a model without a U-Net.
    """
    need("diffusers", "diffusers", "huggingface_hub")
    online = not _cached(source.reference)
    from diffusers import DiffusionPipeline

    try:
        folder = DiffusionPipeline.download(source.reference, variant=variant, local_files_only=not online)
    except (OSError, ValueError) as error:
        if online:
            raise FreeUValueError(f"cannot fetch {source.reference}: {_first_line(error)}") from None
        check_hub(source.reference)  # the cache holds part of it
        folder = DiffusionPipeline.download(source.reference, variant=variant)
    return describe_directory(Path(folder), source)


def hub_unet_config(source: ModelSource) -> dict[str, Any]:
    """The U-Net's ``config.json`` of a hub model, without its weights; errors as ``hub_snapshot``."""
    need("diffusers", "huggingface_hub")
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(source.reference, "unet/config.json")
    if not isinstance(cached, str):
        try:
            cached = hf_hub_download(source.reference, "unet/config.json")
        except Exception as error:  # the hub's client raises classes of several libraries
            raise FreeUValueError(
                f"{source.reference} has no unet/config.json: {NO_SKIPS} ({_first_line(error)})"
            ) from None
    return read_json(Path(cached))


def _cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "model_index.json"), str)


def check_hub(name: str, timeout: float = 6.0, advice: str = _ADVICE) -> None:
    """Ask the hub for a model once, in a thread: name resolution and retries know no time limit of their own.

    Args:
        name: the hub id.
        timeout: seconds after which the hub counts as out of reach.
        advice: what to do instead, for the messages.

    Raises:
        FreeUValueError: no answer in time, offline mode, or no such model.
    """
    import threading

    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise FreeUValueError(f"{name} is not in the local cache and HF_HUB_OFFLINE is set: unset it, or {advice}")
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=timeout)
            outcome.append(None)
        except Exception as error:  # handed over to the waiting thread
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    if not outcome:
        raise FreeUValueError(
            f"{name}: the hub did not answer within {timeout:g} seconds: check the network, or {advice}"
        )
    error = outcome[0]
    if error is None:
        return
    if isinstance(error, GatedRepoError):
        raise FreeUValueError(f"{name} asks for its licence to be accepted: do so on its page and run `hf auth login`")
    if isinstance(error, RepositoryNotFoundError):
        raise FreeUValueError(f"the hub has no model {name!r} (or it is private): check the spelling, or {advice}")
    raise FreeUValueError(f"{name}: the hub cannot be reached ({type(error).__name__}): check the network, or {advice}")


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__

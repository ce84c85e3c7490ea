"""What a model says of itself beside its weights: what its U-Net reads, and what it predicts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from freeu.errors import FreeUValueError
from freeu.json_files import read_json
from freeu.pipelines.io.reading import read_header, read_pickled, readable
from freeu.pipelines.models.sources.sources import ModelSource
from freeu.scalecrafter.settings import check_class, factor_of

_FIRST = "model.diffusion_model.input_blocks.0.0.weight"
STILL = ("text", "image", "inpaint")
LATENT = 4
"""Channels of the latents of Stable Diffusion."""


class Markers(NamedTuple):
    """What the keys of a single file say: what the U-Net predicts, and whether its noise schedule ends in noise."""

    prediction_type: str | None = None
    zero_snr: bool = False


def markers(source: ModelSource) -> Markers:
    """The markers of a single file; a directory says it in its scheduler's configuration."""
    if source.kind != "file":
        return Markers()
    keys = set(_shapes(source))
    return Markers("v_prediction" if "v_pred" in keys else None, "ztsnr" in keys)


def check_inputs(source: ModelSource, task: str) -> None:
    """Before weights are read: whether the U-Net reads what this task gives it.

    Raises:
        FreeUValueError: one for inpainting without a mask, or for something else.
    """
    if source.modelscope is not None or source.path is None:
        return
    if source.kind == "file":
        shape = _shapes(source).get(_FIRST, ())
        check_channels(source.label, shape[1] if len(shape) == 4 else None, LATENT, task)
    elif (source.path / "unet" / "config.json").is_file() and (source.path / "vae" / "config.json").is_file():
        unet, vae = (read_json(source.path / part / "config.json") for part in ("unet", "vae"))
        check_channels(source.label, unet.get("in_channels"), vae.get("latent_channels"), task)


def check_channels(label: str, reads: Any, latent: Any, task: str) -> None:
    """Whether a U-Net that reads so many channels can do a task with latents of so many; None passes.

    Raises:
        FreeUValueError: it reads a mask and an image beside the latents, or something else.
    """
    if task not in STILL or not isinstance(reads, int) or not isinstance(latent, int) or reads == latent:
        return
    if reads == 2 * latent + 1:
        if task != "inpaint":
            raise FreeUValueError(f"{label} is made for inpainting: give --image FILE and --mask FILE too")
        return
    raise FreeUValueError(
        f"the U-Net of {label} reads {reads} channels, and latents have {latent}: freeu generates with models that "
        "read nothing else beside the prompt"
    )


def check_scale(source: ModelSource, width: int | None, height: int | None) -> None:
    """Before weights are read: whether a model and a size are such for ScaleCrafter, as far as the model's files tell.

    Raises:
        FreeUValueError: another kind of U-Net; a size that is not above the model's own, or beyond four times that.
    """
    index = source.path / "unet" / "config.json" if source.path is not None else None
    if index is not None and index.is_file():
        check_class([str(read_json(index).get("_class_name"))])
    native = native_side(source)
    if native is not None:
        factor_of(width or native, height or native, native, source.label)


def native_side(source: ModelSource) -> int | None:
    """Side in pixels of the images that a model was made for, as its files say; None where only loading will tell."""
    if "native_size" in source.world:
        return int(source.world["native_size"])
    folder = source.path
    if source.modelscope is not None or folder is None or not (folder / "vae" / "config.json").is_file():
        return None
    side = read_json(folder / "unet" / "config.json").get("sample_size")
    vae = read_json(folder / "vae" / "config.json")
    widths = vae.get("block_out_channels") or vae.get("decoder_block_out_channels")
    if not isinstance(side, int) or not isinstance(widths, list):
        return None
    return int(side * 2 ** (len(widths) - 1))


def _shapes(source: ModelSource) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a single file."""
    assert source.path is not None
    if source.path.suffix == ".safetensors":
        return dict(read_header(source.path).shapes)
    with readable(source.label):
        found: Iterable[tuple[str, Any]] = read_pickled(source.path, "meta").items()
        return {str(name): tuple(getattr(tensor, "shape", ())) for name, tensor in found}

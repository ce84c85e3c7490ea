"""A ControlNet in a run (Zhang, Rao & Agrawala, ICCV 2023, arXiv:2302.05543): what a plan records of it, the image
that it reads, and the pipeline that it is part of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError, unknown_name
from freeu.extras import need
from freeu.pipelines.models.sources.sources import ModelSource, fingerprint

if TYPE_CHECKING:
    from PIL.Image import Image

PREPROCESS = ("canny", "none")
LOW, HIGH = 100, 200
"""Thresholds of Canny's detector: those of the published canny ControlNets."""
MAX_SCALE = 2.0
_BASE = re.compile(r"(StableDiffusion(?:XL)?)(Img2Img|Inpaint|)Pipeline")


@dataclass(frozen=True)
class Control:
    """A ControlNet of a plan.

    Args:
        kind, reference, name, fingerprint: of its weights, as in ``plan.ModelReference``.
        scale: 0..2, factor of its residuals.
        start, end: fractions of the denoising steps between which it acts, 0..1, start < end.
        preprocess: how the image that it reads was made of the one that was given: "canny" or "none".
        low, high: thresholds of "canny".
        sha: SHA-256 of the pixels of the image that it reads, at the run's size.

    Raises:
        FreeUValueError: a field that is of the wrong type or outside its range, by name.
    """

    kind: str
    reference: str
    name: str
    fingerprint: str
    scale: float
    start: float
    end: float
    preprocess: str
    low: int
    high: int
    sha: str

    def __post_init__(self) -> None:
        for name in ("kind", "reference", "name", "fingerprint", "preprocess", "sha"):
            if not isinstance(getattr(self, name), str):
                raise FreeUValueError(f"control.{name} is not usable: {getattr(self, name)!r}")
        for name in ("scale", "start", "end", "low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise FreeUValueError(f"control.{name} is not usable: {value!r}")
        check_control(self.scale, self.start, self.end, self.preprocess)

    @property
    def text(self) -> str:
        """What to tell people of it, in one line."""
        parts = [f"ControlNet {self.name}", f"scale {self.scale:g}"]
        if (self.start, self.end) != (0.0, 1.0):
            parts.append(f"from {self.start:g} to {self.end:g} of the steps")
        if self.preprocess == "canny":
            parts.append(f"canny edges ({self.low}, {self.high})")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``control_from_dict`` gives back an equal value."""
        return asdict(self)


def check_control(scale: float, start: float, end: float, preprocess: str) -> None:
    """What can be wrong with the numbers of a ControlNet.

    Raises:
        FreeUValueError: one outside its range, or an unknown way to make its image.
    """
    if not 0.0 <= scale <= MAX_SCALE:
        raise FreeUValueError(f"--controlnet-weight must lie in 0 to {MAX_SCALE:g}, got {scale:g}")
    for name, value in (("start", start), ("end", end)):
        if not 0.0 <= value <= 1.0:
            raise FreeUValueError(f"--controlnet-{name} must lie in 0 to 1, got {value:g}")
    if start >= end:
        raise FreeUValueError(f"--controlnet-start must be smaller than --controlnet-end, got {start:g} and {end:g}")
    if preprocess not in PREPROCESS:
        raise unknown_name("--preprocessor", preprocess, PREPROCESS)


def control_from_dict(data: Any) -> Control:
    """Read what ``Control.to_dict`` gave. Errors name the field."""
    known = {item.name for item in fields(Control)}
    if not isinstance(data, Mapping) or data.keys() != known:
        raise FreeUValueError(f"control must have the fields {', '.join(sorted(known))}")
    return Control(**data)


def named(source: ModelSource) -> dict[str, Any]:
    """How a plan names a local ControlNet: fields of ``Control``."""
    assert source.path is not None
    return {
        "kind": source.kind,
        "reference": source.reference,
        "name": source.label,
        "fingerprint": fingerprint(source.path),
    }


def canny(image: Image, low: int = LOW, high: int = HIGH) -> Image:
    """The edges of an image, white on black, RGB, by Canny's detector on its grey values (OpenCV).

    Args:
        image: any mode and size.
        low, high: thresholds of the size of the gradient, 0 <= low < high, on an 8-bit scale.

    Raises:
        FreeUValueError: thresholds in another order; OpenCV is not installed.
    """
    if not 0 <= low < high:
        raise FreeUValueError(f"canny needs thresholds 0 <= low < high, got {low:g} and {high:g}")
    need("video", "cv2")
    import cv2
    import numpy as np
    from PIL import Image

    edges = cv2.Canny(np.asarray(image.convert("L")), low, high)
    return Image.fromarray(np.repeat(edges[:, :, None], 3, axis=2))


def condition(image: Image, size: tuple[int, int], preprocess: str = "canny") -> Image:
    """The image that a ControlNet reads, RGB.

    Args:
        image: an ordinary image for "canny"; for "none" an image of edges, depth or whatever it was trained on.
        size: width and height of the images to be generated; brought to it first, so that edges are one pixel wide.
        preprocess: "canny" or "none".

    Raises:
        FreeUValueError: an unknown name; OpenCV is not installed.
    """
    from PIL.Image import Resampling

    image = image.convert("RGB")
    if image.size != size:
        image = image.resize(size, Resampling.LANCZOS)
    if preprocess not in PREPROCESS:
        raise unknown_name("preprocess", preprocess, PREPROCESS)
    return canny(image) if preprocess == "canny" else image


def attach_control(pipe: Any, controlnet: Any) -> Any:
    """The pipeline of the same task that has a ControlNet; it shares every module of ``pipe``.

    Args:
        pipe: of Stable Diffusion or SDXL, for text-to-image, image-to-image or inpainting.
        controlnet: what ``control_files.load_control`` gave.

    Raises:
        FreeUValueError: a pipeline that takes no ControlNet, or latents of another size than it was made for.
    """
    import diffusers

    cls = getattr(diffusers, control_class(type(pipe).__name__))
    smaller = 2 ** (len(controlnet.config.conditioning_embedding_out_channels) - 1)
    if smaller != pipe.vae_scale_factor:
        raise FreeUValueError(
            f"the ControlNet makes its image {smaller} times smaller, and the latents of {type(pipe).__name__} are "
            f"{pipe.vae_scale_factor} times smaller: take one that was trained for the same kind of model"
        )
    # Named one by one: of its own accord it takes over no module of another class than it expects, such as a tiny VAE.
    known = inspect.signature(cls.__init__).parameters
    shared = {name: part for name, part in pipe.components.items() if name in known}
    return cls.from_pipe(pipe, **shared, controlnet=controlnet, **_dtype(pipe))


def control_class(name: str) -> str:
    """The class of pipelines with a ControlNet for a class without; errors as ``attach_control``."""
    found = _BASE.fullmatch(name)
    if found is None:
        raise FreeUValueError(
            f"{name} takes no ControlNet here: use a Stable Diffusion 1.x, 2.x or XL, or leave --controlnet out"
        )
    return f"{found[1]}ControlNet{found[2]}Pipeline"


def _dtype(pipe: Any) -> dict[str, Any]:
    """``from_pipe`` makes everything float32 unless told; the name of the argument changed in diffusers."""
    from diffusers.utils import deprecation_utils

    return {"dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype": pipe.unet.dtype}

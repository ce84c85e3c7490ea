"""Generate one image and measure the spectra of its latents and features at every step.

Only sums are kept, and tensors of the steps that were requested: memory does not grow with the size of the model, and
grows by a few curves per step.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freeu.adapters import adapter_for
from freeu.adapters.finding import unet_of
from freeu.analysis.measurement.measure import Curve, Spectrum, SpectrumSum, channel_mean, spectrum
from freeu.core.capture import PARTS, Capture, Features, Observer
from freeu.pipelines.io.frames import Frames, middle
from freeu.pipelines.runs.generate import generate_frames

if TYPE_CHECKING:
    from PIL.Image import Image

    from freeu.pipelines.runs.plan import Plan, PlannedImage


class FeatureKey(NamedTuple):
    """Which features: path of the site, part ("backbone", "skip", "fused"), and whether before or after FreeU."""

    path: str
    part: str
    changed: bool


@dataclass
class Trace:
    """What was measured while one image was generated.

    Args:
        frames: the result: one image, or the frames of a video.
        timesteps: of each denoising step.
        latents: spectra of the latents after each step.
        features: spectra of features at each step, by key.
        maps: channel means (H, W), of a video those of its middle frame; with guidance those of the conditional half of
            the batch; by key and step.
        stages: images (H, W, 3), 0..1, decoded from the latents after the requested steps; of a video its middle frame.
    """

    frames: Frames
    timesteps: tuple[float, ...] = ()
    latents: tuple[Spectrum, ...] = ()
    features: Mapping[FeatureKey, tuple[Spectrum, ...]] = field(default_factory=dict)
    maps: Mapping[tuple[FeatureKey, int], NDArray[np.float32]] = field(default_factory=dict)
    stages: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def image(self) -> Image:
        """The image, or the middle frame of the video."""
        return middle(self.frames)


def watch(model: Any, observe: Observer) -> Capture:
    """Call ``observe`` with the features at every site of a pipeline's U-Net, for a ``with`` block.

    Raises:
        NoSitesError: the model has no known skip concatenation.
        FreeURuntimeError: the model has run as compiled code before.

    >>> import freeu, freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> pipe.set_progress_bar_config(disable=True)
    >>> from freeu import analysis
    >>> seen = analysis.FeatureSpectra()
    >>> with watch(pipe, seen):
    ...     image = pipe("a 3d fox", num_inference_steps=2, width=64, height=64).images[0]
    >>> sorted({key.part for key in seen.spectra()})
    ['backbone', 'fused', 'skip']
    """
    unet = unet_of(model)
    adapter = adapter_for(unet)
    return Capture(unet, adapter.find_sites(unet), adapter.host, observe)


class FeatureSpectra:
    """An observer for ``watch`` that sums spectra step by step; calls with the same timestep are one step.

    Args:
        parts: which of "backbone", "skip" and "fused".
        form: of the curves, see ``SpectrumSum.relative_log_amplitude``.
        maps_at: numbers of the steps (from 0) whose channel means are kept.
        map_of: index in the batch of the sample whose maps are kept; with guidance the last one is conditional.
    """

    def __init__(
        self,
        parts: Collection[str] = PARTS,
        form: str = "radial",
        maps_at: Collection[int] = (),
        map_of: int = -1,
    ) -> None:
        self.parts, self.form, self.maps_at, self.map_of = frozenset(parts), form, frozenset(maps_at), map_of
        self.timesteps: list[float] = []
        self.maps: dict[tuple[FeatureKey, int], NDArray[np.float32]] = {}
        self._done: dict[FeatureKey, list[Spectrum]] = {}
        self._open: dict[FeatureKey, SpectrumSum] = {}

    def __call__(self, features: Features) -> None:
        if features.part not in self.parts:
            return
        time = -1.0 if features.timestep is None else features.timestep
        if not self.timesteps or time != self.timesteps[-1]:
            self._close()
            self.timesteps.append(time)
        key = FeatureKey(features.site.path, features.part, features.changed)
        self._open.setdefault(key, SpectrumSum()).add(features.tensor)
        step = len(self.timesteps) - 1
        if step in self.maps_at:
            self.maps[key, step] = channel_mean(features.tensor)[self.map_of].cpu().numpy()

    def spectra(self) -> dict[FeatureKey, tuple[Spectrum, ...]]:
        """By key, one spectrum for each step."""
        self._close()
        return {key: tuple(found) for key, found in self._done.items()}

    def _close(self) -> None:
        for key, found in self._open.items():
            self._done.setdefault(key, []).append(spectrum(found, self.form))
        self._open = {}


def trace(
    pipe: Any,
    plan: Plan,
    planned: PlannedImage,
    form: str = "radial",
    maps_at: Collection[int] = (),
    decode_at: Collection[int] = (),
) -> Trace:
    """Generate one image or video of a plan and measure its latents and features at every step.

    The image is bit-identical to the one that is generated without measuring.

    Args:
        pipe: the pipeline that the plan was made for.
        planned: which prompt, seed and arm.
        form: of the curves, see ``SpectrumSum.relative_log_amplitude``.
        maps_at: numbers of the steps (from 0) whose channel means are kept.
        decode_at: numbers of the steps whose latents are decoded to images.

    Raises:
        NoSitesError: the model has no known skip concatenation.
        FreeURuntimeError: the model has run as compiled code before, or FreeU did not act.
        FreeUValueError: the pipeline refuses the settings.
    """
    latents: list[Spectrum] = []
    kept: dict[int, Tensor] = {}

    def on_step(_fraction: float, found: Tensor | None) -> None:
        if found is None:
            return
        if len(latents) in decode_at:
            kept[len(latents)] = found.detach().to("cpu", torch.float32, copy=True)
        latents.append(spectrum(found, form))

    frames = plan.frames or 1
    # The batch holds the frames of a video one after another.
    seen = FeatureSpectra(form=form, maps_at=maps_at, map_of=frames // 2 - frames)
    with watch(pipe, seen):
        generated, _ = generate_frames(pipe, plan, planned, on_step=on_step)
    stages = {step: decode(pipe, found) for step, found in kept.items()}
    return Trace(generated, tuple(seen.timesteps), tuple(latents), seen.spectra(), seen.maps, stages)


@torch.no_grad()
def decode(pipe: Any, latents: Tensor) -> NDArray[np.float32]:
    """Latents, noisy or clean, decoded by the pipeline's VAE to an image (H, W, 3), 0..1.

    Args:
        latents: shape (1, C, h, w), or (1, C, F, h, w) of a video, of which the middle frame is taken.
    """
    vae = pipe.vae
    if latents.dim() == 5:
        latents = latents[:, :, latents.shape[2] // 2]
    parameter = next(vae.parameters())
    scaled = latents.to(parameter.device, parameter.dtype) / vae.config.scaling_factor
    shift = getattr(vae.config, "shift_factor", None)
    decoded = vae.decode(scaled if shift is None else scaled + shift, return_dict=False)[0]
    processor = getattr(pipe, "image_processor", None) or pipe.video_processor
    pixels: NDArray[np.float32] = processor.postprocess(decoded, output_type="np")[0]
    # The memory layout as read from a file: it decides the last bits of Fourier transforms.
    return np.ascontiguousarray(pixels)


def write_trace(found: Trace) -> bytes:
    """Everything of a trace but its frames, as the bytes of an ``.npz`` file."""
    arrays: dict[str, Any] = {"timesteps": np.array(found.timesteps)}
    keys = list(found.features)
    arrays["places"] = np.array([json.dumps(key) for key in keys])
    for name, spectra in (
        ("latents", found.latents),
        *((f"features-{i}", found.features[p]) for i, p in enumerate(keys)),
    ):
        arrays |= {f"{name}-{key}": value for key, value in _pack(spectra).items()}
    for (key, step), values in found.maps.items():
        arrays[f"map-{keys.index(key)}-{step}"] = values
    for step, values in found.stages.items():
        arrays[f"stage-{step}"] = values
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_trace(path: Path, frames: Frames) -> Trace | None:
    """What ``write_trace`` wrote, with its frames; None if the file is not there or is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        keys = [FeatureKey(*json.loads(str(text))) for text in arrays["places"]]
        features = {key: _unpack(arrays, f"features-{i}") for i, key in enumerate(keys)}
        maps = {}
        stages = {}
        for name, values in arrays.items():
            kind, *numbers = name.split("-")
            if kind == "map":
                maps[keys[int(numbers[0])], int(numbers[1])] = values
            elif kind == "stage":
                stages[int(numbers[0])] = values
        return Trace(frames, tuple(arrays["timesteps"].tolist()), _unpack(arrays, "latents"), features, maps, stages)
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _pack(spectra: tuple[Spectrum, ...]) -> dict[str, Any]:
    """Spectra of one size as arrays."""
    nothing = (math.nan,) * 3
    return {
        "frequency": spectra[0].curve.frequency if spectra else np.zeros(0),
        "curve": np.array([one.curve.value for one in spectra]),
        "energy": np.array([one.energy for one in spectra]),
        "shares": np.array([one.shares or nothing for one in spectra]),
    }


def _unpack(arrays: Mapping[str, Any], name: str) -> tuple[Spectrum, ...]:
    frequency, curves, energies, shares = (
        arrays[f"{name}-{key}"] for key in ("frequency", "curve", "energy", "shares")
    )
    return tuple(
        Spectrum(Curve(frequency, curve), float(energy), None if np.isnan(share).any() else tuple(share.tolist()))
        for curve, energy, share in zip(curves, energies, shares, strict=True)
    )

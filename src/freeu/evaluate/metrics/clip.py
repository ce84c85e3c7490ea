"""CLIP score and retrieval with any ``CLIPModel`` in a local directory."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.distance import Floats, features_of
from freeu.evaluate.metrics.judge import Judge
from freeu.extras import need

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

HESSEL_WEIGHT = 2.5
"""CLIPScore of Hessel et al. 2021 is ``clip_score(..., weight=HESSEL_WEIGHT)``."""


class CLIP(Judge):
    """A CLIP model as judge: unit feature vectors of images and of texts.

    Args:
        path: a directory with a ``CLIPModel``, its tokenizer and its image processor, or a hub id that is in the local
            cache; nothing is downloaded.
        device: a torch device.
        dtype: a torch dtype by name.
        batch: images or texts at a time.

    Raises:
        FreeUValueError: no such directory, one that holds no CLIP, or damaged files.
    """

    def __init__(self, path: str | Path, *, device: str = "cpu", dtype: str = "float32", batch: int = 32) -> None:
        need("eval", "transformers", "scipy", "PIL")
        import torch
        from safetensors import SafetensorError
        from transformers import CLIPModel, CLIPTokenizer

        if batch < 1:
            raise FreeUValueError(f"batch must be at least 1, got {batch}")
        where = str(path)
        if Path(where).is_dir() and not (Path(where) / "config.json").is_file():
            raise FreeUValueError(f"{where} holds no CLIP: it has no config.json")
        try:
            with _quiet():
                self._model = CLIPModel.from_pretrained(where, local_files_only=True, dtype=getattr(torch, dtype))
                self._tokenizer = CLIPTokenizer.from_pretrained(where, local_files_only=True)
                self._processor = _processor_class().from_pretrained(where, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise FreeUValueError(
                f"cannot load a CLIP from {where}: {reason} (give a directory with CLIPModel, tokenizer and image "
                "processor, or a hub id in the local cache)"
            ) from None
        self._model = self._model.to(device).eval()
        self._device, self._batch = device, batch
        self.name = Path(where).name

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines with: the exponential of its learnt logit scale."""
        return float(self._model.logit_scale.detach().double().exp())

    def image_features(self, images: Sequence[Image]) -> Floats:
        """Unit feature vectors of images of any size, float64 of shape (n, d)."""
        found = []
        for start in range(0, len(images), self._batch):
            part = [image.convert("RGB") for image in images[start : start + self._batch]]
            values = self._processor(images=part, return_tensors="pt")["pixel_values"]
            found.append(self._run("get_image_features", pixel_values=values.to(self._device, self._model.dtype)))
        return self._stacked(found)

    def pixel_features(self, pixels: Tensor) -> Tensor:
        """Unit feature vectors of images as tensors, through which gradients flow; shape (n, d), float32.

        The image is resized as a whole by the antialiased bicubic filter of torch, so its features differ a little from
        those of ``image_features``, which resizes 8-bit images.

        Args:
            pixels: shape (n, 3, H, W), in 0..1.
        """
        import torch
        from torch.nn import functional

        config = self._processor
        side = int(self._model.config.vision_config.image_size)
        resized = functional.interpolate(
            pixels.float(), (side, side), mode="bicubic", align_corners=False, antialias=True
        )
        mean, deviation = (
            torch.tensor(values, device=pixels.device).view(1, 3, 1, 1)
            for values in (config.image_mean, config.image_std)
        )
        out = self._model.get_image_features(pixel_values=((resized - mean) / deviation).to(self._model.dtype))
        features: Tensor = out if isinstance(out, torch.Tensor) else out.pooler_output
        return functional.normalize(features.float(), dim=-1)

    def text_features(self, texts: Sequence[str]) -> Floats:
        """Unit feature vectors of texts, float64 of shape (n, d); longer texts than the model takes are truncated."""
        found = []
        length = int(self._model.config.text_config.max_position_embeddings)
        for start in range(0, len(texts), self._batch):
            tokens = self._tokenizer(
                list(texts[start : start + self._batch]),
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            words = {name: tokens[name].to(self._device) for name in ("input_ids", "attention_mask")}
            found.append(self._run("get_text_features", **words))
        return self._stacked(found)

    def _run(self, method: str, **inputs: Tensor) -> Floats:
        import torch

        with torch.no_grad():
            out: Any = getattr(self._model, method)(**inputs)
        # transformers 5 wraps the projected features.
        tensor = out if isinstance(out, torch.Tensor) else out.pooler_output
        return np.asarray(tensor.double().cpu().numpy())

    def _stacked(self, parts: list[Floats]) -> Floats:
        if not parts:
            return np.empty((0, int(self._model.config.projection_dim)))
        values = np.concatenate(parts)
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12))


def _processor_class() -> Any:
    """The image processor for Pillow images; since transformers 5 the default one needs torchvision."""
    import transformers

    with contextlib.suppress(ImportError, AttributeError):
        return transformers.CLIPImageProcessorPil
    return transformers.CLIPImageProcessor


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the library's notes and progress bars."""
    import transformers.utils.logging as log

    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.ERROR)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def clip_score(images: Any, texts: Any, weight: float = 100.0) -> Floats:
    """weight * max(cos, 0) for each image and its own text (Hessel et al. 2021, Eq. 1).

    Args:
        images, texts: features of ``CLIP``, shape (n, d), row by row.
        weight: 100 is the usual "CLIP score" in percent; ``HESSEL_WEIGHT`` = 2.5 gives the paper's CLIPScore; 1 the
            plain cosine, such as .31.

    Returns:
        shape (n,), 0..weight.

    >>> import numpy as np
    >>> clip_score(np.eye(2), np.eye(2))
    array([100., 100.])
    """
    a, b = features_of("the images", images, 1), features_of("the texts", texts, 1)
    if a.shape != b.shape:
        raise FreeUValueError(f"every image needs its text, got features of shape {a.shape} and {b.shape}")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(weight * np.clip((a * b).sum(axis=1) / lengths.clip(1e-12), 0.0, 1.0))


def retrieval(images: Any, captions: Any, right: Sequence[int]) -> Floats:
    """Whether an image retrieves its own caption among N: 1 if that caption is the nearest, 0 if another is.

    Args:
        images: unit features, shape (n, d).
        captions: unit features of N different captions, shape (N, d), N at least 2.
        right: for each image the row of its own caption.

    Returns:
        shape (n,); a tie of k captions at exactly the same distance scores 1/k. Chance is 1/N.

    Raises:
        FreeUValueError: shapes or rows that do not fit.

    >>> import numpy as np
    >>> retrieval(np.eye(2), np.eye(2), [0, 1])
    array([1., 1.])
    """
    a, b = features_of("the images", images, 1), features_of("the captions", captions)
    rows = np.asarray(right, dtype=np.intp)
    if a.shape[1] != b.shape[1] or rows.shape != (len(a),) or not ((rows >= 0) & (rows < len(b))).all():
        raise FreeUValueError(
            f"every image needs the row of its caption, got {len(a)} images, {len(b)} captions, {list(right)[:8]}"
        )
    cosines = a @ b.T
    own = cosines[np.arange(len(a)), rows]
    best = cosines >= own[:, None]
    return np.where(cosines.max(axis=1) > own, 0.0, 1.0 / best.sum(axis=1))

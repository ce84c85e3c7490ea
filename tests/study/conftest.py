"""A small real study of generated images, made once: three prompts, two seeds, two arms, four raters."""

import shutil
from pathlib import Path

import pytest
from study.materials import plain_folders

from freeu.study.plan.build import new_study
from freeu.study.plan.folder import StudyFolder
from freeu.study.plan.material import read_material

PROMPTS = ("a 3d fox on a blue background", "a flat dog <left> of a pizza", "zwei rote Äpfel & eine Katze 猫")


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

"""One run of every recipe, made tiny, for all who test what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The work folder of ``python -m freeu_zoo.train --smoke``. Nobody changes it: what is made from it goes elsewhere.

    With several workers the first that asks makes it, and the others wait.
    """
    train = pytest.importorskip("freeu_zoo.train")
    mine = tmp_path_factory.getbasetemp()
    home = mine if worker_id == "master" else mine.parent
    folder, done = home / "smoke-run", home / "smoke-run.done"
    with FileLock(home / "smoke-run.lock"):
        if not done.exists():
            assert train.main(["--smoke", "--work", str(folder), "--threads", "1"]) == 0
            done.touch()
    return folder

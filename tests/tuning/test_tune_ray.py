"""freeu tune --ray: the trials' images by workers give the search of one process, whatever is killed on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from command_line import run_cli as run

from freeu.errors import FreeURuntimeError
from freeu.evaluate.experiment.arms import Arm
from freeu.evaluate.experiment.measuring import Measurer
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.scoring import Judges
from freeu.pipelines.options.model import ModelOptions
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs import ray_executor
from freeu.pipelines.runs.executors import LostWorkersError
from freeu.pipelines.runs.prepare import Prepared, prepare
from freeu.pipelines.runs.request import Request, check_request
from freeu.tuning.search import open_storage, sqlite_url

PROMPTS = tuple(
    Prompt(f"a 3d {noun} on a {colour} background") for noun in ("fox", "car") for colour in ("red", "blue")
)
PAIRS = [(number, seed) for number in range(4) for seed in (0, 1, 2)]
ARM = Arm("mine", config=None, guidance=5.0)


@pytest.fixture(scope="module")
def cluster() -> Any:
    """A cluster of two processors; its address."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'freeu[ray]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    pytest.importorskip("freeu_zoo")
    sampling = SamplingOptions(steps=1, width=64, height=64, seeds="0")
    texts = tuple(one.text for one in PROMPTS)
    request = Request("generate", texts, sampling, ModelOptions(), RunOptions(threads=1))
    return prepare(request, check_request(request, Path("unused")))


def test_a_search_that_is_given_up_leaves_nothing_for_the_next(cluster: str, prepared: Prepared) -> None:
    """Values are those of this process, in the order that was asked for, also after an iterator that was closed."""
    alone = Measurer(prepared, PROMPTS, Judges())
    with alone.computing():
        expected = alone.values(ARM, PAIRS)
    with ray_executor.ray_cluster("local") as executor:
        measurer = Measurer(prepared, PROMPTS, Judges(), executor)
        for count in (1, 2):
            blocks = measurer.blocks(Arm("none"), PAIRS)
            for _ in range(count):
                next(blocks)
            blocks.close()  # as where a trial is pruned
        found = measurer.blocks(ARM, PAIRS)
        assert [one for block in found for one in block] == [*expected.items()]
        assert len(executor.pids) == len({*executor.pids}) <= 2


def test_workers_that_are_lost_end_the_search_and_not_a_trial(
    cluster: str, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    monkeypatch.setattr(ray_executor, "LOSSES", 0)
    with ray_executor.ray_cluster("local") as executor:
        blocks = Measurer(prepared, PROMPTS, Judges(), executor).blocks(ARM, PAIRS * 8)
        next(blocks)
        for pid in executor.pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(LostWorkersError, match="--ray lost the worker of"):
            list(blocks)
    assert issubclass(LostWorkersError, FreeURuntimeError)


def trials(folder: Path) -> list[dict[str, float]]:
    """Values of the trials of each search, by their parameters."""
    import optuna

    found = []
    with open_storage(sqlite_url(folder / "trials.db")) as storage:
        for summary in sorted(optuna.get_all_study_summaries(storage), key=lambda one: one.study_name):
            study = optuna.load_study(study_name=summary.study_name, storage=storage)
            ended = [one for one in study.trials if one.state.is_finished()]
            found.append({str(sorted(one.params.items())): one.value for one in ended})
    return found


def test_a_search_by_workers_is_that_of_one_process_and_goes_on_after_a_kill(cluster: str, tmp_path: Path) -> None:
    pytest.importorskip("freeu_zoo")
    prompts = tmp_path / "prompts.txt"
    nouns, colours = ("fox", "cat", "car", "rocket", "dog", "tree"), ("red", "blue", "green", "white", "black", "pink")
    prompts.write_text("\n".join(f"a 3d {noun} on a {colour} background" for noun in nouns for colour in colours))
    words = ["tune", "--prompts", prompts, "--steps", 1, "--width", 64, "--height", 64, "--threads", 1, "--batch", 2]
    words += ["--guard", "none", "--objective", "saturation", "--judge", "none", "--trials", 2]
    words += ["--search-prompts", 8, "--confirm-prompts", 8, "--finalists", 1, "--search-only"]
    assert run(*words, "--output", tmp_path / "one").code == 0
    folder = tmp_path / "two"
    shown = [str(word) for word in (*words, "--output", folder, "--ray", cluster)]
    driver = subprocess.Popen(
        [sys.executable, "-m", "freeu", *shown], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while driver.poll() is None and not (folder / "plain.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)  # some trials
    driver.kill()
    driver.wait()
    assert (folder / "plain.json").exists()
    outcome = run(*words, "--output", folder, "--ray")  # the cluster that this process has joined
    assert outcome.code == 0, outcome.err
    assert json.loads((folder / "plain.json").read_text()) == json.loads((tmp_path / "one" / "plain.json").read_text())
    # A trial that was killed does not count, so that the settings of the two are not all the same.
    for mine, whole in zip(trials(folder), trials(tmp_path / "one"), strict=True):
        assert len(mine) == len(whole) == 2
        same = mine.keys() & whole.keys()
        assert same
        assert {key: mine[key] for key in same} == {key: whole[key] for key in same}

"""--ray: workers of a real cluster give the bits of one process, whatever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from command_line import run_cli

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.extras import need
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.options.run import RunOptions
from freeu.pipelines.options.sampling import SamplingOptions
from freeu.pipelines.runs import ray_executor
from freeu.pipelines.runs.executors import Silent
from freeu.pipelines.runs.prepare import Prepared, prepare
from freeu.pipelines.runs.request import ModelOptions, Request, check_request
from freeu.pipelines.runs.run import ImageMaker, make_run

COUNT = 24


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two processors; its address."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'freeu[ray]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def prepared(sd_dir: Path) -> Prepared:
    sampling = SamplingOptions(steps=1, seeds=f"0-{COUNT - 1}")
    request = Request("generate", ("a fox",), sampling, ModelOptions(model=str(sd_dir)), RunOptions(threads=1))
    return prepare(request, check_request(request, Path("unused")))


@pytest.fixture(scope="module")
def alone(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the same run in this process."""
    folder = tmp_path_factory.mktemp("alone")
    make_run(prepared, OutputFolder(folder), ImageMaker())
    return pngs(folder)


def pngs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("p*.png"))}


class Killing(Silent):
    """Kills a worker once the first image was written."""

    def __init__(self, executor: ray_executor.RayExecutor) -> None:
        self.executor, self.done = executor, 0

    def step(self, file: str, fraction: float, images: int = 1) -> None:
        self.done += 1
        if self.done == 1:
            os.kill(self.executor.pids[0], signal.SIGKILL)


def test_a_worker_is_killed_and_its_batches_are_made_by_others(cluster, prepared, alone, tmp_path):
    with ray_executor.ray_cluster("local") as executor:
        progress = Killing(executor)
        manifest = make_run(prepared, OutputFolder(tmp_path / "out"), ImageMaker(), progress, executor)
        assert len(set(executor.pids)) >= 2
    assert progress.done == COUNT
    assert manifest.complete
    assert pngs(tmp_path / "out") == alone


def test_the_driver_is_killed_and_the_same_command_goes_on(cluster, sd_dir, alone, tmp_path):
    folder = tmp_path / "out"
    words = ["generate", "a fox", "--no-freeu", "--steps", "1", "--seeds", f"0-{COUNT - 1}", "--threads", "1"]
    words += ["--model", str(sd_dir), "--output", str(folder), "--ray", cluster]
    driver = subprocess.Popen([sys.executable, "-m", "freeu", *words], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while driver.poll() is None and len(list(folder.glob("p*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    there = len(pngs(folder))
    assert 2 <= there < COUNT
    words[-1] = "local"  # the cluster that this process has joined
    code, out, err = run_cli(*words)
    assert code == 0, err
    assert f"wrote {COUNT} images" in out
    assert "of the earlier run" in err
    assert pngs(folder) == alone
    record = json.loads((folder / "manifest.json").read_text())
    assert record["complete"]
    assert len(record["pictures"]) == COUNT == len({one["file"] for one in record["pictures"]})
    assert not (folder / "manifest.journal").exists()


def test_an_experiment_has_the_table_of_one_process(cluster, sd_dir, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red fox\na blue car\n")
    words = ("evaluate", sd_dir, "--prompts", prompts, "--arms", "none,mine: b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2")
    words += ("--steps", "1", "--threads", "1", "--batch", "1", "--judge", "none", "--output")
    assert run_cli(*words, tmp_path / "one").code == 0
    outcome = run_cli(*words, tmp_path / "two", "--ray")
    assert outcome.code == 0, outcome.err
    for name in ("table.md", "results.json"):
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()


def test_a_batch_that_loses_every_worker_is_named(cluster, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "LOSSES", 0)
    with (
        ray_executor.ray_cluster("local") as executor,
        pytest.raises(FreeURuntimeError, match=r"--ray lost the worker of p000-s\d+-baseline\.png 1 time"),
    ):
        make_run(prepared, OutputFolder(tmp_path / "out"), ImageMaker(), Killing(executor), executor)


@pytest.mark.parametrize("address", ["nowhere", "a fox", "127.0.0.1:0", "ray://127.0.0.1"])
def test_what_is_no_address_is_one_line(address):
    pytest.importorskip("ray", reason="ray is not installed")
    outcome = run_cli("generate", "a fox", "--ray", address)
    assert outcome.code == 2
    assert "not an address" in outcome.one_line()


def test_an_address_that_does_not_answer_is_one_line(work):
    pytest.importorskip("ray", reason="ray is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        outcome = run_cli("generate", "a fox", "--ray", f"127.0.0.1:{free.getsockname()[1]}")
    assert outcome.code == 2
    assert "no cluster answers there" in outcome.one_line()


def test_without_ray_the_message_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FreeUValueError, match=r"ray is not installed: pip install 'freeu\[ray\]'"):
        need("ray", "ray")


def test_videos_are_refused(video_dir, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a fox\n")
    outcome = run_cli(
        "evaluate", video_dir, "--prompts", prompts, "--arms", "none", "--judge", "none", "--ray", "--output",
        tmp_path / "out", "--frames", "2",
    )  # fmt: skip
    assert outcome.code == 2
    assert "--ray generates images" in outcome.err.splitlines()[-1]

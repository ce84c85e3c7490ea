"""Weights & Biases, MLflow and TensorBoard: imported when results are tracked, each by its own settings.

A tracker that fails loses nothing: ``results.json`` and ``table.md`` are there before it is called.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeURuntimeError, one_line, unknown_name
from freeu.evaluate.tracking.record import Record
from freeu.extras import installed, load_package, need_package

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AT_ONCE = 1_000
"""Values that a server of MLflow takes in one request."""


@dataclass(frozen=True)
class Tracker:
    """A tracker of experiments.

    Args:
        package: the module that must be installed.
        install: what to give ``pip install`` for it.
        send: sends a record.
    """

    package: str
    install: str
    send: Callable[[Record], None]


def send_to_wandb(record: Record) -> None:
    """A run of Weights & Biases; offline with WANDB_MODE=offline, then in the folder ``wandb`` of the output."""
    wandb = load_package("wandb", "wandb")
    run = wandb.init(
        project=record.project,
        name=record.name,
        dir=str(record.folder),
        config=record.config | record.settings,
        job_type="evaluate",
        settings=wandb.Settings(silent=True),
    )
    try:
        columns = ["arm", "measure", "value", "low", "high"]
        rows = [[one.arm, one.measure, one.value, one.low, one.high] for one in record.values]
        run.log(
            {f"samples/{arm}": wandb.Image(sheet) for arm, sheet in record.sheets()}
            | {"values": wandb.Table(columns=columns, data=rows)}
        )
        for one in record.values:
            run.summary.update({"/".join((one.arm, one.measure, name)): number for name, number in one.numbers()})
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def send_to_mlflow(record: Record) -> None:
    """A run of MLflow, at MLFLOW_TRACKING_URI or else in ``mlflow.db`` and ``mlartifacts`` of the output."""
    mlflow = load_package("mlflow", "mlflow")
    entities: Any = load_package("mlflow.entities", "mlflow")
    server = os.environ.get("MLFLOW_TRACKING_URI")
    # Since version 3 it refuses plain folders as stores.
    client = mlflow.MlflowClient(server or f"sqlite:///{record.folder / 'mlflow.db'}")
    place = None if server else (record.folder / "mlartifacts").as_uri()
    experiment = client.get_experiment_by_name(record.project)
    if experiment is None:
        number = client.create_experiment(record.project, artifact_location=place)
    else:
        number = experiment.experiment_id
    run = client.create_run(number, run_name=record.name).info.run_id
    try:
        for name, value in record.settings.items():
            client.log_param(run, name, value)
        now = int(time.time() * 1000)
        metrics = [
            entities.Metric(_key(f"{one.arm}/{one.measure}/{name}"), value, now, 0)
            for one in record.values
            for name, value in one.numbers()
        ]
        for start in range(0, len(metrics), AT_ONCE):
            client.log_batch(run, metrics=metrics[start : start + AT_ONCE])
        client.log_dict(run, record.config, "config.json")
        client.log_text(run, record.table, "table.md")
        for arm, sheet in record.sheets():
            client.log_image(run, sheet, f"samples/{_key(arm).replace('/', '_')}.png")
    except BaseException:
        client.set_terminated(run, status="FAILED")
        raise
    client.set_terminated(run)


def send_to_tensorboard(record: Record) -> None:
    """Event files in the folder ``tensorboard`` of the output."""
    module = "torch.utils.tensorboard" if installed("tensorboard") else "tensorboardX"
    writer = load_package(module, "tensorboard").SummaryWriter(str(record.folder / "tensorboard" / record.project))
    with writer:
        lines = [f"| {name} | {value} |" for name, value in record.settings.items()]
        writer.add_text("settings", "\n".join(["| setting | value |", "| --- | --- |", *lines]))
        writer.add_text("table", record.table)
        for one in record.values:
            for name, value in one.numbers():
                writer.add_scalar("/".join((one.measure, one.arm, name)), value)
        for arm, sheet in record.sheets():
            writer.add_image(f"samples/{arm}", _pixels(sheet), dataformats="HWC")


def _key(name: str) -> str:
    """A name as MLflow takes it: letters, digits and ``_ - . /`` and blanks."""
    return re.sub(r"[^\w\-./ ]", "_", name, flags=re.ASCII)[:250]


def _pixels(sheet: Any) -> NDArray[np.uint8]:
    import numpy as np

    return np.asarray(sheet, dtype=np.uint8)


TRACKERS = {
    "wandb": Tracker("wandb", "wandb", send_to_wandb),
    "mlflow": Tracker("mlflow", "mlflow", send_to_mlflow),
    "tensorboard": Tracker("tensorboard", "tensorboard", send_to_tensorboard),
}
"""By the name that ``--track`` takes."""


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Without notes and warnings, which are for the developers of a tracker."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def check_trackers(names: Sequence[str]) -> None:
    """Make sure that trackers are known and installed, before anything is generated.

    Raises:
        FreeUValueError: one that is not.
    """
    for name in names:
        if name not in TRACKERS:
            raise unknown_name("--track", name, TRACKERS)
        tracker = TRACKERS[name]
        if not (name == "tensorboard" and installed("tensorboardX")):
            need_package(tracker.package, tracker.install)


def track(names: Sequence[str], record: Record) -> None:
    """Send a record to trackers, each once; one that fails does not keep it from the others.

    Args:
        names: of ``TRACKERS``.
        record: of results that are written already.

    Raises:
        FreeURuntimeError: a tracker failed; the message gives its error, and where the results are.
    """
    failed = []
    for name in dict.fromkeys(names):
        try:
            with _calm():
                TRACKERS[name].send(record)
        except Exception as error:  # of a library, of its server, of the network
            failed.append(f"{name} failed ({one_line(error)})")
    if failed:
        raise FreeURuntimeError(f"the results are in {record.folder}, but {' and '.join(failed)}")

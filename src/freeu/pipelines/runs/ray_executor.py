"""The calls of the pipeline of a run on the workers of a Ray cluster; this process alone writes files.

What a worker computes follows from the plan, the batch and the versions: a batch whose worker is lost is given to
another one, and the bits are those of one process with the plan's threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.models.used import used_parts
from freeu.pipelines.runs.executors import Batch, LostWorkersError, Made, Work, settings_of
from freeu.pipelines.runs.manifest import environment, environment_differences
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.runs.prepare import Prepared
from freeu.pipelines.runs.reproduce import Elsewhere, reload
from freeu.pipelines.runs.run import ImageMaker, Produced, deterministic
from freeu.wording import counted

LOCAL = "local"
"""The address that stands for a cluster of this machine alone, which ends with the run."""
IN_FLIGHT = 2
"""Batches that a worker holds at most: the one it computes and the next."""
LOSSES = 3
"""How often a batch, or the loading of the model, may lose its worker before the run ends."""
ANSWER_S = 5.0
"""Seconds within which a machine must answer at its address."""


class Worker:
    """What runs in a process of the cluster: it loads the model once and computes batches of any plan for it."""

    def load(self, plan_data: Mapping[str, Any], inputs: Mapping[str, bytes], made_with: Mapping[str, str]) -> int:
        """Load the model of a plan; returns the id of the process.

        Raises:
            FreeUValueError: the model, the device or the versions here are others than those of the plan.
        """
        plan = Plan.from_dict(plan_data)
        with tempfile.TemporaryDirectory(prefix="freeu-") as folder, quiet():
            for name, data in inputs.items():
                (Path(folder) / name).write_bytes(data)
            self.prepared = reload(plan, Path(folder), Elsewhere())
        self.used = used_parts(self.prepared.loaded.pipe)
        differences = environment_differences(made_with, environment(plan.device))
        if self.prepared.plan.model.fingerprint != plan.model.fingerprint:
            differences.append(f"the files of {plan.model.reference}")
        if self.prepared.plan.device != plan.device:
            differences.append(f"device: {plan.device}, {self.prepared.plan.device}")
        if differences:
            raise FreeUValueError(
                f"--ray: the worker on {socket.gethostname()} would generate other bits ({'; '.join(differences)}): "
                "install the same versions and the same model on every machine"
            )
        return os.getpid()

    def make(
        self, plan_data: Mapping[str, Any], batch: Batch, made_with: Mapping[str, str]
    ) -> tuple[list[Produced], float]:
        """The images of a batch, and the seconds they took."""
        plan = Plan.from_dict(plan_data)
        here = self.prepared
        prepared = Prepared(plan, here.loaded, here.image, here.mask, None, here.control_image, here.region)
        settings = [settings_of(plan, planned, made_with, self.used) for planned in batch]
        began = time.perf_counter()
        with quiet(), deterministic(plan.device, plan.threads):
            produced = ImageMaker().produce(prepared, batch, settings, lambda fraction, latents: None)
        return produced, time.perf_counter() - began


@dataclass
class _Slot:
    """A worker: what it is loading, if it still is, and the batches it was given, the oldest first."""

    actor: Any
    loading: Any = None
    flying: deque[tuple[Any, Batch]] = field(default_factory=deque)


class RayExecutor:
    """Workers of a cluster that this process has joined; see ``ray_cluster``.

    Attributes:
        pids: process ids of the workers that have loaded the model, those that were lost included.
    """

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._loaded: dict[str, Any] = {}
        self._wanted: dict[str, int] = {}
        self._load_with: tuple[Any, ...] = ()
        self._failed_loads = 0
        self.pids: list[int] = []

    def results(self, work: Work) -> Iterator[tuple[Batch, list[Made], float]]:
        """See ``executors.Executor``.

        Raises:
            FreeUValueError: the plan is of videos; the cluster has no place for a worker, or the worker's machine would
                generate other bits.
            FreeURuntimeError: a batch lost its worker more than ``LOSSES`` times; FreeU did not act.
        """
        import ray

        maker, plan = work.maker, work.prepared.plan
        check_ray(plan)
        assert isinstance(maker, ImageMaker)
        queue = deque(work.batches)
        if not queue:
            return
        self._start(work)
        data, made_with = ray.put(plan.to_dict()), dict(work.made_with)
        losses: Counter[Batch] = Counter()
        try:
            while queue or any(slot.flying for slot in self._slots):
                # One batch for every worker before the second of any: a short run is spread evenly.
                for depth in range(1, IN_FLIGHT + 1):
                    for slot in self._slots:
                        if queue and slot.loading is None and len(slot.flying) < depth:
                            batch = queue.popleft()
                            slot.flying.append((slot.actor.make.remote(data, batch, made_with), batch))
                for slot, reference in self._ready():
                    try:
                        answer = self._answer(reference)
                    except _LostError:
                        self._lost(slot, queue, losses)
                        continue
                    if slot.loading is not None:
                        slot.loading = None
                        self.pids.append(answer)
                        continue
                    batch = slot.flying.popleft()[1]
                    produced, seconds = answer
                    made = [maker.write(work.output, todo, one) for todo, one in zip(batch, produced, strict=True)]
                    yield batch, made, seconds
        finally:
            self._forget()

    def _forget(self) -> None:
        """Leave what is still being computed: nobody waits for it, after an error or where its results were enough."""
        import ray

        for slot in self._slots:
            for reference, _ in slot.flying:
                with contextlib.suppress(Exception):  # the cluster is gone
                    ray.cancel(reference)  # what has begun is computed to its end all the same
            slot.flying.clear()

    def _ready(self) -> list[tuple[_Slot, Any]]:
        """Workers that have answered, each with the reference of its oldest answer."""
        import ray

        waiting = {(slot.loading or slot.flying[0][0]): slot for slot in self._slots if slot.loading or slot.flying}
        done, _ = ray.wait(list(waiting), timeout=1.0)
        return [(waiting[reference], reference) for reference in done]

    def _answer(self, reference: Any) -> Any:
        import ray
        from ray.exceptions import ObjectLostError, RayActorError, RayTaskError, WorkerCrashedError

        try:
            return ray.get(reference)
        except (RayActorError, ObjectLostError, WorkerCrashedError) as error:
            raise _LostError(str(error)) from None
        except RayTaskError as error:
            raise error.cause from None

    def _lost(self, slot: _Slot, queue: deque[Batch], losses: Counter[Batch]) -> None:
        """Put another worker in the place of a lost one; its batches go back to the queue."""
        if slot.loading is not None:
            self._failed_loads += 1
            if self._failed_loads > LOSSES:
                raise LostWorkersError(
                    f"--ray lost {self._failed_loads} workers while they loaded the model: does their memory hold it?"
                )
        else:
            oldest = slot.flying[0][1]
            losses[oldest] += 1
            if losses[oldest] > LOSSES:
                times = counted(losses[oldest], "time")
                raise LostWorkersError(
                    f"--ray lost the worker of {oldest[0].file} {times}: does its memory suffice? "
                    "The same command with the same --output goes on"
                )
        queue.extendleft(batch for _, batch in reversed(slot.flying))
        _end(slot.actor)
        self._slots[self._slots.index(slot)] = self._begun()

    def _start(self, work: Work) -> None:
        """Workers that have the model of a plan, or load it."""
        import ray

        plan = work.prepared.plan
        needed = loading_key(plan)
        if self._loaded != needed:
            self.close()
            self._load_with = (
                ray.put(plan.to_dict()),
                ray.put(dict(work.maker.inputs(work.prepared))),
                dict(work.made_with),
            )
            self._loaded = needed
        self._wanted = {"CPU": 1, "GPU": 1} if plan.device == "cuda" else {"CPU": plan.threads}
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        places = sum(
            min(int(node["Resources"].get(kind, 0.0) // count) for kind, count in self._wanted.items())
            for node in nodes
            if node["Alive"]
        )
        if not places:
            lacks = "GPU" if "GPU" in self._wanted else f"machine with {counted(plan.threads, 'processor')}"
            raise FreeUValueError(f"--ray: the cluster has no {lacks}: give another --device or --threads")
        while len(self._slots) < min(places, len(work.batches)):
            self._slots.append(self._begun())

    def _begun(self) -> _Slot:
        import ray

        wanted = self._wanted
        actor: Any = ray.remote(num_cpus=wanted["CPU"], num_gpus=wanted.get("GPU", 0), max_restarts=0)(Worker).remote()
        return _Slot(actor, actor.load.remote(*self._load_with))

    def close(self) -> None:
        """End the workers."""
        for slot in self._slots:
            _end(slot.actor)
        self._slots = []


class _LostError(Exception):
    """A worker does not answer any more."""


def _end(actor: Any) -> None:
    import ray

    with contextlib.suppress(Exception):  # it, or its cluster, is gone already
        ray.kill(actor)


def loading_key(plan: Plan) -> dict[str, Any]:
    """What of a plan decides the loaded model and its inputs: plans that agree in it share workers."""
    fields: tuple[str, ...] = (
        "model",
        "task",
        "dtype",
        "device",
        "threads",
        "scheduler",
        "loras",
        "embeddings",
        "fuse_loras",
    )
    fields += ("control", "prediction_type", "image_sha", "mask_sha", "region_sha")
    return {name: getattr(plan, name) for name in fields}


def check_ray(plan: Plan) -> None:
    """Refuse a plan that workers cannot compute.

    Raises:
        FreeUValueError: it is of videos, or for one GPU by its number.
    """
    if plan.frames is not None:
        raise FreeUValueError("--ray generates images, and this model makes videos: leave --ray out")
    if plan.device.startswith("cuda:"):
        raise FreeUValueError(f"--ray gives every worker a GPU of its own: give --device cuda, not {plan.device}")


@contextlib.contextmanager
def ray_cluster(address: str) -> Iterator[RayExecutor]:
    """Start a cluster on this machine, or join one, for a ``with`` block; its workers end with it.

    Args:
        address: ``LOCAL``, "auto" for a cluster that runs on this machine, "HOST:PORT" or "ray://HOST:PORT". Where this
            process has joined a cluster already, ``LOCAL`` is that one.

    Raises:
        FreeUValueError: ray is not installed, or no cluster answers at the address.
    """
    need("ray", "ray")
    _check_answers(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    joined = ray.is_initialized() and address == LOCAL
    if not joined:
        how: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.CRITICAL}
        if address == LOCAL:
            how |= {"include_dashboard": False, "num_cpus": os.cpu_count()}
        try:
            ray.init(**how)
        except Exception as error:  # of many kinds: gRPC's, Ray's, and those of its files
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise FreeUValueError(f"--ray {address}: no cluster answers there ({lines[0]})") from None
    executor = RayExecutor()
    try:
        yield executor
    finally:
        executor.close()
        if not joined:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray waits for minutes where nothing answers; this takes seconds."""
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise FreeUValueError(
            f"--ray {address}: not an address; give HOST:PORT, ray://HOST:PORT or auto, or --ray as the last option "
            "for a cluster of this machine"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except OSError as error:
        raise FreeUValueError(f"--ray {address}: no cluster answers there ({error.strerror or error})") from None

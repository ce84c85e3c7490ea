"""A search by Optuna: multivariate TPE, and paired racing over common prompts and seeds."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import random
import statistics
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.evaluate.experiment.arms import Arm
from freeu.evaluate.experiment.measuring import Measurer, Pair
from freeu.pipelines.runs.executors import LostWorkersError
from freeu.tuning.settings import TuneSettings, Values, check_guards
from freeu.tuning.space import Space

if TYPE_CHECKING:
    import optuna

P_WORSE = 0.1
"""A trial ends early once it is worse than the best one with this p-value (Wilcoxon's signed-rank test)."""
WHOLE = "whole"
"""The attribute of a trial that was measured on every prompt."""

FAILED = "failed"
"""The attribute of a trial whose settings broke the model: why."""

Report = Callable[[int, int], None]
"""Told how many trials are done, and of how many."""


@dataclass(frozen=True)
class Finalist:
    """Settings that a search found.

    Args:
        arm: the settings.
        parameters: the same as the search wrote them.
        gain: mean gain on the prompts of the search; flattered, since it was chosen for it.
        trial: its number.
        confirmed: mean gain on other prompts; None before it was measured there.
    """

    arm: Arm
    parameters: Mapping[str, Any]
    gain: float
    trial: int
    confirmed: float | None = None


@dataclass
class Search:
    """One search.

    Args:
        measurer: generates and scores.
        space: what is varied.
        settings: the objective, and how long.
        pairs: prompts and seeds of every trial.
        plain: values of plain sampling on them.
        storage: of Optuna.
        identity: whatever decides what trials measure; another one is another search in the same storage.
        shared: whether other workers may search at the same time, which must not draw the same numbers.
    """

    measurer: Measurer
    space: Space
    settings: TuneSettings
    pairs: Sequence[Pair]
    plain: Mapping[Pair, Values]
    storage: optuna.storages.BaseStorage
    identity: str
    shared: bool = False

    def run(self, report: Report = lambda done, total: None) -> list[Finalist]:
        """Try settings until there are enough trials or the time is over; trials of an earlier run count.

        Returns:
            the best settings that were measured on every prompt and keep the guards, best first.
        """
        import optuna

        settings, study = self.settings, self.study
        first = self.space.first()
        if not study.trials:
            for parameters in first[: settings.trials]:
                study.enqueue_trial(parameters, skip_if_exists=True)
        spreads = settings.objective.spreads([*self.plain.values()])
        check_guards(settings.guards, [*self.plain.values()])
        done = self._done(study)
        # A search that goes on draws other numbers than at its beginning, or it would repeat itself.
        seed = None if self.shared else settings.seed + done
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=len(first), multivariate=True, constant_liar=True, seed=seed
        )
        report(done, settings.trials)
        ends = time.monotonic() + 60.0 * settings.minutes
        with self.measurer.computing(), _calm():
            while done < settings.trials and time.monotonic() < ends:
                study.optimize(lambda trial: self._trial(trial, spreads), n_trials=1)
                done = self._done(study)
                report(min(done, settings.trials), settings.trials)
        return self.finalists(study)

    @functools.cached_property
    def study(self) -> optuna.Study:
        """The trials so far, also those of other workers."""
        import optuna

        with _calm():
            return optuna.create_study(
                storage=self.storage,
                study_name=f"{self.space.name}-{self.identity}",
                direction="maximize",
                pruner=optuna.pruners.WilcoxonPruner(p_threshold=P_WORSE, n_startup_steps=8),
                load_if_exists=True,
            )

    def _done(self, study: optuna.Study) -> int:
        """Trials that ended, by whatever worker."""
        import optuna

        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        return len(study.get_trials(deepcopy=False, states=states))

    def _trial(self, trial: optuna.Trial, spreads: Mapping[str, float]) -> float:
        """The mean gain of a trial's settings, on all prompts or on those before it was given up."""
        arm = self.space.suggest(trial)
        # In another order each time, so that trials that end early do not all know the same prompts.
        order = random.Random(f"{self.settings.seed}/{trial.number}").sample(range(len(self.pairs)), len(self.pairs))
        places = {self.pairs[index]: index for index in order}
        gains: list[float] = []
        changes: dict[str, list[float]] = {guard.measure: [] for guard in self.settings.guards}
        seen = 0
        # Closed at once where a trial is given up: what others generate ahead for it is left then.
        with contextlib.closing(self._blocks(trial, arm, [self.pairs[index] for index in order])) as blocks:
            for block in blocks:
                for pair, values in block:
                    seen += 1
                    for name, found in changes.items():
                        mine, theirs = values.get(name), self.plain[pair].get(name)
                        if mine is not None and theirs is not None:
                            found.append(mine - theirs)
                    gain = self.settings.objective.gain(values, self.plain[pair], spreads)
                    if math.isfinite(gain):
                        gains.append(gain)
                        trial.report(gain, places[pair])
                if seen < len(self.pairs) and trial.should_prune():
                    break
        for guard in self.settings.guards:
            if changes[guard.measure]:
                trial.set_constraint(guard.measure, abs(statistics.fmean(changes[guard.measure])) - guard.most)
        trial.set_user_attr(WHOLE, seen == len(self.pairs))
        if not gains:
            raise FreeURuntimeError("no image of a trial has a value of the objective's measures")
        # Its mean so far tells the sampler more than that it was given up (Optuna's advice for this pruner).
        return statistics.fmean(gains)

    def _blocks(
        self, trial: optuna.Trial, arm: Arm, pairs: Sequence[Pair]
    ) -> Generator[list[tuple[Pair, dict[str, float | None]]], None, None]:
        """What ``Measurer.blocks`` gives; settings that break the model end their trial and not the search.

        Plain sampling was generated before with as many images at a time, so what fails here fails by the settings:
        numbers that are not finite in half precision.
        """
        import optuna

        try:
            yield from self.measurer.blocks(arm, pairs)
        except LostWorkersError:
            raise
        except FreeURuntimeError as error:
            trial.set_user_attr(FAILED, str(error))
            raise optuna.TrialPruned from None

    def finalists(self, study: optuna.Study) -> list[Finalist]:
        """The best different settings that were measured on every prompt and keep the guards."""
        import optuna

        found: list[Finalist] = []
        trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        for trial in sorted(trials, key=lambda one: -(one.value or 0.0)):
            fine = all(value <= 0.0 for value in (trial.constraints or {}).values())
            arm = self.space.arm(trial.params)
            if fine and trial.user_attrs.get(WHOLE) and all(arm != other.arm for other in found):
                found.append(Finalist(arm, trial.params, float(trial.value or 0.0), trial.number))
            if len(found) == self.settings.finalists:
                break
        return found


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Without Optuna's warnings about what it calls experimental, such as its Wilcoxon pruner, for years now."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def identity_of(record: Mapping[str, Any]) -> str:
    """A short name that equal records share."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sqlite_url(path: Path) -> str:
    """The URL of a storage in a file, whatever letters its path has."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


@contextlib.contextmanager
def open_storage(url: str) -> Iterator[optuna.storages.BaseStorage]:
    """Optuna's storage by its URL, such as ``sqlite:///trials.db``.

    Raises:
        FreeUValueError: no such kind of storage, or its driver is not installed.
        FreeURuntimeError: it does not answer, or cannot be written.
    """
    import optuna
    import sqlalchemy

    # A warning of Optuna shows the traceback of whatever ends a trial, Ctrl-C too, which is told in one line elsewhere.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    hidden = url.partition("://")[0] + "://..."  # a URL may hold a password
    try:
        backend = sqlalchemy.make_url(url).get_backend_name()
        # A trial of a worker that died stays unfinished for good: it does not count, and costs nothing.
        storage = optuna.storages.RDBStorage(url, engine_kwargs=_connection(backend))
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError, ImportError) as error:
        raise FreeUValueError(
            f"--storage {hidden}: not a storage that is known here ({_first_line(error)}): use sqlite:///FILE, or "
            "postgresql+psycopg://... with freeu[postgres]"
        ) from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise FreeURuntimeError(f"--storage {hidden} does not answer: {_first_line(error)}") from None
    try:
        yield storage
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise FreeURuntimeError(
            f"--storage {hidden} stopped answering: {_first_line(error)}; the same command goes on from its trials"
        ) from None
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _connection(backend: str) -> dict[str, Any]:
    """How long is waited for a storage that does not answer, or that another worker is writing."""
    if backend == "sqlite":
        return {"connect_args": {"timeout": 60}}
    return {"connect_args": {"connect_timeout": 20}, "pool_pre_ping": True} if backend == "postgresql" else {}


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]

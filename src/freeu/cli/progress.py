"""Progress bars: pictures done, and the time that is left."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from freeu.pipelines.runs.plan import ARMS, Picture, Plan
from freeu.wording import counted


class Counter:
    """A bar on standard error that counts pictures.

    Args:
        what: is being done.
        total: how many there will be.
    """

    def __init__(self, what: str, total: int) -> None:
        console = Console(stderr=True)
        self._progress = _progress(console, MofNCompleteColumn())
        self._task = self._progress.add_task(what, total=total)

    def __enter__(self) -> Counter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Show what is being done."""
        self._progress.update(self._task, description=text)

    def one(self) -> None:
        """One more is done."""
        self._progress.advance(self._task)


def _progress(console: Console, count: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        count,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


class FilmBar:
    """A bar on standard error that counts the frames of a film, and says which key frame is being drawn.

    Args:
        total: frames of all films.

    Attributes:
        keys: key frames that are written, those of an earlier run included.
    """

    def __init__(self, total: int) -> None:
        self.keys = 0
        self._console = Console(stderr=True)
        self._progress = _progress(self._console, MofNCompleteColumn())
        self._task = self._progress.add_task("drawing", total=total)

    def __enter__(self) -> FilmBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Show what is being done."""
        self._progress.update(self._task, description=text)

    def kept(self, count: int) -> None:
        self.keys += count
        self._console.print(f"kept {counted(count, 'key frame')} of the earlier run", highlight=False)

    def key(self, arm: str, frame: int, fraction: float) -> None:
        if fraction >= 1.0:
            self.keys += 1
        self.say(f"{ARMS[arm]}, key frame {frame + 1}, {fraction:.0%}")

    def frame(self, arm: str, frame: int) -> None:
        self._progress.advance(self._task)


class LearningBar:
    """A bar on standard error that counts the steps of a training and shows their losses, smoothed.

    Args:
        total: steps of the whole training.
    """

    def __init__(self, total: int) -> None:
        self._progress = _progress(Console(stderr=True), MofNCompleteColumn())
        self._task = self._progress.add_task("learning", total=total)
        self._shown: dict[str, float] = {}
        self._begun = False

    def __enter__(self) -> LearningBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        """So many steps are made, the last with these losses."""
        if not self._begun:  # steps of an earlier sitting say nothing about the time that is left
            self._progress.reset(self._task, completed=step)
            self._begun = True
        for name, value in losses.items():
            self._shown[name] = 0.95 * self._shown.get(name, value) + 0.05 * value
        text = ", ".join(f"{name} loss {value:.3f}" for name, value in self._shown.items())
        self._progress.update(self._task, completed=step, description=f"learning ({text})" if text else "learning")


class Bar:
    """A bar on standard error that counts denoising steps as parts of a picture, and then pictures that are scored.

    Args:
        plan: what is being made; None if nothing is drawn.
        times: how often the whole plan is made, as under the arms of an experiment.

    Attributes:
        done: pictures that are written, those of an earlier run included.
    """

    def __init__(self, plan: Plan | None, times: int = 1) -> None:
        self.done = 0
        self._console = Console(stderr=True)
        self._progress = _progress(self._console, TextColumn("{task.fields[pictures]}"))
        self._count_of_all = 0 if plan is None else plan.count * times
        self._noun = "picture" if plan is None else plan.noun
        self._task = self._progress.add_task(
            "drawing", total=self._count_of_all, pictures=self._count(), visible=plan is not None
        )
        self._scoring: TaskID | None = None

    def _count(self) -> str:
        return f"{self.done}/{self._count_of_all}"

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def kept(self, count: int) -> None:
        self.done += count
        self._console.print(f"kept {counted(count, self._noun)} of the earlier run", highlight=False)
        self._progress.update(self._task, completed=self.done, pictures=self._count())

    def say(self, text: str) -> None:
        """Show what is being done."""
        self._progress.update(self._task if self._scoring is None else self._scoring, description=text)

    def scored(self, done: int, total: int) -> None:
        """Show how many pictures are scored."""
        if self._scoring is None:
            self._progress.update(self._task, visible=False)
            self._scoring = self._progress.add_task("scoring", total=total, pictures="")
        self._progress.update(self._scoring, completed=done, pictures=f"{done}/{total}")

    def step(self, picture: Picture, fraction: float) -> None:
        if fraction >= 1.0:
            self.done += 1
            self._progress.update(self._task, completed=self.done, pictures=self._count())
        else:
            self._progress.update(self._task, completed=self.done + fraction)

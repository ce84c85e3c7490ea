"""The progress bar of every long job."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from freeu.cli.shell import quiet
from freeu.wording import counted

KEY_FRAME = "key frame"
"""The noun of jobs whose bar counts something else, frames."""


class Bar:
    """A bar on standard error with what is being done, how much of it is done, and the time that is left.

    It is what every part of freeu reports to, each by the methods it knows: items and their denoising steps
    (``runs.run.Progress``), frames and key frames (``rerender``), steps and losses of a training, or plain counts.

    Args:
        what: is being done.
        total: how many there will be; None shows no bar before ``report`` says.
        noun: what is counted.

    Attributes:
        done: of ``noun``, those of an earlier run included.
    """

    def __init__(self, what: str, total: int | None, noun: str = "image") -> None:
        self.done = 0
        self._noun = noun
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet() or not self._console.is_terminal,
        )
        self._losses: dict[str, float] = {}
        self._begun = False
        self._total = total or 0
        self._task = self._progress.add_task(
            what, total=self._total, count=f"0/{self._total}", visible=total is not None
        )

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    # -- counts ---------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Show what is being done."""
        self._progress.update(self._task, description=text)

    def to(self, done: float) -> None:
        """So much is done; a fraction counts for the bar and not for the number beside it."""
        self._progress.update(self._task, completed=done, count=f"{int(done)}/{self._total}")

    def one(self) -> None:
        """One more is done."""
        self.done += 1
        self.to(self.done)

    def report(self, done: int, total: int) -> None:
        """So many of so many are done."""
        self._total = total
        self._progress.update(self._task, total=total, visible=True)
        self.done = done
        self.to(done)

    def scored(self, done: int, total: int) -> None:
        """So many outputs of so many are scored."""
        self.report(done, total)

    @property
    def shown(self) -> tuple[str, float, float | None]:
        """What is being done, how much of it is done, and how much there is."""
        task = self._progress.tasks[0]
        return task.description, task.completed, task.total

    # -- runs -----------------------------------------------------------------------------------------------------

    def kept(self, count: int) -> None:
        """An earlier run left so many."""
        self.done += count
        if not quiet():
            self._console.print(f"kept {counted(count, self._noun)} of the earlier run", highlight=False)
        if self._noun != KEY_FRAME:
            self.to(self.done)

    def step(self, file: str, fraction: float, images: int = 1) -> None:
        """So much (0..1) of one output, or of several that are generated together, is done; 1 once it was written."""
        if fraction >= 1.0:
            self.one()
        else:
            self.to(self.done + fraction * images)

    # -- rerender: the bar counts frames, ``done`` key frames -----------------------------------------------------

    def key(self, arm: str, frame: int, fraction: float) -> None:
        """So much of a key frame is generated."""
        if fraction >= 1.0:
            self.done += 1
        self.say(f"{arm}, key frame {frame + 1}, {fraction:.0%}")

    def frame(self, arm: str, frame: int) -> None:
        """A frame of the output was written."""
        self._progress.advance(self._task)
        done = self._progress.tasks[0].completed
        self._progress.update(self._task, count=f"{int(done)}/{self._total}")

    # -- trainings ------------------------------------------------------------------------------------------------

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        """So many training steps are made, the last with these losses, which are shown smoothed."""
        if not self._begun:  # steps of an earlier run say nothing about the time that is left
            self._progress.reset(self._task, completed=step, total=self._total)
            self._begun = True
        for name, value in losses.items():
            self._losses[name] = 0.95 * self._losses.get(name, value) + 0.05 * value
        text = ", ".join(f"{name} loss {value:.3f}" for name, value in self._losses.items())
        self.say(f"training ({text})" if text else "training")
        self.to(step)

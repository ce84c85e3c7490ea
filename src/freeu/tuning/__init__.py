"""Find the factors of FreeU that suit a model, or find that none do: ``freeu tune`` and ``freeu.tune``.

settings    what is wanted: the objective, its guards, and how long to look for it
space       what is varied: FreeU's settings, and guidance as its rival
search      Optuna over common prompts and seeds
verdict     the best settings against none, on prompts that the search never saw
tuning      all of it, in order
report      a page of it
votes       the search by a person's votes between two images; ``web`` is its page
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freeu.lazy import load_name

if TYPE_CHECKING:
    from freeu.tuning.interactive import Tuned, tune
    from freeu.tuning.settings import Objective, TuneSettings
    from freeu.tuning.tuning import Outcome
    from freeu.tuning.verdict import Verdict

_HOMES = {
    "freeu.tuning.interactive": ("Tuned", "tune"),
    "freeu.tuning.settings": ("Objective", "TuneSettings"),
    "freeu.tuning.tuning": ("Outcome",),
    "freeu.tuning.verdict": ("Verdict",),
}

__all__ = ["Objective", "Outcome", "TuneSettings", "Tuned", "Verdict", "tune"]


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

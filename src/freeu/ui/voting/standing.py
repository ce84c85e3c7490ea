"""What a visitor's votes say."""

from __future__ import annotations

from dataclasses import dataclass

from freeu.pipelines.runs.manifest import as_json
from freeu.presets.files import PresetFile
from freeu.tuning.votes.space import Settings


@dataclass(frozen=True)
class Standing:
    """What a visitor's votes on a model say so far.

    Args:
        votes: how many there are.
        settings: those other than plain sampling that he likes best by them; None before the first vote.
        chance: that he chooses them over plain sampling, with the ends of its 95 % interval.
        preset: for ``--preset``; None where plain sampling is best.
    """

    votes: int = 0
    settings: Settings | None = None
    chance: tuple[float, float, float] = (0.5, 0.0, 1.0)
    preset: PresetFile | None = None


def preset_file(standing: Standing | None) -> tuple[bytes, str] | None:
    """The preset that votes say, and what a download of it is called; None where there is none."""
    if standing is None or standing.preset is None:
        return None
    return as_json(standing.preset.to_dict()).encode(), f"{standing.preset.name}.json"

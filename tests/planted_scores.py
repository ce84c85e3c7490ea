"""A measurer whose scores follow from the settings alone, for tests of the search and of its verdict.

Every image has a score of its own and noise that belongs to its prompt, seed and settings; nothing is generated.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence

from freeu.config import FreeUConfig
from freeu.evaluate.experiment.arms import Arm
from freeu.evaluate.experiment.measuring import Pair

Gain = Callable[[Arm], float]


class PlantedMeasurer:
    """Scores with a known dependence on the settings.

    Args:
        gain: mean change of "score" against plain sampling; 0 for plain sampling.
        noise: standard deviation of an image's own change.
        drift: change of "saturation" by the settings.
        batch: images of a block.
    """

    def __init__(self, gain: Gain, noise: float = 0.3, drift: Gain = lambda arm: 0.0, batch: int = 8) -> None:
        self.gain, self.noise, self.drift, self.batch = gain, noise, drift, batch
        self.images = 0

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        yield

    def blocks(self, arm: Arm, pairs: Sequence[Pair]) -> Iterator[list[tuple[Pair, dict[str, float | None]]]]:
        for start in range(0, len(pairs), self.batch):
            part = pairs[start : start + self.batch]
            self.images += len(part)
            yield [(pair, self._values(arm, pair)) for pair in part]

    def values(self, arm: Arm, pairs: Sequence[Pair]) -> dict[Pair, dict[str, float | None]]:
        return dict(one for block in self.blocks(arm, pairs) for one in block)

    def _values(self, arm: Arm, pair: Pair) -> dict[str, float | None]:
        plain = random.Random(f"{pair}").gauss(0.0, 1.0)
        key = hashlib.sha256(f"{arm.config}/{arm.guidance}/{arm.guiding}".encode()).hexdigest()
        changed = arm.config is not None or arm.guidance is not None or arm.guiding is not None
        own = random.Random(f"{pair}/{key}").gauss(0.0, self.noise) if changed else 0.0
        return {"score": plain + self.gain(arm) + own, "saturation": 0.5 + self.drift(arm)}


def settings_of(arm: Arm) -> FreeUConfig:
    """FreeU's settings of an arm, those of nothing for plain sampling."""
    return arm.config if arm.config is not None else FreeUConfig()

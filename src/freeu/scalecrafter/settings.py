"""What ScaleCrafter changes, how far and when, as one frozen value. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from freeu.errors import FreeUValueError, shown
from freeu.schedule import checked_choice, checked_number

CLASS = "UNet2DConditionModel"
MAX_FACTOR = 4.0
"""Sides up to four times the model's own (16 times the area) are the largest that were published."""
ULTRA = 3.25
"""Beyond this factor dilations follow what was published for 4, up to it what was published for 2 and 2.5."""
GUIDANCE = ("plain", "damped")
MAX_LEVELS = 8


@dataclass(frozen=True)
class ScaleCrafter:
    """Settings of ScaleCrafter (He et al. 2023, arXiv:2310.07702) for one size.

    Args:
        factor: side of the image over the side that the model was trained on, the larger one of width and height;
            more than 1, at most 4. The dilation of the convolutions; a fraction is legal.
        levels: how many resolutions are dilated, counted from the lowest: of the encoder and of the decoder. The
            middle block belongs to the lowest level of the decoder.
        end: fraction of the denoising steps after which the convolutions are as they were, more than 0, at most 1.
        guidance: "plain", or "damped": noise-damped classifier-free guidance, which calls the U-Net twice a step.

    Raises:
        FreeUValueError: a field that is of the wrong type or outside its range, by name.

    >>> ScaleCrafter(2.0).dilation(0, 0.0), ScaleCrafter(2.0).dilation(0, 0.6)
    (2.0, 1.0)
    """

    factor: float
    levels: tuple[int, int] = (3, 3)
    end: float = 0.6
    guidance: str = "plain"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", checked_number("factor", self.factor, 1.0, MAX_FACTOR))
        object.__setattr__(self, "end", checked_number("end", self.end, 0.0, 1.0))
        object.__setattr__(self, "levels", checked_levels("levels", self.levels))
        checked_choice("guidance", self.guidance, GUIDANCE)
        if self.factor == 1.0:
            raise FreeUValueError("factor must be more than 1: at the model's own size there is nothing to dilate")
        if self.end == 0.0:
            raise FreeUValueError("end must be more than 0: at 0 no step is left to dilate")

    def dilation(self, level: int, done: float) -> float:
        """The dilation of a level at a step; 1 leaves the convolution as it is.

        As in the configurations that were published with the paper: up to 2.5 times the size all levels have the same
        dilation. For 4 times it falls by one from level to level outwards, and with the steps, to 2.

        Args:
            level: 0 is the lowest resolution.
            done: fraction of the denoising steps that are done, 0..1.
        """
        if done >= self.end and self.end < 1.0:
            return 1.0
        if self.factor <= ULTRA:
            return self.factor
        graded = max(2.0, self.factor - level)
        return min(graded, max(2.0, float(math.ceil(graded * (1.0 - done / self.end)))))

    @property
    def denoising_levels(self) -> tuple[int, int]:
        """Levels that are dilated in the U-Net that removes the noise, with damped guidance: one fewer."""
        encoder, decoder = self.levels
        return max(encoder - 1, 0), max(decoder - 1, 0)

    @property
    def text(self) -> str:
        """What to tell people of it, in one line."""
        steps = "all steps" if self.end == 1.0 else f"the first {self.end:.0%} of the steps"
        damped = ", noise-damped guidance" if self.guidance == "damped" else ""
        return f"ScaleCrafter {self.factor:g}x, levels {self.levels[0]},{self.levels[1]}, {steps}{damped}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` gives back an equal value."""
        return asdict(self) | {"levels": list(self.levels)}

    @classmethod
    def from_dict(cls, data: Any) -> ScaleCrafter:
        """Read what ``to_dict`` gave. Errors name the field."""
        known = [item.name for item in fields(cls)]
        if not isinstance(data, Mapping) or data.keys() != set(known):
            raise FreeUValueError(f"scalecrafter must have the fields {', '.join(known)}")
        return cls(**data)


def check_class(names: Iterable[str]) -> None:
    """Refuse a U-Net whose convolutions ScaleCrafter does not know.

    Args:
        names: of its class and of the classes that this one is derived from.

    Raises:
        FreeUValueError: none of them is the class that ScaleCrafter knows.
    """
    known = tuple(names)
    if CLASS not in known:
        raise FreeUValueError(
            f"ScaleCrafter knows the convolutions of {CLASS} (Stable Diffusion 1.x, 2.x and XL), not those of "
            f"{known[0]}"
        )


def checked_levels(name: str, value: object) -> tuple[int, int]:
    """Levels of the encoder and of the decoder; at least one of the two must be more than 0."""
    pair = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else ()
    fine = len(pair) == 2 and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in pair)
    if not fine or not any(pair) or max(pair) > MAX_LEVELS:
        raise FreeUValueError(
            f"{name} must be two whole numbers of 0 to {MAX_LEVELS}, of encoder and decoder, not both 0, "
            f"got {shown(value)}"
        )
    return pair[0], pair[1]


def factor_of(width: int, height: int, native: int, label: str = "the model") -> float:
    """How many times larger an image is than those of a model, by its longer side.

    Args:
        width, height: of the image, in pixels.
        native: side of the square images that the model was trained on.
        label: the model's name, for messages.

    Raises:
        FreeUValueError: a size that is not above the model's own, or more than four times that.
    """
    factor = max(width, height) / native
    if factor <= 1.0:
        raise FreeUValueError(
            f"ScaleCrafter is for sizes above the model's own, and {label} was made for {native}x{native}: got "
            f"{width}x{height}; use a larger width or height, or do without ScaleCrafter"
        )
    if factor > MAX_FACTOR:
        raise FreeUValueError(
            f"ScaleCrafter goes up to {MAX_FACTOR:g} times the model's own {native}x{native}: got {width}x{height}; "
            f"use sides of at most {int(MAX_FACTOR * native)}"
        )
    return factor

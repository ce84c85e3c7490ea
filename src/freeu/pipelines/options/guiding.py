"""What others do to classifier-free guidance: a guidance interval, guidance rescale, FreSca."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from freeu.errors import FreeUValueError
from freeu.guiding.settings import FreSca, Guiding, interval_text, parse_interval
from freeu.pipelines.options.option import Option, check_bounds, given_flags


@dataclass(frozen=True)
class GuidingOptions:
    """How guidance is applied; None leaves it to the pipeline."""

    PANEL: ClassVar[str] = "Guidance"

    guidance_interval: Annotated[
        str | None,
        Option(
            "Guide only from START to END of the steps, such as 0.2-0.8; also timestep:800-200, sigma:5-0.3.",
            "START-END",
        ),
    ] = None
    guidance_rescale: Annotated[
        float | None,
        Option("Guidance rescale: 0.7 takes most of the contrast back that guidance adds.", "0..1", bounds=(0.0, 1.0)),
    ] = None
    fresca: Annotated[
        str | None,
        Option(
            "FreSca: gains of the guidance's low and high frequencies, such as 1:1.25; the border in bins may follow.",
            "LOW:HIGH[:BINS]",
        ),
    ] = None

    def check(self, guidance: float | None) -> None:
        """Raise ``FreeUValueError`` for a bad value, or for any at a CFG scale without guidance; None is not known."""
        check_bounds(self)
        self.settings()
        if guidance is not None and not guidance > 1.0 and given_flags(self):
            raise FreeUValueError(
                f"{given_flags(self)[0]} changes guidance, and there is none at CFG scale {guidance:g}: use one above "
                "1, or leave it out"
            )

    def settings(self) -> Guiding | None:
        """Interval and FreSca; None where neither was asked for."""
        if self.guidance_interval is None and self.fresca is None:
            return None
        return Guiding(
            parse_interval(self.guidance_interval) if self.guidance_interval is not None else None,
            FreSca.parse(self.fresca) if self.fresca is not None else None,
        )

    def resolve(self, pipe: Any, guidance: float, size: tuple[int, int]) -> dict[str, Any]:
        """The fields of a plan; refused where the pipeline cannot do it at this CFG scale and size in pixels."""
        from freeu.guiding.hook import check_guiding, check_rescale

        settings = self.settings()
        if settings is not None:
            check_guiding(pipe, settings, guidance, size)
        if self.guidance_rescale is not None:
            check_rescale(pipe, guidance)
        return {"guiding": settings, "guidance_rescale": self.guidance_rescale}


def options_of(settings: Guiding | None, rescale: float | None) -> GuidingOptions:
    """The options that give these settings again."""
    interval = settings.interval if settings is not None else None
    fresca = settings.fresca if settings is not None else None
    return GuidingOptions(
        interval_text(interval) if interval is not None else None,
        rescale,
        str(fresca) if fresca is not None else None,
    )

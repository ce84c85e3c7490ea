"""``freeu analyze``: generate, measure, and write figures and report; it resumes where it was stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from freeu.adapters import adapter_for
from freeu.analysis.figures.figures import ENTRIES, needed
from freeu.analysis.measurement.content import Figure, Verdict, against, estimate_dict
from freeu.analysis.measurement.runs import Runs
from freeu.analysis.measurement.variants import Extent, Variants
from freeu.analysis.plots import figure_files
from freeu.analysis.report import make_report
from freeu.analysis.table import TABLE, as_markdown
from freeu.api import unet_of
from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import Loaded
from freeu.pipelines.runs.manifest import as_json, claim, environment
from freeu.pipelines.runs.plan import Plan

KIND, SCHEMA = "freeu-analysis", 1
RESULTS, REPORT = "results.json", "report.html"
CONTROL_SEED = 0


@dataclass(frozen=True)
class Analysis:
    """What is examined.

    Args:
        plan: prompts, seeds, model and settings, generated without FreeU.
        config: FreeU as it is examined.
        figures: numbers of the paper's figures.
        extent: how much is generated.
        form: of the spectra, "radial" or "diagonal".
        control: whether the same is done with a U-Net of random weights.
    """

    plan: Plan
    config: FreeUConfig
    figures: tuple[int, ...]
    extent: Extent
    form: str = "radial"
    control: bool = False

    @property
    def variants(self) -> Variants:
        return Variants(self.config, self.extent)

    @property
    def pictures(self) -> int:
        """How many images are generated in all."""
        plain, traced = needed(self.figures, self.variants)
        return (len(plain) + len(traced)) * self.plan.count * (2 if self.control else 1)


def check_analysis(loaded: Loaded, analysis: Analysis) -> None:
    """What can be wrong once the model is loaded and before anything is generated.

    Raises:
        NoSitesError: the model has no skip concatenation that is known.
        FreeUValueError: too few steps for figures of the denoising; settings that touch nothing.
    """
    unet = unet_of(loaded.pipe)
    sites = adapter_for(unet).find_sites(unet)
    _, traced = needed(analysis.figures, analysis.variants)
    if traced and analysis.plan.steps < 2:
        raise FreeUValueError(
            f"figures of the denoising compare steps: --steps must be at least 2, got {analysis.plan.steps}"
        )
    factors = [analysis.config.factors(site.stage_in(analysis.config.profile), site.path) for site in sites]
    if all(stage.b == 1.0 for stage in factors):
        raise FreeUValueError(
            f"{analysis.config} leaves every backbone of this model alone: there would be nothing to compare"
        )


def run_analysis(
    loaded: Loaded,
    analysis: Analysis,
    folder: Path,
    note: str = "",
    say: Callable[[str], None] = lambda text: None,
    report: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Generate what is missing, make the figures, and write them, ``results.json``, ``table.md`` and ``report.html``.

    Args:
        loaded: the pipeline of the plan; its U-Net is exchanged for a random one for the control, and put back.
        folder: new, or that of the same analysis.
        note: a line on the model for the report.
        say: told what is being done.
        report: told of each image that is ready.

    Returns:
        what ``results.json`` holds.

    Raises:
        FreeUValueError: as ``check_analysis``; or the folder belongs to something else.
    """
    check_analysis(loaded, analysis)
    output = OutputFolder(folder)
    made_with = environment(analysis.plan.device)
    record = claim(
        output,
        {
            "kind": KIND,
            "schema": SCHEMA,
            "plan": analysis.plan.to_dict(),
            "config": analysis.config.to_dict(),
            "figures": list(analysis.figures),
            "form": analysis.form,
            "control": analysis.control,
            "extent": {name: list(values) for name, values in vars(analysis.extent).items()},
            "environment": made_with,
        },
        "analysis",
    )
    figures = figures_of(loaded, analysis, folder / "pictures", made_with, say, report)
    control: tuple[Figure, ...] = ()
    if analysis.control:
        with random_unet(loaded.pipe):
            control = figures_of(
                loaded,
                analysis,
                folder / "control" / "pictures",
                made_with,
                lambda text: say(f"control: {text}"),
                report,
            )
    say("writing")
    for place, some in ((folder / "figures", figures), (folder / "control" / "figures", control)):
        for figure in some:
            for name, data in figure_files(figure).items():
                OutputFolder(place).write(name, data)
    results = {**record, "verdicts": _verdicts(figures, control), "control_verdicts": _verdicts(control)}
    output.write(RESULTS, as_json(results))
    output.write(TABLE, as_markdown(results))
    output.write(REPORT, make_report(figures, control, analysis.plan, analysis.config, made_with, note))
    return results


def figures_of(
    loaded: Loaded,
    analysis: Analysis,
    folder: Path,
    made_with: Mapping[str, str],
    say: Callable[[str], None],
    report: Callable[[], None],
) -> tuple[Figure, ...]:
    """Generate what is not in ``folder`` yet, measure it, and make the figures of an analysis; see ``run_analysis``."""
    variants = analysis.variants
    plain, traced = needed(analysis.figures, variants)
    runs = Runs(
        loaded,
        analysis.plan,
        folder,
        analysis.form,
        made_with=dict(made_with),
        report=report,
    )
    for variant in traced:
        say(f"watching {variant.label}")
        runs.draw((), (variant,))
    for variant in plain:
        say(f"generating {variant.label}")
        runs.draw((variant,))
    say("measuring")
    return tuple(ENTRIES[number].make(runs, variants) for number in analysis.figures)


def _verdicts(figures: tuple[Figure, ...], control: tuple[Figure, ...] = ()) -> list[dict[str, Any]]:
    """The verdicts of some figures as plain data, each with how far it goes beyond that of the control."""
    return [
        {"figure": figure.number, **verdict.to_dict(), "control": _beyond(verdict, other)}
        for figure, verdict, other in against(figures, control)
    ]


def _beyond(verdict: Verdict, control: Verdict | None) -> dict[str, Any] | None:
    if control is None:
        return None
    difference, answer = verdict.beyond(control)
    return {
        "answer": control.answer,
        **estimate_dict(control.estimate),
        "difference": estimate_dict(difference),
        "beyond": answer,
    }


@contextlib.contextmanager
def random_unet(pipe: Any, seed: int = CONTROL_SEED) -> Iterator[None]:
    """Exchange a pipeline's U-Net for one of the same configuration with random weights, for a ``with`` block.

    Args:
        pipe: a pipeline with a U-Net of diffusers.
        seed: of the weights; the random state of torch stays as it is.
    """
    trained = pipe.unet
    parameter = next(trained.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(trained).from_config(trained.config)
    # diffusers' own .to() warns about types, as if weights had been trained.
    pipe.unet = torch.nn.Module.to(fresh, parameter.device, parameter.dtype).eval()
    try:
        yield
    finally:
        pipe.unet = trained

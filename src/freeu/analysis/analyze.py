"""``freeu analyze``: generate, measure, and write figures and report; an interrupted analysis resumes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from freeu.adapters import adapter_for
from freeu.adapters.finding import unet_of
from freeu.analysis.figures.figures import ENTRIES, needed
from freeu.analysis.measurement.content import Figure, Verdict, compare_verdicts, estimate_dict
from freeu.analysis.measurement.runs import Runs
from freeu.analysis.measurement.variants import Extent, Variants
from freeu.analysis.plots import figure_files
from freeu.analysis.report import make_report
from freeu.analysis.table import TABLE, as_markdown
from freeu.config import FreeUConfig
from freeu.core.site import factors_at
from freeu.errors import FreeUValueError
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import Loaded
from freeu.pipelines.models.memory import Memory, place
from freeu.pipelines.models.used import used_parts
from freeu.pipelines.runs.manifest import as_json, claim, environment
from freeu.pipelines.runs.plan import Plan

KIND, SCHEMA = "freeu-analysis", 1
RESULTS, REPORT = "results.json", "report.html"
RANDOM_SEED = 0


@dataclass(frozen=True)
class Analysis:
    """What is analyzed.

    Args:
        plan: prompts, seeds, model and settings, without FreeU.
        config: FreeU's settings.
        figures: numbers of the paper's figures.
        extent: the values of the sweeps.
        form: of the spectra, "radial" or "diagonal".
        random_baseline: whether everything is repeated with random weights in the U-Net.
    """

    plan: Plan
    config: FreeUConfig
    figures: tuple[int, ...]
    extent: Extent
    form: str = "radial"
    random_baseline: bool = False

    @property
    def variants(self) -> Variants:
        return Variants(self.config, self.extent)

    @property
    def images(self) -> int:
        """How many images are generated in total."""
        plain, traced = needed(self.figures, self.variants)
        return (len(plain) + len(traced)) * self.plan.count * (2 if self.random_baseline else 1)


def check_analysis(loaded: Loaded, analysis: Analysis) -> None:
    """Check what depends on the loaded model, before anything is generated.

    Raises:
        NoSitesError: the model has no known skip concatenation.
        FreeUValueError: too few steps for figures of the denoising; settings that leave the backbone unchanged.
    """
    unet = unet_of(loaded.pipe)
    sites = adapter_for(unet).find_sites(unet)
    _, traced = needed(analysis.figures, analysis.variants)
    if traced and analysis.plan.steps < 2:
        raise FreeUValueError(
            f"figures of the denoising compare steps: --steps must be at least 2, got {analysis.plan.steps}"
        )
    if all(stage.b == 1.0 for stage, _ in factors_at(sites, analysis.config)):
        raise FreeUValueError(
            f"{analysis.config} changes no backbone features of this model: there would be nothing to compare"
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
        loaded: the pipeline of the plan; for the random baseline its U-Net is replaced, and put back afterwards.
        folder: new, or that of the same analysis.
        note: a line about the model for the report.
        say: called with what is being done.
        report: called after each image.

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
            "control": analysis.random_baseline,
            "extent": {name: list(values) for name, values in vars(analysis.extent).items()},
            "environment": made_with,
        },
        "analysis",
        beside={"used": used_parts(loaded.pipe)},
    )
    figures = figures_of(loaded, analysis, folder / "pictures", made_with, say, report)
    baseline: tuple[Figure, ...] = ()
    if analysis.random_baseline:
        with random_unet(loaded.pipe, put=_putting(loaded, analysis.plan)):
            baseline = figures_of(
                loaded,
                analysis,
                folder / "control" / "pictures",
                made_with,
                lambda text: say(f"random weights: {text}"),
                report,
            )
    say("writing")
    for where, some in ((folder / "figures", figures), (folder / "control" / "figures", baseline)):
        for figure in some:
            for name, data in figure_files(figure).items():
                OutputFolder(where).write(name, data)
    results = {**record, "verdicts": _verdicts(figures, baseline), "control_verdicts": _verdicts(baseline)}
    output.write(RESULTS, as_json(results))
    output.write(TABLE, as_markdown(results))
    output.write(REPORT, make_report(figures, baseline, analysis.plan, analysis.config, made_with, note))
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
        say(f"generating and measuring {variant.label}")
        runs.generate((), (variant,))
    for variant in plain:
        say(f"generating {variant.label}")
        runs.generate((variant,))
    say("measuring")
    return tuple(ENTRIES[number].make(runs, variants) for number in analysis.figures)


def _verdicts(figures: tuple[Figure, ...], baseline: tuple[Figure, ...] = ()) -> list[dict[str, Any]]:
    """The verdicts of figures as plain data, each compared with that of the random baseline."""
    return [
        {"figure": figure.number, **verdict.to_dict(), "control": _beyond(verdict, other)}
        for figure, verdict, other in compare_verdicts(figures, baseline)
    ]


def _beyond(verdict: Verdict, baseline: Verdict | None) -> dict[str, Any] | None:
    if baseline is None:
        return None
    difference, answer = verdict.beyond(baseline)
    return {
        "answer": baseline.answer,
        **estimate_dict(baseline.estimate),
        "difference": estimate_dict(difference),
        "beyond": answer,
    }


@contextlib.contextmanager
def random_unet(pipe: Any, seed: int = RANDOM_SEED, put: Callable[[Any], None] | None = None) -> Iterator[None]:
    """Replace a pipeline's U-Net by one of the same configuration with random weights, for a ``with`` block.

    Args:
        pipe: a diffusers pipeline with a U-Net.
        seed: of the weights; torch's random state does not change.
        put: puts the pipeline where it computes, after each exchange; None puts the new U-Net where the other is.

    >>> import freeu, freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> pipe.set_progress_bar_config(disable=True)
    >>> trained = pipe.unet
    >>> with random_unet(pipe):
    ...     pipe.unet is trained, pipe.unet.config == trained.config
    (False, True)
    >>> pipe.unet is trained
    True
    """
    trained = pipe.unet
    parameter = next(trained.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(trained).from_config(trained.config)
    # diffusers' own .to() warns about dtypes.
    device = parameter.device if put is None else "cpu"  # weights that wait elsewhere have no device
    pipe.unet = torch.nn.Module.to(fresh, device, parameter.dtype).eval()
    try:
        if put is not None:
            put(pipe)
        yield
    finally:
        pipe.unet = trained
        if put is not None:
            put(pipe)


def _putting(loaded: Loaded, plan: Plan) -> Callable[[Any], None] | None:
    """What puts a pipeline on its device the way that saves memory; None where none is saved."""
    if plan.memory == Memory():
        return None
    return functools.partial(place, device=plan.device, memory=plan.memory, label=loaded.source.label)

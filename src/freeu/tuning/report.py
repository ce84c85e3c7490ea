"""The page of a search: the verdict, what was compared, unselected images, and what was tried."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.analysis.plots import OKABE_ITO
from freeu.config import FreeUConfig
from freeu.evaluate.experiment.arms import BASELINE
from freeu.evaluate.experiment.video_files import video_frames
from freeu.intervals import Estimate
from freeu.metadata import FRAME_MS
from freeu.pipelines.io.inputs import open_image
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.pages.rendering import render
from freeu.tuning.search import WHOLE, Search
from freeu.tuning.tuning import HELD_OUT, Outcome, Tuning, searches
from freeu.tuning.verdict import FREEU, GUIDANCE, OVERALL, PUBLISHED, shown
from freeu.wording import counted

if TYPE_CHECKING:
    import optuna

REPORT = "report.html"
SHOWN = 12
"""Held-out prompts whose images are on the page: the first ones."""
LEAST_TRIALS = 12
"""With fewer, importances mean nothing."""
NAMES = {
    BASELINE: "plain sampling",
    FREEU: "tuned FreeU",
    GUIDANCE: "tuned guidance",
    PUBLISHED: "published preset",
    f"effective:{FREEU}": "guidance as strong as the tuned FreeU",
}


def write_report(tuned: Outcome, path: Path | None = None) -> Path:
    """Write the page of a search: one file that opens from disk.

    Args:
        path: of the page; None is ``report.html`` in the folder of the search.

    Raises:
        FreeUValueError: matplotlib is not installed.
        FreeURuntimeError: the storage does not answer, or the disk is full.
    """
    place = tuned.folder / REPORT if path is None else path
    return OutputFolder(place.parent).write(place.name, make_report(tuned))


def make_report(tuned: Outcome) -> str:
    """The page as HTML, with every plot and image in it.

    Raises:
        FreeUValueError: matplotlib is not installed.
        FreeURuntimeError: the storage does not answer.
    """
    from freeu.extras import need

    need("tune", "matplotlib")
    tuning = tuned.tuning
    with searches(tuning, tuned.folder) as found:
        parts = [_search_part(search, search.study) for search in found]
    verdict = tuned.verdict
    measures = list(dict.fromkeys(name for row in verdict.differences.values() for name in row))
    return render(
        "freeu.tuning",
        "tune.html",
        title=f"Search for {tuned.preset.model}",
        verdict=verdict.text,
        best=verdict.best,
        facts=_facts(tuned, tuning),
        found=_found(tuned),
        measures=["objective (in spreads)" if name == OVERALL else name for name in measures],
        rows=[
            (NAMES.get(name, name), [_cell(row.get(measure)) for measure in measures])
            for name, row in verdict.differences.items()
        ],
        rival=[(measure, shown(one)) for measure, one in verdict.rival.items()],
        level=f"{100.0 * verdict.level:.1f}",
        prompts=tuned.results["prompts"],
        noun="Videos" if tuning.prepared.plan.frames is not None else "Images",
        images=_images(tuned),
        searches=parts,
    )


def _cell(one: Estimate | None) -> str:
    return "-" if one is None else shown(one)


def _facts(tuned: Outcome, tuning: Tuning) -> list[str]:
    plan, settings = tuning.prepared.plan, tuning.settings
    frames = f" with {counted(plan.frames, 'frame')}" if plan.frames is not None else ""
    return [
        f"{plan.model_text}, {counted(plan.steps, 'step')}, CFG scale {plan.guidance:g}, "
        f"{plan.width}x{plan.height}{frames}, "
        f"{plan.arithmetic}",
        f"objective: {settings.objective}; guards: "
        + (", ".join(f"{guard.measure} within {guard.most:g}" for guard in settings.guards) or "none"),
        f"{counted(settings.search_prompts, 'prompt')} to search, {settings.confirm_prompts} to look at the best again"
        f", {len(tuned.results['prompts'])} held out; seed {settings.seed}",
    ]


def _found(tuned: Outcome) -> list[tuple[str, str, str, str]]:
    """What each search found: its name, settings, gain on its own prompts, and on others."""
    rows = []
    for name, one in tuned.found.items():
        text = (
            str(FreeUConfig.from_dict(one["config"])) if one["config"] is not None else f"CFG scale {one['guidance']:g}"
        )
        if one["guiding"] is not None:
            interval = one["parameters"]
            text += f", from {interval['start']:g} to {interval['end']:g} of the steps"
        again = "-" if one["confirmed"] is None else f"{one['confirmed']:+.3f}"
        rows.append((name, text, f"{one['gain']:+.3f}", again))
    return rows


def _images(tuned: Outcome) -> list[tuple[str, list[tuple[str, str]]]]:
    """For the first held-out prompts the image or video of each arm, as data URLs."""
    show = video_url if tuned.tuning.prepared.plan.frames is not None else data_url
    files: dict[int, dict[str, str]] = {}
    for row in tuned.results["pictures"]:
        if row["prompt"] < SHOWN:
            files.setdefault(row["prompt"], {}).setdefault(row["arm"], row["file"])
    texts = [prompt["prompt"] for prompt in tuned.results["prompts"]]
    return [
        (
            texts[number],
            [(NAMES.get(arm, arm), show(tuned.folder / HELD_OUT / file)) for arm, file in by_arm.items()],
        )
        for number, by_arm in sorted(files.items())
    ]


def data_url(path: Path) -> str:
    """An image on disk inside a page, at most 256 pixels wide and high."""
    image = open_image(path)
    if max(image.size) > 256:
        image.thumbnail((256, 256))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def video_url(path: Path) -> str:
    """A video on disk inside a page, as an animated WebP of at most 256 pixels in width and height."""
    from PIL import Image

    first, *others = [Image.fromarray(frame) for frame in video_frames(path)]
    for frame in (first, *others):
        frame.thumbnail((256, 256))
    buffer = io.BytesIO()
    first.save(buffer, format="WEBP", save_all=True, append_images=others, duration=FRAME_MS, loop=0, quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _search_part(search: Search, study: optuna.Study) -> dict[str, Any]:
    """What was tried: how the best rose, the gain over every parameter, and how much each matters."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    whole = [trial for trial in trials if trial.user_attrs.get(WHOLE)]
    return {
        "name": search.space.name,
        "count": len(trials),
        "whole": len(whole),
        "kept": sum(_kept(trial) for trial in whole),
        "plot": _svg(trials) if trials else "",
        "importances": _importances(study) if len(whole) >= LEAST_TRIALS else [],
    }


def _kept(trial: Any) -> bool:
    return all(value <= 0.0 for value in (trial.constraints or {}).values())


def _importances(study: optuna.Study) -> list[tuple[str, str]]:
    """How much of what the good trials have in common lies in each parameter (PED-ANOVA, Watanabe et al. 2023)."""
    import optuna

    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found: Mapping[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return [(name, f"{100.0 * share:.0f} %") for name, share in found.items()]


def _svg(trials: Sequence[Any]) -> str:
    """A panel for each parameter, with a point for each trial, and one of the trials in order; as SVG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    panels = ["trial", *names]
    columns = 4
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context({"svg.hashsalt": "freeu", "font.size": 8}):
        canvas = Figure(figsize=(2.6 * columns, 2.1 * rows), layout="constrained")
        FigureCanvasAgg(canvas)
        for axis, name in zip(canvas.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
            for wanted, colour, label in ((True, OKABE_ITO[0], "whole"), (False, "#b0b0b0", "given up")):
                chosen = [trial for trial in trials if bool(trial.user_attrs.get(WHOLE)) == wanted]
                x = [trial.number if name == "trial" else trial.params.get(name) for trial in chosen]
                axis.scatter(
                    [str(v) if isinstance(v, str) else v for v in x],
                    [t.value for t in chosen],
                    s=10,
                    c=colour,
                    label=label,
                )
            axis.axhline(0.0, color="#606060", linewidth=0.8)
            axis.set_title(name)
            axis.grid(alpha=0.3)
        for axis in canvas.axes[len(panels) :]:
            axis.set_axis_off()
        canvas.axes[0].legend(frameon=False, fontsize=7)
        canvas.axes[0].set_ylabel("gain")
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

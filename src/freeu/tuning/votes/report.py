"""The page of a search by votes: the verdict, the final votes with their images, and what was chosen on the way."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from freeu.analysis.plots import OKABE_ITO
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.pages.rendering import render
from freeu.tuning.report import REPORT, SHOWN, data_url
from freeu.tuning.votes.ballots import FINAL, SEARCH, Pair
from freeu.tuning.votes.images import PairImages
from freeu.tuning.votes.outcome import VoteOutcome
from freeu.tuning.votes.space import RANGES
from freeu.wording import counted

TUNED, PLAIN = "tuned FreeU", "plain sampling"


def write_vote_report(outcome: VoteOutcome, images: PairImages) -> Path:
    """Write ``report.html`` in the folder of the search: one file that opens from disk.

    Raises:
        FreeUValueError: matplotlib is not installed.
        FreeURuntimeError: the disk is full.
    """
    return OutputFolder(outcome.folder).write(REPORT, make_vote_report(outcome, images))


def make_vote_report(outcome: VoteOutcome, images: PairImages) -> str:
    """The page as HTML, with every plot and image in it."""
    from freeu.extras import need

    need("tune", "matplotlib")
    result, plan = outcome.result, outcome.tuning.prepared.plan
    share = result.share
    interval = ""
    if share.share is not None and share.clustered is not None:
        low, high = share.clustered
        interval = f"{100 * share.share:.0f} % [{100 * low:.0f} %, {100 * high:.0f} %]"
    mean, deviation = result.expected
    votes = [one for one in outcome.pairs if one.stage == FINAL and one.voted]
    earlier = len(outcome.tuning.earlier)
    return render(
        "freeu.tuning",
        "votes.html",
        title=f"Search by votes for {outcome.preset.model}",
        verdict=result.text,
        facts=[
            f"{plan.model_text}, {counted(plan.steps, 'step')}, CFG scale {plan.guidance:g}, "
            f"{plan.width}x{plan.height}, {plan.arithmetic}",
            f"one person, blind: {counted(result.search_votes, 'vote')} to search, {result.final_votes} to decide; "
            f"seed {outcome.tuning.seed}",
            *([f"the search went on from {counted(earlier, 'vote')} in the studio"] if earlier else []),
        ],
        factors=list(RANGES),
        found=[f"{result.settings[name]:g}" for name in RANGES],
        expected=f"{mean:+.2f} ({deviation:.2f})",
        given=result.final_votes,
        planned=result.planned,
        wins=result.wins,
        losses=result.losses,
        ties=result.ties,
        interval=interval,
        p_exact="-" if share.p_exact is None else f"{share.p_exact:.3g}",
        images=[
            (
                outcome.tuning.texts[one.prompt],
                {1.0: TUNED, 0.0: PLAIN, 0.5: "neither"}[one.outcome],
                [
                    (name, data_url(images.path(one, "left" if one.first_left == first else "right")))
                    for name, first in ((PLAIN, False), (TUNED, True))
                ],
            )
            for one in votes[:SHOWN]
        ],
        search_votes=result.search_votes,
        plot=_svg([one for one in outcome.pairs if one.stage == SEARCH and one.voted]),
    )


def _svg(votes: Sequence[Pair]) -> str:
    """A panel for each factor: its value in what was chosen and what was not, vote by vote; as SVG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not votes:
        return ""
    with matplotlib.rc_context({"svg.hashsalt": "freeu", "font.size": 8}):
        canvas = Figure(figsize=(2.4 * len(RANGES), 2.2), layout="constrained")
        FigureCanvasAgg(canvas)
        for axis, (name, (bounds, _)) in zip(canvas.subplots(1, len(RANGES)), RANGES.items(), strict=True):
            for number, one in enumerate(votes, start=1):
                for settings, chosen in ((one.first, one.outcome == 1.0), (one.second, one.outcome == 0.0)):
                    face = OKABE_ITO[0] if chosen else "none"
                    axis.scatter(number, settings[name], s=10, c=face, edgecolors=OKABE_ITO[0] if chosen else "#909090")
            axis.axhline(1.0, color="#606060", linewidth=0.8)
            axis.set_ylim(*bounds)
            axis.set_title(name)
            axis.set_xlabel("vote")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.grid(alpha=0.3)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

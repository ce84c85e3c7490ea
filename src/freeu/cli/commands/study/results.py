"""``freeu study results`` and ``export``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from freeu.cli.commands.study.options import ResultsOutput, StudyOptions
from freeu.errors import FreeUValueError

RESULTS, REPORT = "results.json", "report.html"

AsJson = Annotated[
    bool, typer.Option("--json", help="Print results.json instead of a table. Files are written only with --output.")
]
Format = Annotated[str, typer.Option("--format", metavar="csv|json|parquet", help="File format.")]


def results(options: StudyOptions, target: ResultsOutput, as_json: AsJson = False) -> None:
    """Evaluate the votes: shares, confidence intervals, tests, agreement. Also works while raters vote.

    Writes results.json (all results as data) and report.html (a self-contained page).
    """
    from freeu.extras import need

    need("study", "sqlalchemy", "scipy", "jinja2", "PIL")
    from freeu.pipelines.runs.manifest import as_json as text_of
    from freeu.study.results.live import LiveResults
    from freeu.study.results.report import make_report, thumbnails

    study, store = _open(options)
    with store:
        found = LiveResults(store).results()
    if as_json:
        print(text_of(found), end="")
    if target.output is not None or not as_json:
        page = make_report(found, thumbnails(study.plan, lambda item: study.media(item.id)))
        written = _write(target.output or options.folder / "results", {RESULTS: text_of(found), REPORT: page})
    if not as_json:
        _print(found)
        print(f"wrote {written / REPORT} and {RESULTS}")


def export(options: StudyOptions, target: ResultsOutput, form: Format = "csv") -> None:
    """Export the counted votes and the results as tables, without nicknames and personal links.

    results.json contains all results; results.csv and results.parquet contain the table of shares.
    """
    from freeu.errors import unknown_name
    from freeu.extras import need

    need("study", "sqlalchemy", "scipy")
    from freeu.study.results.exporting import FORMATS
    from freeu.study.results.live import LiveResults

    if form not in FORMATS:
        raise unknown_name("--format", form, FORMATS)
    _, store = _open(options)
    with store:
        files = LiveResults(store).exports(f"votes.{form}", f"results.{form}")
    written = _write(target.output or options.folder / "results", files)
    print(f"wrote {' and '.join(str(written / name) for name in files)}")


def _open(options: StudyOptions) -> Any:
    """The study and its store, for reading only."""
    from freeu.study.plan.folder import StudyFolder
    from freeu.study.store.database import database_url
    from freeu.study.store.store import Store

    study = StudyFolder.open(options.folder)
    return study, Store(database_url(options.folder, options.database), study.plan, access="read")


def _write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    from freeu.pipelines.io.output import OutputFolder

    if folder.exists() and not folder.is_dir():
        raise FreeUValueError(f"--output {folder} is a file: name a folder")
    output = OutputFolder(folder)
    for name, data in files.items():
        output.write(name, data)
    return folder


def _print(found: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from freeu.study.results.conclusions import verdict
    from freeu.study.statistics.numbers import interval, p_text, percent
    from freeu.wording import counted

    labels = {arm["name"]: arm["label"] for arm in found["arms"]}
    raters, main = found["raters"], found["main"]
    note = "SIMULATED RATERS, no evidence about people: " if found["demonstration"] else ""
    print(f"{note}{found['title']}")
    print(
        f"{counted(main['votes'], 'vote')} of {counted(raters['counted'], 'rater')}, {raters['excluded']} excluded by "
        f"the rules; {raters['voted']} of {counted(raters['planned'], 'planned rater')} have voted"
    )
    table = Table(box=None, pad_edge=False, header_style="bold", title="simulated raters" if note else None)
    for name, justify in (
        ("question", "left"),
        ("votes for", "left"),
        ("over", "left"),
        ("share", "right"),
        (f"{percent(found['level'], 0)} CI", "left"),
        ("p (Holm)", "right"),
        ("verdict", "left"),
    ):
        table.add_column(name, justify=justify, no_wrap=name not in ("votes for", "over"))  # type: ignore[arg-type]
    for one in main["comparisons"]:
        of = one["preference"]
        table.add_row(
            one["question"],
            labels[one["second"]],
            labels[one["first"]],
            percent(of["share"]),
            interval(of["clustered"]).replace("[", r"\["),
            p_text(of["p_holm"]),
            verdict(one, found["level"]),
        )
    Console().print(table)
    for line in _more(found, labels):
        print(line)


def _more(found: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[str]:
    """Lines below the table: ranking, position bias, attention checks, consistency."""
    from freeu.study.statistics.numbers import interval, percent

    main = found["main"]
    for question, one in (main["ranking"] or {}).items():
        if one["error"]:
            yield f"{question}: {one['error']}"
        else:
            order = sorted(zip(one["scores"], one["arms"], strict=True), reverse=True)
            yield f"{question}, ranking: " + ", ".join(f"{labels[arm]} ({score:+.2f})" for score, arm in order)
    position = main["position"]
    yield f"position bias: left side chosen in {percent(position['share'])} {interval(position['clustered'])}"
    for name, word in (("checks", "attention checks passed"), ("consistency", "repeats answered as before")):
        if main[name]:
            yield f"{word}: {percent(main[name]['value'])} of {main[name]['count']}"

"""Votes and results as files: what is in them, what never is, and the commands that write them."""

import csv
import io
import json
import shutil
from dataclasses import replace

import pyarrow.parquet
import pytest
from study.handmade import make_study

from freeu.cli.commands.study.options import ResultsOutput, StudyOptions
from freeu.cli.commands.study.results import export as export_command
from freeu.cli.commands.study.results import results as results_command
from freeu.errors import FreeUValueError
from freeu.study.results.exporting import FORMATS, RESULT_COLUMNS, VOTE_COLUMNS, result_rows, table, vote_rows
from freeu.study.results.results import results
from freeu.study.statistics.simulate import Behaviour, SimulatedRaters, bare_plan, strengths_for_share
from freeu.study.store.database import database_url
from freeu.study.store.store import Store

NICKNAME = "=HYPERLINK(evil)"


@pytest.fixture(scope="module")
def study():
    plan = bare_plan(6, 5, checks=1, repeats=1, ties=True)
    plan = replace(plan, prompts=("=1+1", ' @cmd, "quoted"', "红色的苹果", "-a minus", "plain\nof two lines"))
    crowd = SimulatedRaters(plan, Behaviour(strengths_for_share("arm 0", "arm 1", 0.7), ties=0.2, spammers=0.17), 3)
    return plan, crowd.votes(), crowd


def test_a_row_a_vote(study):
    plan, votes, crowd = study
    rows = vote_rows(plan, votes)
    assert len(rows) == len(votes)
    assert all(tuple(row) == VOTE_COLUMNS for row in rows)
    for row, vote in zip(rows, votes, strict=True):
        slot, task = plan.task(vote.task)
        pair = plan.pair(task.pair)
        arms = {plan.item(pair.first).arm, plan.item(pair.second).arm}
        assert {row["left_arm"], row["right_arm"]} == arms
        left = pair.first if task.first_left else pair.second
        assert row["left_arm"] == plan.item(left).arm
        assert row["winner"] == {"left": row["left_arm"], "right": row["right_arm"], "tie": "tie"}[vote.choice]
        assert (row["kind"], row["question"], row["seconds"]) == (task.kind, task.question, vote.seconds)
        assert row["prompt_text"] == plan.prompts[pair.prompt]
        assert row["excluded"] == (slot in crowd.spammers)
    assert sum(row["excluded"] for row in rows) == len(plan.slots[0])
    assert {row["kind"] for row in rows} == {"vote", "check", "repeat"}


def test_every_format_holds_the_same(study):
    plan, votes, _ = study
    rows = vote_rows(plan, votes)
    assert json.loads(table(rows, VOTE_COLUMNS, "json")) == rows
    parquet = pyarrow.parquet.read_table(io.BytesIO(table(rows, VOTE_COLUMNS, "parquet")))
    assert parquet.to_pylist() == rows
    assert (str(parquet.schema.field("seconds").type), str(parquet.schema.field("excluded").type)) == ("double", "bool")
    read = list(csv.DictReader(io.StringIO(table(rows, VOTE_COLUMNS, "csv").decode(), newline="")))
    assert [one["seconds"] for one in read] == [str(row["seconds"]) for row in rows]
    assert [one["excluded"] == "true" for one in read] == [row["excluded"] for row in rows]
    assert {one["prompt_text"] for one in read} == {
        "'=1+1",
        '\' @cmd, "quoted"',
        "红色的苹果",
        "'-a minus",
        "plain\nof two lines",
    }


def test_no_text_in_a_csv_begins_like_a_formula():
    texts = ["=1", "+1", "-1", "@a", "\tx", "\rx", "  =1", "x=1", "", None, -3.5, True]
    made = table([{"a": one} for one in texts], ["a"], "csv").decode()
    read = [row[0] if row else "" for row in csv.reader(io.StringIO(made, newline=""))][1:]
    assert read == ["'=1", "'+1", "'-1", "'@a", "'\tx", "'\rx", "'  =1", "x=1", "", "", "-3.5", "true"]


def test_results_as_a_table(study):
    plan, votes, _ = study
    found = results(plan, votes, draws=100)
    rows = result_rows(found)
    assert len(rows) == 2 * 2 * (1 + 5)  # analyses, questions, the whole and each prompt
    assert all(set(row) == set(RESULT_COLUMNS) for row in rows)
    whole = next(row for row in rows if (row["analysis"], row["question"], row["prompt"]) == ("main", "quality", None))
    one = next(one for one in found["main"]["comparisons"] if one["question"] == "quality")
    assert whole["share"] == one["preference"]["share"]
    assert [whole["clustered_low"], whole["clustered_high"]] == one["preference"]["clustered"]
    assert whole["p_holm"] == one["preference"]["p_holm"]
    assert whole["demonstration"] is True
    parts = [
        row for row in rows if (row["analysis"], row["question"]) == ("main", "quality") and row["prompt"] is not None
    ]
    assert sum(row["for_second"] for row in parts) == whole["for_second"]
    for form in FORMATS:
        assert table(rows, RESULT_COLUMNS, form)
        assert table(result_rows(results(plan, [])), RESULT_COLUMNS, form)


def test_an_unknown_format_is_told(study):
    with pytest.raises(FreeUValueError, match="unknown format 'xlsx'"):
        table([], VOTE_COLUMNS, "xlsx")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("  =1+1", "'  =1+1"),
        ("\N{NO-BREAK SPACE}=1", "'\N{NO-BREAK SPACE}=1"),
        ("＝1＋1", "'＝1＋1"),
        ("＠x", "'＠x"),
        ("－1", "'－1"),
        ("a;=1+1", "a;'=1+1"),
        ("a; @x", "a;' @x"),
        ("a\t-1", "a\t'-1"),
        ("a\n=1", "a\n'=1"),
        ("a\r\n+1", "a\r\n'+1"),
        ("a fox, -style", "a fox, -style"),
        ("1=1; a+b", "1=1; a+b"),
    ],
)
def test_no_spreadsheet_finds_a_formula(text, cell):
    """Neither one that takes full-width signs for plain ones nor one whose cells end at a semicolon."""
    data = table([{"a": text}], ("a",), "csv").decode()
    assert next(csv.reader(io.StringIO(data.partition("\r\n")[2], newline=""))) == [cell]


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    """A study in which four simulated raters, who call themselves a formula, have voted; and their codes."""
    path = tmp_path_factory.mktemp("voted") / "study"
    made = make_study(path, seeds=2, demonstration=True)
    crowd = SimulatedRaters(made.plan, Behaviour(strengths_for_share("off", "on", 0.8), ties=0.1))
    codes = []
    with Store(database_url(path), made.plan) as store:
        for _ in range(4):
            rater, code = store.claim_slot("en", NICKNAME)
            codes.append(code)
            for task, choice, seconds in crowd.answer(rater.slot):
                assert store.vote(rater, task.id, 0, choice, seconds).outcome == "counted"
    return path, codes


def test_the_commands_write_everything_and_nothing_personal(voted, tmp_path, capsys):
    path, codes = voted
    out = tmp_path / "out"
    results_command(StudyOptions(path), ResultsOutput(out))
    told = capsys.readouterr().out
    assert told.startswith("SIMULATED RATERS, no evidence about people: Which image?")
    assert "SD + FreeU" in told
    for form in FORMATS:
        export_command(StudyOptions(path), ResultsOutput(out), form)
    assert {file.name for file in out.iterdir()} == {
        "report.html",
        "results.json",
        *(f"{name}.{form}" for name in ("votes", "results") for form in FORMATS),
    }
    for file in out.iterdir():
        data = file.read_bytes()
        assert NICKNAME.encode() not in data
        assert b"HYPERLINK" not in data
        assert not any(code.encode() in data for code in codes)
        assert str(path).encode() not in data
    found = json.loads((out / "results.json").read_text())
    assert found["kind"] == "freeu-study-results"
    assert found["main"]["votes"] == 4 * 8
    assert (out / "report.html").read_text().count("data:image/webp") >= 4
    assert len(json.loads((out / "votes.json").read_text())) == 4 * 10


def test_json_goes_to_the_terminal_and_no_file_is_written(voted, tmp_path, capsys):
    path, _ = voted
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    results_command(StudyOptions(copy), ResultsOutput(), as_json=True)
    assert json.loads(capsys.readouterr().out)["main"]["votes"] == 32
    assert not (copy / "results").exists()
    results_command(StudyOptions(copy), ResultsOutput())
    assert (copy / "results" / "report.html").exists()
    results_command(StudyOptions(copy), ResultsOutput())  # again, over the old ones
    assert not [file for file in (copy / "results").iterdir() if file.name.endswith(".part")]


def test_what_is_not_there_is_not_made(voted, tmp_path):
    path, _ = voted
    empty = tmp_path / "empty"
    make_study(empty)
    with pytest.raises(FreeUValueError, match=r"there is no database .*study\.sqlite: serve the study first"):
        results_command(StudyOptions(empty), ResultsOutput())
    with pytest.raises(FreeUValueError, match=r"there is no database .*other\.sqlite: serve the study first"):
        export_command(StudyOptions(path, str(tmp_path / "other.sqlite")), ResultsOutput())
    assert not list(tmp_path.glob("**/*.sqlite"))
    with pytest.raises(FreeUValueError, match="unknown --format 'xlsx'"):
        export_command(StudyOptions(path), ResultsOutput(), form="xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(FreeUValueError, match="is a file: name a folder"):
        export_command(StudyOptions(path), ResultsOutput(tmp_path / "file"))

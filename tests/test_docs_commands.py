"""Commands of the documentation name what there is, in order; `make docs-commands` runs them."""

from __future__ import annotations

import itertools
import json
import re

import docs_commands
import pytest

COMMANDS = {page: list(docs_commands.commands(page)) for page in docs_commands.PAGES}
ALL = [line for lines in COMMANDS.values() for line in lines]


@pytest.mark.parametrize("row", docs_commands.ROWS, ids=lambda row: row.pattern)
def test_every_row_is_needed(row):
    assert any(row in docs_commands.rows(line) for line in ALL), "no command of the documentation matches: take it out"
    assert row.why


@pytest.mark.parametrize("name", [name for name in docs_commands.STAND_INS if name.startswith("path/")])
def test_every_stand_in_is_needed(name):
    assert any(docs_commands.names(line, name) for line in ALL), "no command of the documentation names it: take it out"


def test_a_command_needs_no_shell():
    for line in ALL:
        assert docs_commands.plain_words(line)
    for line in ("freeu presets > FILE", "freeu presets; freeu presets", "freeu presets $NAME", "freeu presets | cat"):
        with pytest.raises(ValueError, match="needs a shell"):
            docs_commands.plain_words(line)


def test_pages_are_read_in_their_order(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "    freeu first  # indented\n\n```python\nfreeu = 1\n```\n\n"
        "```sh\nfreeu second \\\n  --option\n\npython -m third\n```\n\n    y = 1\n\n    freeu fourth\n"
    )
    found = ["freeu first  # indented", "freeu second --option", "python -m third", "freeu fourth"]
    assert list(docs_commands.commands(page)) == found


def test_files_of_the_reader_are_told_apart():
    """Every name of a file that does not lie under path/to/ was written by a command before it, or in the checkout."""
    for page, lines in COMMANDS.items():
        before = ""
        for line in lines:
            words = docs_commands.plain_words(line)
            for option, word in itertools.pairwise(words):
                named = re.fullmatch(r"(?!path/to/|https?:|s3:|hf:)[\w./-]+\.(jsonl?|png|txt|mp4|safetensors)", word)
                made = option in ("--output", "freeu_zoo.prompts", "freeu_zoo.films")
                if named and not made:
                    assert word in before or word.split("/")[0] in before.split(), f"{page.name}: {line}"
            before += " " + " ".join(words)


def test_the_table_of_tasks_is_that_of_the_measurement():
    measured = json.loads((docs_commands.ROOT / "benchmarks" / "results" / "tasks.json").read_text(encoding="utf-8"))
    page = (docs_commands.ROOT / "docs" / "install.md").read_text(encoding="utf-8").splitlines()
    missing = [row for row in measured["table"] if row not in page]
    assert not missing, "python benchmarks/bench_tasks.py prints the rows of docs/install.md"

"""Every command and option is explained, in its help and in docs/cli.md; help loads nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from freeu.cli import app, main
from freeu.pipelines.models.schedulers import SAMPLERS, SCHEDULES
from freeu.profiles import PROFILES

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its full name, such as "study new"."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield before + name, command


COMMANDS: dict[str, Any] = dict(_commands(typer.main.get_command(app)))


def _section(command: str) -> str:
    """The part of the page on one command, with the options of ``compare`` that it refers to."""
    text = DOCS.read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## freeu ([\w ]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    compare = parts["compare"]
    freeu = compare[compare.index("### FreeU") : compare.index("### ControlNet")]
    refers = "[FreeU](#freeu)" in parts[command]
    return parts[command] + (compare if command == "generate" else "") + (freeu if refers else "")


def _options() -> Iterator[tuple[str, str]]:
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.param_type_name == "option" and "--help" not in parameter.opts:
                yield name, parameter.opts[0]


@pytest.mark.parametrize(("command", "option"), list(_options()))
def test_every_option_is_documented(command: str, option: str) -> None:
    assert re.search(rf"`{re.escape(option)}\b", _section(command)), f"{option} of {command} is not in docs/cli.md"


def test_no_option_is_documented_that_is_not_there() -> None:
    parameters = [parameter for command in COMMANDS.values() for parameter in command.params]
    known = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    known |= {"--help", "--version", "--install-completion", "--show-completion"}
    found = set(re.findall(r"`(--[a-z-]+)", DOCS.read_text(encoding="utf-8")))
    assert found <= known


def test_every_command_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert set(re.findall(r"^## freeu ([\w ]+)$", text, re.MULTILINE)) == COMMANDS.keys()
    for name in COMMANDS:
        assert f"| `freeu {name}` |" in text


def test_every_command_and_parameter_has_help() -> None:
    for name, command in COMMANDS.items():
        assert command.help, name
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.help, (name, parameter.opts)


def test_lists_of_names_are_complete() -> None:
    helps = {p.opts[0]: p.help for p in COMMANDS["compare"].params}
    text = DOCS.read_text(encoding="utf-8")
    for name in (*SAMPLERS, *SCHEDULES):
        assert re.search(rf"(^|[ ,]){re.escape(name)}([ ,]|$)", helps["--scheduler"]), name
        assert f"`{name}`" in text or f"`-{name}`" in text
    for name in PROFILES:
        assert name in helps["--profile"]


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("compare", "--help")])
def test_help_and_version(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "freeu" in captured.out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from freeu.cli import main; main(['--help']); main(['--freeu-version']); main(['presets']);"
        "print('HEAVY', sorted({'torch', 'diffusers', 'transformers', 'PIL', 'numpy', 'jinja2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "freeu", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"freeu \d+\.\d+\.\d+\S*\n", done.stdout)

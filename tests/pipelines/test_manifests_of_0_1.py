"""Manifests that version 0.1 wrote are read as they are: no field is lost, none is added, and their commands parse."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import typer.main

from freeu.cli import app
from freeu.pipelines.runs.manifest import read_manifest

FOLDER = Path(__file__).parents[1] / "data" / "manifests-0.1"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_they_are_read_without_loss(path: Path) -> None:
    manifest = read_manifest(path)
    written = json.loads(path.read_text(encoding="utf-8"))
    assert json.loads(manifest.to_json()) == written
    assert manifest.complete


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_their_commands_parse(path: Path) -> None:
    plan = read_manifest(path).plan
    program, name, *words = shlex.split(plan.command_line())
    assert program == "freeu"
    command = typer.main.get_command(app).commands[name]
    with command.make_context(name, words) as context:
        assert context.params["prompts"] == list(plan.prompts)
        assert context.params["guidance_scale"] == plan.guidance
        assert context.params["config"] == str(plan.config)

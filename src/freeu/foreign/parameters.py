"""The text that stable-diffusion-webui (A1111, Forge) writes into its images under the key ``parameters``.

    a red fox
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: v1-5

Prompts may have several lines; the settings are the last one. Values with commas, colons or line ends are JSON texts.
Nothing of it is evaluated, and reading takes a time that grows with its length alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

KEY = "parameters"
MAX_CHARACTERS = 200_000
"""Of a text that is read; longer ones hold something else."""
_NEGATIVE = "Negative prompt:"
_FEWEST = 3
"""Settings that a last line must have, else it belongs to the prompt: prompts have colons and commas too."""
_MAX_NAME = 60


@dataclass(frozen=True)
class Parameters:
    """What such a text says.

    Args:
        prompt, negative_prompt: in any script, with line ends.
        fields: the settings by their names, in order; their values as texts.
    """

    prompt: str
    negative_prompt: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


def write_parameters(found: Parameters) -> str:
    """The text that says this; ``read_parameters`` gives it back, but for blanks around lines of the prompts."""
    lines = [found.prompt]
    if found.negative_prompt:
        lines.append(f"{_NEGATIVE} {found.negative_prompt}")
    lines.append(write_fields(found.fields))
    return "\n".join(lines)


def write_fields(fields: Mapping[str, str]) -> str:
    """The line of the settings."""
    return ", ".join(f"{name}: {_quoted(value)}" for name, value in fields.items())


def read_parameters(text: str) -> Parameters:
    """What a text says; one without settings is a prompt alone.

    >>> read_parameters('a fox\\nSteps: 20, Sampler: Euler a, Size: 512x512').fields["Sampler"]
    'Euler a'
    """
    lines = [line.strip() for line in text[:MAX_CHARACTERS].strip().split("\n")]
    fields = _fields(lines[-1])
    if len(fields) >= _FEWEST:
        lines.pop()
    else:
        fields = {}
    start = next((number for number, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    negative = [line.removeprefix(_NEGATIVE).strip() for line in lines[start:]]
    return Parameters("\n".join(lines[:start]).strip(), "\n".join(negative).strip(), fields)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if set(value) & set(',:\n"') else value


def _fields(line: str) -> dict[str, str]:
    """Names and values of a line such as ``Steps: 20, Model: "a, b"``."""
    found: dict[str, str] = {}
    place = 0
    while (colon := line.find(":", place)) >= 0:
        name = line[place:colon].rpartition(",")[2].strip()
        place = colon + 1
        while line[place : place + 1] == " ":
            place += 1
        end = _end_of_text(line, place) if line[place : place + 1] == '"' else -1
        if end >= 0:
            value = _unquoted(line[place:end])
            comma = line.find(",", end)
        else:
            comma = line.find(",", place)
            value = line[place : comma if comma >= 0 else len(line)].strip()
        if name and len(name) <= _MAX_NAME:
            found.setdefault(name, value)
        if comma < 0:
            break
        place = comma + 1
    return found


def _end_of_text(line: str, start: int) -> int:
    """The place behind the closing quotation mark of a text that begins at ``start``; -1 where there is none."""
    place = start + 1
    while place < len(line):
        if line[place] == "\\":
            place += 1
        elif line[place] == '"':
            return place + 1
        place += 1
    return -1


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text

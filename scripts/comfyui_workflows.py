"""Runs workflow files of ComfyUI headless, by its own core: what its page does before it sends them is done here.

The page keeps a workflow as a drawing (nodes, links, values of widgets in their order); the core takes a prompt (inputs
by name). ``to_prompt`` makes one from the other, for nodes whose widgets are plain.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
_NOTES = ("Note", "MarkdownNote")


def to_prompt(workflow: dict[str, Any], nodes: ModuleType) -> dict[str, Any]:
    """The prompt that a workflow stands for.

    Args:
        workflow: as in a file of the page.
        nodes: the core's module of that name, with every node loaded.
    """
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in _NOTES:
            continue
        types = nodes.NODE_CLASS_MAPPINGS[node["type"]].INPUT_TYPES()
        inputs: dict[str, Any] = {}
        values = list(node.get("widgets_values", []))
        for name, kind in (
            (name, kind) for group in ("required", "optional") for name, kind in types.get(group, {}).items()
        ):
            options = kind[1] if len(kind) > 1 else {}
            if (isinstance(kind[0], str) and kind[0] not in _WIDGETS) or options.get("forceInput"):
                continue
            inputs[name] = values.pop(0)
            if options.get("control_after_generate") or name in ("seed", "noise_seed"):
                values.pop(0)  # what the page does with the seed afterwards
        for slot in node.get("inputs", []):
            if slot.get("link") is not None:
                inputs[slot["name"]] = links[slot["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": node["type"]}}
    return prompt


class Executed:
    """What the core made of a prompt.

    Args:
        outputs: what its output nodes showed, by the number of the node.
        error: the message of a node that failed, else None.
        messages: everything that the core told.
    """

    def __init__(self, outputs: dict[str, Any], error: str | None, messages: list[Any]) -> None:
        self.outputs, self.error, self.messages = outputs, error, messages


def execute(prompt: dict[str, Any], serving: Any) -> Executed:
    """Check a prompt and run it by the core's own executor.

    Raises:
        ValueError: the core finds the prompt invalid; its words.
    """
    import execution

    number = str(uuid.uuid4())
    valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt(number, prompt, None))
    if not valid:
        raise ValueError(json.dumps([error, node_errors], default=str))
    runner = execution.PromptExecutor(
        serving, cache_type=execution.CacheType.CLASSIC, cache_args={"lru": 0, "ram": 1.0, "ram_inactive": 1.0}
    )
    with torch.inference_mode(False):
        runner.execute(prompt, number, {"extra_pnginfo": None}, outputs)
    failed = [data for event, data in runner.status_messages if event == "execution_error"]
    message = failed[0]["exception_message"].strip() if failed else None
    return Executed(runner.history_result.get("outputs", {}), message, runner.status_messages)


def read(path: Path) -> dict[str, Any]:
    """A workflow file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found

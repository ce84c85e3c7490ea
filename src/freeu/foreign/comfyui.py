"""The graph that ComfyUI writes into its images under the key ``prompt``: nodes by number, with links between them.

    {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "positive": ["6", 0], ...}},
     "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox", ...}}, ...}

It is read into the words of A1111's text, as far as these have words for it. Nothing of it is run; links are followed a
limited number of times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from freeu.foreign.parameters import Parameters

KEY = "prompt"
OWN_NODE = "FreeUExact"
"""Our node; its inputs are kept as they are, since only a configuration can say what they mean."""
MAX_CHARACTERS = 1_000_000
"""Of a graph that is read."""
FREEU_NODES = ("FreeU", "FreeU_V2", OWN_NODE)
_OF_OWN_NODE = ("b1", "b2", "s1", "s2", "version", "start", "end", "config")
_SAMPLERS = ("KSampler", "KSamplerAdvanced")
_MODELS = ("ckpt_name", "unet_name")
_TEXTS = ("text", "text_g", "text_l", "string", "value")
"""Inputs of nodes that hold a prompt, or whose node does."""
_BEFORE = ("conditioning", "conditioning_1", "conditioning_to")
"""Inputs of nodes between a prompt and the sampler."""
_NUMBERS = ("seed", "noise_seed", "value", "int", "float")
_FURTHEST = 30
"""Links that are followed one after the other."""

Node = Mapping[str, Any]


def read_graph(graph: Any) -> Parameters | None:
    """Prompt and settings of the first sampler, that of an empty latent before others; None where none is known.

    >>> nodes = {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "positive": ["6", 0]}}}
    >>> read_graph({**nodes, "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox"}}}).prompt
    'a red fox'
    """
    nodes: dict[str, Node] = {}
    for number, node in graph.items() if isinstance(graph, dict) else ():
        if isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict):
            nodes[str(number)] = node
    found = [node for node in nodes.values() if node["class_type"] in _SAMPLERS]
    if not found:
        return None
    return _Graph(nodes).read(next((one for one in found if _Graph(nodes).size(one)), found[0]))


class _Graph:
    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes

    def read(self, sampler: Node) -> Parameters:
        """What a sampler and the nodes before it say."""
        inputs = sampler["inputs"]
        name, schedule = (self.value(inputs.get(key), ()) for key in ("sampler_name", "scheduler"))
        fields = {
            "Steps": self.value(inputs.get("steps")),
            "Sampler": " ".join(filter(None, (name, schedule))),
            "CFG scale": self.value(inputs.get("cfg")),
            "Seed": self.value(inputs.get("seed", inputs.get("noise_seed"))),
            "Size": self.size(sampler),
            **self.patches(sampler),
        }
        strength = self.value(inputs.get("denoise"))
        if strength not in ("", "1", "1.0"):
            fields["Denoising strength"] = strength
        wanted, unwanted = (self.text(inputs.get(side), side) for side in ("positive", "negative"))
        return Parameters(wanted, unwanted, {name: value for name, value in fields.items() if value})

    def linked(self, value: Any) -> Node | None:
        """The node that a value links to, if it is a link."""
        return self.nodes.get(str(value[0])) if isinstance(value, list) and value else None

    def value(self, value: Any, keys: tuple[str, ...] = _NUMBERS) -> str:
        """A value as text, also that of a node that holds nothing else; "" where it is computed otherwise."""
        node = self.linked(value)
        if node is not None:
            value = next((node["inputs"][key] for key in keys if key in node["inputs"]), None)
        return str(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""

    def chain(self, node: Node | None, keys: tuple[str, ...]) -> Iterator[Node]:
        """A node and those before it, each by the first of these inputs that it has."""
        for _ in range(_FURTHEST):
            if node is None:
                return
            yield node
            inputs = node["inputs"]
            node = next((one for key in keys if (one := self.linked(inputs.get(key))) is not None), None)

    def text(self, link: Any, side: str) -> str:
        """The prompt behind a link; ``side`` is "positive" or "negative" in nodes that pass both on."""
        for node in self.chain(self.linked(link), (*_BEFORE, side, *_TEXTS)):
            for key in _TEXTS:
                if isinstance(node["inputs"].get(key), str):
                    return str(node["inputs"][key])
        return ""

    def size(self, sampler: Node) -> str:
        """Width and height of the empty latent that a sampler begins with, such as "512x768"; "" for any other."""
        node = self.linked(sampler["inputs"].get("latent_image"))
        if node is None or not node["class_type"].startswith("Empty"):
            return ""
        sides = [self.value(node["inputs"].get(key)) for key in ("width", "height")]
        return "x".join(sides) if all(sides) else ""

    def patches(self, sampler: Node) -> dict[str, str]:
        """The model of a sampler, and what was done to it on the way: FreeU, LoRAs, other nodes by their classes."""
        found: dict[str, str] = {}
        loras, others = [], []
        for node in self.chain(self.linked(sampler["inputs"].get("model")), ("model",)):
            name, inputs = node["class_type"], node["inputs"]
            if name in FREEU_NODES and not {"FreeU", OWN_NODE} & found.keys():
                found |= self.freeu(name, inputs)
            elif "lora_name" in inputs:
                loras.append(f"{self.value(inputs['lora_name'])}:{self.value(inputs.get('strength_model')) or 1}")
            elif any(key in inputs for key in _MODELS):
                found["Model"] = next(self.value(inputs[key], ()) for key in _MODELS if key in inputs)
            else:
                others.append(name)
        return found | {"LoRA": ", ".join(loras), "Other nodes": ", ".join(others)}

    def freeu(self, name: str, inputs: Mapping[str, Any]) -> dict[str, str]:
        """What a node of FreeU says: the core's two in the short form, ours as JSON of its inputs."""
        if name == OWN_NODE:
            given = {key: self.value(inputs[key], (*_NUMBERS, *_TEXTS)) for key in _OF_OWN_NODE if key in inputs}
            return {OWN_NODE: json.dumps(given)}
        factors = " ".join(f"{key}={self.value(inputs.get(key))}" for key in ("b1", "b2", "s1", "s2"))
        return {"FreeU": f"{factors} v={2 if name == 'FreeU_V2' else 1} profile=comfyui"}

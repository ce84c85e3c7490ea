"""The inputs of the page, in groups, and what each is called in every language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from freeu.config import DC
from freeu.pipelines.models.addons.add_ons import MAX_WEIGHT
from freeu.pipelines.models.control.control import MAX_SCALE, PREPROCESS
from freeu.pipelines.models.schedulers import SAMPLERS
from freeu.pipelines.options.sampling import DENOISING_STRENGTH
from freeu.presets import presets
from freeu.profiles import PROFILES
from freeu.ui.actions import CUSTOM, LIVE, LIVE_SECONDS, MAX_BATCH, NONE, OF_PRESETS, OWN, RECOMMENDED, slider_values
from freeu.ui.request import MAX_PROMPT, MAX_STEPS
from freeu.ui.studio import Defaults, Studio
from freeu.ui.texts import say

Inputs = dict[str, Any]
"""Components by the names that a form has."""
OF_FREEU = (*OF_PRESETS, "start", "end", "strength", "b_start", "b_end", "s_start", "s_end")
"""The inputs that change FreeU's image alone."""


class Labels:
    """What components are called in each language."""

    def __init__(self) -> None:
        self.components: list[Any] = []
        self._texts: list[Callable[[str], dict[str, Any]]] = []

    def add(self, component: Any, key: str, part: str = "label", **values: object) -> Any:
        """A component whose ``part`` is the text of a key; the component itself comes back."""
        return self.also(component, lambda language: {part: say(key, language, **values)})

    def also(self, component: Any, texts: Callable[[str], dict[str, Any]]) -> Any:
        """A component with any properties that depend on the language."""
        self.components.append(component)
        self._texts.append(texts)
        return component

    def updates(self, language: str) -> dict[Any, Any]:
        """What a change of language changes."""
        found: dict[Any, dict[str, Any]] = {}
        for component, texts in zip(self.components, self._texts, strict=True):
            found[component] = found.get(component, {}) | texts(language)
        return {component: gr.update(**texts) for component, texts in found.items()}


def slider(labels: Labels, name: str, low: float, high: float, value: float, step: float, key: str = "") -> Any:
    """A slider; words in braces of its label are the name."""
    key = key or name
    made = gr.Slider(low, high, value, step=step, label=say(key, "en", name=name), elem_id=name, min_width=130)
    return labels.add(made, key, name=name[:2] if key.startswith("window") else name)


def prompt_box(labels: Labels, studio: Studio) -> Any:
    """Where the prompt is written."""
    first = next(iter(studio.sources.values()))
    prompt = "a 3d fox on a blue background" if first.world else "a blue car is being filmed"
    box = gr.Textbox(
        prompt,
        label=say("prompt", "en"),
        lines=1,  # so that Enter generates
        max_lines=4,
        max_length=MAX_PROMPT,
        elem_id="prompt",
        scale=5,
        min_width=300,
        submit_btn=False,
    )
    return labels.add(box, "prompt")


def image_inputs(labels: Labels, studio: Studio, own: Defaults) -> Inputs:
    """Model, seed, size and sampling."""
    made: Inputs = {}
    several = len(studio.models) > 1
    model = gr.Dropdown(studio.models, value=studio.models[0], label=say("model", "en"), visible=several)
    made["model"] = labels.add(model, "model")
    seed = gr.Textbox("0", label=say("seed", "en"), elem_id="seed", max_length=24, min_width=130)
    made["seed"] = labels.add(seed, "seed")
    with gr.Row(elem_id="seeds"):
        dice = gr.Button(say("dice", "en"), size="sm", elem_id="dice", min_width=100)
        made["dice"] = labels.add(dice, "dice", "value")
        reuse = gr.Button(say("reuse", "en"), size="sm", elem_id="reuse", min_width=100)
        made["reuse"] = labels.add(reuse, "reuse", "value")
    with gr.Row():
        made["steps"] = slider(labels, "steps", 1, MAX_STEPS, own.steps, 1)
        made["guidance"] = slider(labels, "guidance", 0.0, 20.0, own.guidance, 0.1)
    with gr.Row():
        for side in ("width", "height"):
            box = gr.Number(own.side, label=say(side, "en"), elem_id=side, step=own.multiple, min_width=90)
            made[side] = labels.add(box, side)
        made["batch"] = slider(labels, "batch", 1, MAX_BATCH, 1, 1)
    negative = gr.Textbox("", label=say("negative_prompt", "en"), max_length=MAX_PROMPT, elem_id="negative_prompt")
    made["negative_prompt"] = labels.add(negative, "negative_prompt")
    scheduler = gr.Dropdown(_samplers("en"), value=OWN, label=say("scheduler", "en"), elem_id="scheduler")
    made["scheduler"] = labels.add(scheduler, "scheduler")
    labels.also(scheduler, lambda language: {"choices": _samplers(language)})
    return made


def freeu_inputs(labels: Labels, own: Defaults) -> Inputs:
    """FreeU's settings."""
    values = dict(zip(OF_PRESETS, slider_values(own.config), strict=True))
    made: Inputs = {}
    preset = gr.Dropdown(_presets("en"), value=RECOMMENDED, label=say("preset", "en"), elem_id="preset")
    made["preset"] = labels.add(preset, "preset")
    labels.also(preset, lambda language: {"choices": _presets(language)})
    for letter in ("b", "s"):
        with gr.Row():
            for stage in (1, 2, 3):
                name = f"{letter}{stage}"
                made[name] = slider(labels, name, 0.0, 2.0, values[name], 0.01, letter)
    with gr.Row():
        for name, value in (("start", 0.0), ("end", 1.0), ("strength", 1.0)):
            made[name] = slider(labels, name, 0.0, 1.0, value, 0.01)
    with gr.Row():
        version = gr.Radio([1, 2], value=values["version"], label=say("version", "en"), min_width=130)
        made["version"] = labels.add(version, "version")
        profile = gr.Dropdown(list(PROFILES), value=values["profile"], label=say("profile", "en"), min_width=130)
        made["profile"] = labels.add(profile, "profile")
    live = gr.Radio(_live("en"), value="auto", label=say("live", "en"), elem_id="live")
    made["live"] = labels.add(live, "live")
    labels.also(live, lambda language: {"choices": _live(language)})
    with labels.add(gr.Accordion(say("more_freeu", "en"), open=False), "more_freeu"):
        with gr.Row():
            for name in ("gain_lowest", "gain_highest"):
                made[name] = slider(labels, name, 0.0, 2.0, values[name], 0.01)
            dc = gr.Radio(list(DC), value=values["dc"], label=say("dc", "en"), min_width=130)
            made["dc"] = labels.add(dc, "dc")
        with gr.Row():
            for letter in ("b", "s"):
                for end, value in (("start", 0.0), ("end", 1.0)):
                    name = f"{letter}_{end}"
                    made[name] = slider(labels, name, 0.0, 1.0, value, 0.01, f"window_{end}")
    return made


def start_inputs(labels: Labels) -> Inputs:
    """The image to start from."""
    made: Inputs = {}
    with labels.add(gr.Accordion(say("group_start", "en"), open=False, elem_id="group_start"), "group_start"):
        made["image"] = _upload(labels, "image")
        made["denoising"] = slider(labels, "denoising", 0.0, 1.0, DENOISING_STRENGTH, 0.01)
    return made


def control_inputs(labels: Labels, controls: Sequence[str]) -> Inputs:
    """A ControlNet and the image that it follows."""
    made: Inputs = {}
    group = gr.Accordion(say("group_control", "en"), open=False, elem_id="group_control", visible=bool(controls))
    with labels.add(group, "group_control"):
        choices = _controls(controls, "en")
        control = gr.Dropdown(choices, value=NONE, label=say("control", "en"), elem_id="control")
        made["control"] = labels.add(control, "control")
        labels.also(control, lambda language: {"choices": _controls(controls, language)})
        made["control_image"] = _upload(labels, "control_image")
        with gr.Row():
            radio = gr.Radio(list(PREPROCESS), value=PREPROCESS[0], label=say("preprocessor", "en"), min_width=130)
            made["preprocessor"] = labels.add(radio, "preprocessor")
            made["control_weight"] = slider(labels, "control_weight", 0.0, MAX_SCALE, 1.0, 0.05)
    return made


def lora_inputs(labels: Labels) -> Inputs:
    """A LoRA of the visitor's own."""
    made: Inputs = {}
    with labels.add(gr.Accordion(say("group_lora", "en"), open=False, elem_id="group_lora"), "group_lora"):
        file = gr.File(label=say("lora", "en"), file_types=[".safetensors"], height=110, elem_id="lora")
        made["lora"] = labels.add(file, "lora")
        weight = min(2.0, MAX_WEIGHT)
        made["lora_weight"] = slider(labels, "lora_weight", -weight, weight, 1.0, 0.05)
    return made


def _upload(labels: Labels, name: str) -> Any:
    """An image as it was sent: it is read by what reads every file of others."""
    image = gr.Image(
        label=say(name, "en"),
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=220,
        buttons=[],
        elem_id=name,
    )
    return labels.add(image, name)


def _samplers(language: str) -> list[tuple[str, str]]:
    return [(say("own", language), OWN), *((name, name) for name in SAMPLERS)]


def _presets(language: str) -> list[tuple[str, str]]:
    return [
        (say("recommended", language), RECOMMENDED),
        *((name, name) for name in presets()),
        (say("custom", language), CUSTOM),
    ]


def _live(language: str) -> list[tuple[str, str]]:
    return [(say(f"live_{name}", language, seconds=LIVE_SECONDS), name) for name in LIVE]


def _controls(controls: Sequence[str], language: str) -> list[tuple[str, str]]:
    return [(say("none", language), NONE), *((name, name) for name in controls)]

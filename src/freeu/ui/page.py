"""The studio's page, made with Gradio."""

from __future__ import annotations

import warnings
from typing import Any

import gradio as gr

from freeu.analysis.plots import plotly_figure
from freeu.config import DC, FreeUConfig
from freeu.errors import FreeUError
from freeu.pipelines.models.schedulers import SAMPLERS
from freeu.presets import presets
from freeu.profiles import PROFILES
from freeu.ui.studio import MAX_PROMPT, MAX_STEPS, Studio, StudioRequest

OWN = "the model's own"
CUSTOM, RECOMMENDED = "custom", "recommended"
GALLERY = 24
_FACTORS = ("b1", "b2", "b3", "s1", "s2", "s3")
OF_PRESETS = (*_FACTORS, "version", "profile", "dc", "gain_lowest", "gain_highest")
"""The inputs that a preset sets."""
MAX_WAITING = 32
CACHE = (3_600, 86_400)
"""Seconds between two looks into Gradio's cache of images, and the age at which it forgets one."""


def build(studio: Studio, note: str = "") -> gr.Blocks:
    """The page for a studio.

    Args:
        studio: generates.
        note: a line on the models.
    """
    steps, guidance, recommended = studio.defaults(studio.models[0])
    with gr.Blocks(title="freeu studio", analytics_enabled=False, delete_cache=CACHE) as page:
        gr.Markdown(f"# freeu studio\nThe same prompt and seed without and with FreeU. {note}")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                inputs = _image_inputs(studio, steps, guidance) | _freeu_inputs(recommended)
                go = gr.Button("Generate", variant="primary", elem_id="generate")
            with gr.Column(scale=3, min_width=320):
                pair = gr.ImageSlider(
                    label="without | with FreeU", type="pil", format="png", interactive=False, elem_id="pair"
                )
                said = gr.Markdown(elem_id="said")
                plot = gr.Plot(label="Spectra", elem_id="spectra")
                with gr.Accordion("Settings to copy", open=False):
                    python = gr.Code(label="Python", language="python", interactive=False, elem_id="python")
                    as_json = gr.Code(label="JSON", language="json", interactive=False, elem_id="json")
                    short = gr.Textbox(label="Short form, and for freeu compare --config", interactive=False, lines=1)
                    command = gr.Textbox(label="At a shell", interactive=False, lines=2)
                gallery = gr.Gallery(
                    label="This session, with FreeU (newest first)",
                    columns=4,
                    height=260,
                    format="png",
                    interactive=False,
                )
        seen = gr.State([])
        names = list(inputs)

        def generate(*values: Any, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
            given = dict(zip([*names, "seen"], values, strict=True))
            before: list[tuple[Any, str]] = given.pop("seen")
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    request = request_from(given)
                    found = studio.pair(request, lambda text, done: progress(done, desc=text))
            except FreeUError as error:
                raise gr.Error(" ".join(str(error).split()), print_exception=False) from None
            for warning in caught:
                if issubclass(warning.category, UserWarning) and "FreeU" in str(warning.message):
                    gr.Warning(" ".join(str(warning.message).split()))
            texts = found.texts()
            now = [(found.on, found.caption), *before][:GALLERY]
            made = 2 - found.remembered
            told = f"`{texts['short']}` · generated {made} of 2 images" + (", the rest was there" if made < 2 else "")
            figure = plotly_figure(found.spectra())
            return (
                (found.off, found.on),
                told,
                figure,
                texts["python"],
                texts["json"],
                texts["short"],
                texts["command"],
                now,
                now,
            )

        outputs = [pair, said, plot, python, as_json, short, command, gallery, seen]
        for start in (go.click, inputs["prompt"].submit):
            start(
                generate,
                [*inputs.values(), seen],
                outputs,
                concurrency_limit=1,
                concurrency_id="generating",
                api_visibility="private",
            )

        def choose(name: str, model: str) -> list[Any]:
            config = studio.defaults(model)[2] if name == RECOMMENDED else None
            if config is None and name != CUSTOM:
                config = presets()[name].config
            return [gr.skip()] * len(OF_PRESETS) if config is None else slider_values(config)

        moved = [inputs[name] for name in OF_PRESETS]
        inputs["preset"].input(choose, [inputs["preset"], inputs["model"]], moved, api_visibility="private")
        for one in moved:
            one.input(lambda: CUSTOM, None, inputs["preset"], api_visibility="private")

        def change(model: str) -> list[Any]:
            try:
                steps, guidance, config = studio.defaults(model)
            except FreeUError as error:
                raise gr.Error(" ".join(str(error).split()), print_exception=False) from None
            return [steps, guidance, RECOMMENDED, *slider_values(config)]

        inputs["model"].input(
            change,
            inputs["model"],
            [inputs["steps"], inputs["guidance"], inputs["preset"], *moved],
            concurrency_limit=1,
            concurrency_id="generating",
            api_visibility="private",
        )
    return page.queue(max_size=MAX_WAITING, api_open=False)


def _image_inputs(studio: Studio, steps: int, guidance: float) -> dict[str, Any]:
    first = next(iter(studio.sources.values()))
    prompt = "a 3d fox on a blue background" if first.world else "a blue car is being filmed"
    made: dict[str, Any] = {
        "prompt": gr.Textbox(prompt, label="Prompt", max_length=MAX_PROMPT, elem_id="prompt"),
        "model": gr.Dropdown(studio.models, value=studio.models[0], label="Model", visible=len(studio.models) > 1),
    }
    with gr.Row():
        made["seed"] = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1, elem_id="seed")
        made["steps"] = gr.Slider(1, MAX_STEPS, steps, step=1, label="Steps")
        made["guidance"] = gr.Slider(0.0, 20.0, guidance, step=0.1, label="CFG scale")
    with gr.Accordion("More", open=False):
        made["negative_prompt"] = gr.Textbox("", label="Negative prompt", max_length=MAX_PROMPT)
        made["scheduler"] = gr.Dropdown([OWN, *SAMPLERS], value=OWN, label="Scheduler")
    return made


def _freeu_inputs(recommended: FreeUConfig) -> dict[str, Any]:
    values = dict(zip(OF_PRESETS, slider_values(recommended), strict=True))
    choices = [RECOMMENDED, *presets(), CUSTOM]
    made: dict[str, Any] = {"preset": gr.Dropdown(choices, value=RECOMMENDED, label="FreeU preset", elem_id="preset")}
    for letter, what in (("b", "backbone"), ("s", "skip, low frequencies")):
        with gr.Row():
            for stage in (1, 2, 3):
                name = f"{letter}{stage}"
                made[name] = gr.Slider(
                    0.0, 2.0, values[name], step=0.01, label=f"{name}: {what}", elem_id=name, min_width=120
                )
    with gr.Row():
        made["version"] = gr.Radio([1, 2], value=values["version"], label="Version (2: structure-aware)")
        made["profile"] = gr.Dropdown(list(PROFILES), value=values["profile"], label="Profile")
    with gr.Row():
        for name, value in (("start", 0.0), ("end", 1.0), ("strength", 1.0)):
            made[name] = gr.Slider(0.0, 1.0, value, step=0.01, label=name.capitalize(), min_width=120)
    with gr.Accordion("Whole skip, mean, windows of b and s", open=False):
        with gr.Row():
            for name, site in (("gain_lowest", "lowest site"), ("gain_highest", "highest site")):
                made[name] = gr.Slider(
                    0.0, 2.0, values[name], step=0.01, label=f"Skip gain: {site}", elem_id=name, min_width=120
                )
            made["dc"] = gr.Radio(list(DC), value=values["dc"], label="s does to the mean")
        with gr.Row():
            for letter in ("b", "s"):
                for end, value in (("start", 0.0), ("end", 1.0)):
                    made[f"{letter}_{end}"] = gr.Slider(
                        0.0, 1.0, value, step=0.01, label=f"{letter}: {end}", elem_id=f"{letter}_{end}", min_width=120
                    )
    return made


def slider_values(config: FreeUConfig) -> list[Any]:
    """Values of the inputs that a preset sets; a third stage that is not there is 1."""
    factors = dict.fromkeys(_FACTORS, 1.0)
    for number, stage in enumerate(config.stages, start=1):
        factors |= {f"b{number}": stage.b, f"s{number}": stage.s}
    gains = config.skip_gain_ends or (config.skip_gain, config.skip_gain)
    return [*factors.values(), config.version, config.profile, config.dc, *gains]


def request_from(given: dict[str, Any]) -> StudioRequest:
    """What the page's values mean.

    Raises:
        FreeUValueError: values that no slider gives, which may come from anybody.
    """
    stages = 2 if given["b3"] == given["s3"] == 1.0 else 3
    gains = given["gain_lowest"], given["gain_highest"]
    config = FreeUConfig(
        b=tuple(given[f"b{stage}"] for stage in range(1, stages + 1)),
        s=tuple(given[f"s{stage}"] for stage in range(1, stages + 1)),
        version=given["version"],
        profile=given["profile"],
        start=given["start"],
        end=given["end"],
        strength=given["strength"],
        b_window=(given["b_start"], given["b_end"]),
        s_window=(given["s_start"], given["s_end"]),
        dc=given["dc"],
        **({"skip_gain": gains[0]} if gains[0] == gains[1] else {"skip_gain_ends": gains}),
    )
    return StudioRequest(
        model=given["model"],
        prompt=given["prompt"],
        negative_prompt=given["negative_prompt"],
        seed=int(given["seed"] or 0),
        steps=int(given["steps"]),
        guidance=float(given["guidance"]),
        scheduler=None if given["scheduler"] == OWN else given["scheduler"],
        config=config,
    )

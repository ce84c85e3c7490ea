"""The extension's page and its place in a generation; everything else is in ``lib_freeu_exact``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from lib_freeu_exact.axes import axes
from lib_freeu_exact.generation import TITLE, after_batch, before_sampling
from lib_freeu_exact.hosts import Run
from lib_freeu_exact.settings import CUSTOM, Controls, of_preset, pasted, preset_names
from modules import script_callbacks, scripts

run = Run()


class FreeUExactScript(scripts.Script):
    """FreeU for every image of txt2img and img2img."""

    sorting_priority = 12

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        usual = Controls()
        with gr.Accordion(TITLE, open=False):
            with gr.Row():
                enabled = gr.Checkbox(value=False, label="Enable")
                preset = gr.Dropdown(preset_names(), value=CUSTOM, label="Preset")
            with gr.Row():
                b1 = gr.Slider(0.0, 2.0, usual.b1, step=0.01, label="b1: backbone, stage 1")
                b2 = gr.Slider(0.0, 2.0, usual.b2, step=0.01, label="b2: backbone, stage 2")
            with gr.Row():
                s1 = gr.Slider(0.0, 2.0, usual.s1, step=0.01, label="s1: skip, low frequencies, stage 1")
                s2 = gr.Slider(0.0, 2.0, usual.s2, step=0.01, label="s2: skip, low frequencies, stage 2")
            with gr.Row():
                version = gr.Radio([1, 2], value=usual.version, label="Version (2: structure-aware)")
                strength = gr.Slider(0.0, 1.0, usual.strength, step=0.01, label="Strength")
            with gr.Row():
                start = gr.Slider(0.0, 1.0, usual.start, step=0.01, label="Start, as a fraction of the steps")
                end = gr.Slider(0.0, 1.0, usual.end, step=0.01, label="End")
            more = gr.Textbox("", label="More settings", placeholder="b3=1.1 mask=radial dc=keep", lines=1)
        named = {
            "enabled": enabled,
            "b1": b1,
            "b2": b2,
            "s1": s1,
            "s2": s2,
            "version": version,
            "start": start,
            "end": end,
            "strength": strength,
            "more": more,
        }

        def choose(name: str) -> list[Any]:
            if name == CUSTOM:
                return [gr.update()] * len(named)
            values = of_preset(name)
            return [values[key] for key in named]

        preset.input(choose, [preset], list(named.values()), show_progress=False)
        self.infotext_fields = [(one, _reader(key)) for key, one in named.items()]
        self.paste_field_names = ["FreeU"]
        return list(named.values())

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        before_sampling(p, run, args)

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        after_batch(p, run)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        run.end()  # also after an interruption


def _reader(name: str) -> Any:
    return lambda found: pasted(name, found)


def _add_axes() -> None:
    for data in scripts.scripts_data:
        if Path(data.path).name == "xyz_grid.py" and hasattr(data.module, "axis_options"):
            data.module.axis_options.extend(axes(data.module.AxisOption))


script_callbacks.on_cfg_denoiser(lambda now: run.step(now.sampling_step, now.total_sampling_steps, now.sigma))
script_callbacks.on_before_ui(_add_axes)

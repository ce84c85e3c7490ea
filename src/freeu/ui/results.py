"""What the page shows of what was made."""

from __future__ import annotations

import hashlib
import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from freeu.analysis.plots import plotly_figure
from freeu.ui.actions import Shown
from freeu.ui.controls import Inputs, Labels
from freeu.ui.texts import say


class Results:
    """The components that show a pair; made where they are to stand on the page."""

    def __init__(self, labels: Labels) -> None:
        self.error = gr.HTML(elem_id="error", padding=False)
        self.pair = labels.add(
            gr.ImageSlider(
                label=say("pair", "en"),
                type="filepath",
                interactive=False,
                buttons=["fullscreen"],
                elem_id="pair",
                max_height=560,
            ),
            "pair",
        )
        self.said = gr.HTML(elem_id="said", padding=False)
        with gr.Row(elem_id="downloads"):
            self.saves = [
                labels.add(
                    gr.DownloadButton(say(key, "en"), size="sm", interactive=False, elem_id=key, min_width=150),
                    key,
                )
                for key in ("save_off", "save_on")
            ]
        self.gallery = labels.add(
            gr.Gallery(
                label=say("gallery", "en"),
                columns=6,
                fit_columns=False,
                height=200,
                object_fit="contain",
                allow_preview=False,
                interactive=False,
                buttons=[],
                elem_id="gallery",
            ),
            "gallery",
        )
        with labels.add(gr.Accordion(say("spectra", "en"), elem_id="group_spectra"), "spectra"):
            self.plot = gr.Plot(show_label=False, elem_id="spectra")
        with labels.add(gr.Accordion(say("copy", "en"), open=False, elem_id="copy"), "copy"):
            self.texts = {
                "python": gr.Code(label="Python", language="python", interactive=False, elem_id="python"),
                "json": gr.Code(label="JSON", language="json", interactive=False, elem_id="json"),
                "short": gr.Textbox(label=say("short", "en"), interactive=False, lines=1, elem_id="short"),
                "command": gr.Textbox(label=say("command", "en"), interactive=False, lines=2, elem_id="command"),
            }
            for key, component in self.texts.items():
                labels.add(component, key)

    @property
    def components(self) -> list[Any]:
        """All that ``of`` and ``failed`` change."""
        return [self.error, self.pair, self.said, *self.saves, self.gallery, self.plot, *self.texts.values()]

    def of(self, shown: Shown, gallery: Sequence[Shown], language: str) -> Inputs:
        """Everything that is shown of a pair."""
        values: dict[Any, Any] = {
            self.error: "",
            self.pair: shown.files,
            self.said: _said(shown, language),
            self.gallery: gr.update(value=[(one.files[1], one.caption) for one in gallery], selected_index=None),
            self.plot: _spectra(shown, language),
        }
        for save, file in zip(self.saves, shown.files, strict=True):
            values[save] = gr.update(value=file, interactive=True)
        return values | {component: shown.texts[key] for key, component in self.texts.items()}

    def failed(self, text: str) -> Inputs:
        """One line in one place."""
        return {self.error: f'<p role="alert">{html.escape(text)}</p>'}

    def told(self, text: str) -> Inputs:
        """The same for what is no error."""
        return {self.error: f'<p role="status">{html.escape(text)}</p>'}


def _said(shown: Shown, language: str) -> str:
    made = 2 - shown.remembered
    counted = say("made", language, made=made, seconds=shown.seconds) if made else say("there", language)
    seed = f"{say('seed_used', language)} <b>{shown.plan.seeds[0]}</b>"
    line = f"<p>{seed} · {html.escape(counted)} · <code>{html.escape(shown.texts['short'])}</code></p>"
    return line + "".join(f'<p class="note">{html.escape(note)}</p>' for note in shown.notes)


def _spectra(shown: Shown, language: str) -> Any:
    """The spectra of both images, named in the language of the page; its colours are those of the page's style."""
    figure = plotly_figure(shown.spectra)
    figure.update_layout(title=None, margin_t=16)
    figure.update_xaxes(title=say("frequency", language))
    figure.update_yaxes(title=say("amplitude", language))
    for line, key in zip(figure.data, ("baseline", "freeu"), strict=True):
        line.name = say(key, language)
    return figure


def saved(data: bytes, name: str, folder: Path) -> str:
    """Write a file where Gradio serves and forgets files, and give back its path.

    Args:
        data: its bytes; files of other bytes lie in other folders.
        name: what a download of it is called.
        folder: the cache.
    """
    place = folder / hashlib.sha256(data).hexdigest() / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        begun = place.with_suffix(f".{os.getpid()}.tmp")
        begun.write_bytes(data)
        begun.replace(place)
    return str(place)

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
from freeu.ui.voting.panel import Panel
from freeu.ui.voting.showing import Showing


class Results:
    """The components that show a pair; made where they are to stand on the page.

    Args:
        labels: what they are called.
        missing: what votes lack here, in a line; "" if nothing.
        lasting: whether votes outlive the studio.
    """

    def __init__(self, labels: Labels, missing: str, lasting: bool) -> None:
        self.error = gr.HTML(elem_id="error", padding=False)
        self.pair = gr.ImageSlider(
            label=label_of(None, "en"),
            type="filepath",
            interactive=False,
            buttons=["fullscreen"],
            elem_id="pair",
            max_height=560,
        )
        self.panel = Panel(labels, missing, lasting)
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

    def of(self, showing: Showing, gallery: Sequence[Shown], language: str) -> Inputs:
        """Everything that is shown of a pair; of one that is hidden, nothing that tells which image is which.

        Args:
            gallery: of the visitor, with this pair.
        """
        shown, hidden = showing.shown, showing.hidden
        past = [one for one in gallery if one != shown] if hidden else gallery
        values: dict[Any, Any] = {
            self.error: "",
            self.pair: gr.update(value=showing.files, label=showing.label(language)),
            self.said: _said(showing, language),
            self.gallery: gr.update(value=[(one.files[1], one.caption) for one in past], selected_index=None),
            self.plot: None if hidden else _spectra(shown, language),
        }
        for save, file in zip(self.saves, shown.files, strict=True):
            values[save] = gr.update(value=None if hidden else file, interactive=not hidden)
        return values | {component: "" if hidden else shown.texts[key] for key, component in self.texts.items()}

    def failed(self, text: str) -> Inputs:
        """One line in one place."""
        return {self.error: f'<p role="alert">{html.escape(text)}</p>'}

    def told(self, text: str) -> Inputs:
        """The same for what is no error."""
        return {self.error: f'<p role="status">{html.escape(text)}</p>'}


def label_of(showing: Showing | None, language: str) -> str:
    """What the two sides are called; before the first pair as most pairs are."""
    return showing.label(language) if showing is not None else f"{say('baseline', language)} | {say('freeu', language)}"


def _said(showing: Showing, language: str) -> str:
    shown = showing.shown
    made = 2 - shown.remembered
    counted = say("made", language, made=made, seconds=shown.seconds) if made else say("there", language)
    seed = f"{say('seed_used', language)} <b>{shown.plan.seeds[0]}</b>"
    settings = [shown.texts["short"]] if shown.against is None else [str(shown.against), shown.texts["short"]]
    if showing.hidden:
        settings = []
    elif showing.swapped:
        settings.reverse()
    words = " | ".join(f"<code>{html.escape(one)}</code>" for one in settings)
    line = f"<p>{' · '.join(filter(None, [seed, html.escape(counted), words]))}</p>"
    line += f"<p>{html.escape(shown.plan.prompts[0])}</p>" if showing.proposed else ""
    return line + "".join(f'<p class="note">{html.escape(note)}</p>' for note in shown.notes)


def _spectra(shown: Shown, language: str) -> Any:
    """The spectra of both images, named in the language of the page; its colours are those of the page's style."""
    figure = plotly_figure(shown.spectra)
    figure.update_layout(title=None, margin_t=16)
    figure.update_xaxes(title=say("frequency", language))
    figure.update_yaxes(title=say("amplitude", language))
    keys = ("baseline", "freeu") if shown.against is None else ("first", "second")
    for line, key in zip(figure.data, keys, strict=True):
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

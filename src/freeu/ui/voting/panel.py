"""The part of the page where a visitor votes, and where it stands what follows from his votes."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from freeu.tuning.votes.space import RANGES
from freeu.ui.controls import Inputs, Labels
from freeu.ui.texts import say
from freeu.ui.voting.showing import Showing
from freeu.ui.voting.standing import Standing

CHOICES = ("left", "tie", "right")
"""As they stand on the page, from left to right: keys 1, 2 and 3."""
KEYS = Path(__file__).parents[1] / "static" / "keys.js"


class Panel:
    """Buttons to vote with, and what the votes say; made where they are to stand on the page.

    Args:
        labels: what they are called.
        missing: what votes lack here, in a line, which then stands in their place; "" if nothing.
        lasting: whether votes outlive the studio.
    """

    def __init__(self, labels: Labels, missing: str, lasting: bool) -> None:
        self._missing, self._lasting = missing, lasting
        there = not missing
        with gr.Row(elem_id="vote_choices", visible=there):
            self.choices = {choice: _button(labels, f"vote_{choice}", interactive=False) for choice in CHOICES}
        self.told = gr.HTML(elem_id="vote_told", padding=False)
        self.standing = gr.HTML(self._line(None, "en"), elem_id="votes", padding=False)
        with gr.Row(elem_id="vote_next_row", visible=there):
            self.next = _button(labels, "vote_next")
            self.undo = _button(labels, "vote_undo", interactive=False)
            self.take = _button(labels, "vote_take", interactive=False)
            save = gr.DownloadButton(
                say("vote_save", "en"), size="sm", interactive=False, elem_id="vote_save", min_width=110
            )
            self.save = labels.add(save, "vote_save")
        with gr.Row(elem_id="vote_ways", visible=there):
            self.blind = _box(labels, "vote_blind")
            self.earlier = _box(labels, "vote_earlier")

    @property
    def of_pairs(self) -> list[Any]:
        """All that ``pair`` changes."""
        return [*self.choices.values(), self.told]

    @property
    def of_votes(self) -> list[Any]:
        """All that ``votes`` changes."""
        return [self.standing, self.undo, self.take, self.save]

    def pair(self, showing: Showing | None, language: str) -> Inputs:
        """Everything that depends on the pair that is shown.

        Args:
            showing: None before the first pair.
        """
        text = ""
        if showing is not None and not self._missing:
            if showing.shown.settings is None:
                text = f'<p class="note">{html.escape(say("vote_outside", language, **_ranges()))}</p>'
            elif showing.choice is not None:
                text = f"<p>{html.escape(say(f'voted_{showing.choice}', language))}</p>"
        open_ = showing is not None and showing.choice is None and showing.shown.settings is not None
        return {**{button: gr.update(interactive=open_) for button in self.choices.values()}, self.told: text}

    def votes(self, standing: Standing | None, preset: str | None, language: str) -> Inputs:
        """Everything that depends on the votes.

        Args:
            standing: None before the first vote.
            preset: the file to download; None where there is none.
        """
        voted = standing is not None and standing.votes > 0
        return {
            self.standing: self._line(standing, language),
            self.undo: gr.update(interactive=voted),
            self.take: gr.update(interactive=voted),
            self.save: gr.update(value=preset, interactive=preset is not None),
        }

    def _line(self, standing: Standing | None, language: str) -> str:
        if self._missing:
            return f"<p>{html.escape(say('vote_missing', language, missing=self._missing))}</p>"
        lines = [html.escape(say("vote_none", language))]
        if standing is not None and standing.settings is not None:
            chance, low, high = (round(100 * one) for one in standing.chance)
            found = " ".join(f"{name}={value:g}" for name, value in standing.settings.items())
            liked = "vote_liked" if standing.preset is not None else "vote_plain"
            lines = [
                html.escape(say("vote_count", language, count=standing.votes)),
                f"<code>{html.escape(found)}</code>",
                html.escape(say(liked, language, chance=chance, low=low, high=high)),
            ]
        text = f"<p>{' '.join(lines)}</p>"
        return text if self._lasting else f"{text}<p>{html.escape(say('vote_forgotten', language))}</p>"


def _ranges() -> dict[str, str]:
    """Where votes search, by the words of the text that says it."""
    names = {"b": "b1", "s": "s1", "gain": "skip_gain"}
    return {word: f"{RANGES[name][0][0]:g}–{RANGES[name][0][1]:g}" for word, name in names.items()}


def _button(labels: Labels, name: str, interactive: bool = True) -> Any:
    button = gr.Button(say(name, "en"), size="sm", elem_id=name, min_width=90, interactive=interactive)
    return labels.add(button, name, "value")


def _box(labels: Labels, name: str) -> Any:
    box = gr.Checkbox(False, label=say(name, "en"), elem_id=name, container=False, min_width=130)
    return labels.add(box, name)

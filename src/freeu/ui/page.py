"""The studio's page, made with Gradio: where things stand, and what happens on each click."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from freeu.errors import FreeUError
from freeu.pipelines.runs.run import png
from freeu.presets import presets
from freeu.ui import actions, controls
from freeu.ui.actions import CUSTOM, OF_PRESETS, RECOMMENDED, Running, Shown, Stopped
from freeu.ui.controls import OF_FREEU, Labels
from freeu.ui.results import Results, label_of, saved
from freeu.ui.studio import Studio
from freeu.ui.texts import LANGUAGES, preferred, say
from freeu.ui.voting.panel import KEYS
from freeu.ui.voting.showing import Showing, blindly, openly
from freeu.ui.voting.standing import Standing, preset_file

if TYPE_CHECKING:
    from freeu.ui.voting.votes import Votes

BLIND = "image.png"
"""What files are called whose image must not be told."""
MAX_WAITING = 32
CACHE = (3_600, 86_400)
"""Seconds between two looks into Gradio's cache of images, and the age at which it forgets one."""
MAX_UPLOAD = "2gb"
"""LoRAs of SDXL take up to that."""
STYLE = Path(__file__).parent / "static" / "studio.css"
# Gradio's own checks of values raise errors that cover every pane; what uses the values says more, in one line.
_AS_SENT: dict[str, Any] = {"preprocess": False}
_TOGETHER: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "generating", "api_visibility": "private"}
_QUIETLY: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_NO_QUEUE: dict[str, Any] = {**_QUIETLY, "queue": False}

Changes = dict[Any, Any]
"""Components with their new values."""


class Page:
    """The page for a studio.

    Args:
        studio: generates.
        note: a line on the models.
        votes: of the visitors; a text says in a line why there can be none.
    """

    def __init__(self, studio: Studio, note: str, votes: Votes | str) -> None:
        self.studio = studio
        self._votes = None if isinstance(votes, str) else votes
        self._running, self._labels = Running(), Labels()
        own = studio.defaults(studio.models[0])
        labels = self._labels
        missing = votes if isinstance(votes, str) else ""
        with gr.Blocks(title="freeu studio", analytics_enabled=False, delete_cache=CACHE, fill_width=True) as blocks:
            with gr.Row(elem_id="head"):
                about = gr.Markdown(f"# freeu studio\n{say('about', 'en')} {note}", elem_id="about")
                labels.also(about, lambda language: {"value": f"# freeu studio\n{say('about', language)} {note}"})
                self.language = gr.Radio(
                    [(name, key) for key, name in LANGUAGES.items()],
                    value="en",
                    show_label=False,
                    container=False,
                    elem_id="language",
                    min_width=150,
                )
            with gr.Row(elem_id="bar"):
                prompt = controls.prompt_box(labels, studio)
                with gr.Column(scale=1, min_width=200, elem_id="buttons"):
                    self._go = gr.Button(say("generate", "en"), variant="primary", elem_id="generate", min_width=90)
                    self._stop = gr.Button(say("stop", "en"), variant="stop", elem_id="stop", min_width=90)
                    labels.add(self._go, "generate", "value")
                    labels.add(self._stop, "stop", "value")
            with gr.Row(elem_id="main"):
                with gr.Column(scale=3, min_width=320):
                    self.results = Results(labels, missing, self._votes is None or self._votes.lasting)
                with gr.Column(scale=2, min_width=320, elem_id="controls"):
                    with labels.add(gr.Accordion(say("group_freeu", "en"), elem_id="group_freeu"), "group_freeu"):
                        freeu = controls.freeu_inputs(labels, own)
                    with labels.add(gr.Accordion(say("group_image", "en"), elem_id="group_image"), "group_image"):
                        history = gr.Dropdown([], value=None, label=say("history", "en"), elem_id="history")
                        self._history = labels.add(history, "history")
                        image = controls.image_inputs(labels, studio, own)
                    start = controls.start_inputs(labels)
                    control = controls.control_inputs(labels, studio.controls)
                    lora = controls.lora_inputs(labels)
            self._dice, self._reuse = image.pop("dice"), image.pop("reuse")
            self.inputs = {"prompt": prompt} | image | freeu | start | control | lora
            self._seen = gr.State([], time_to_live=CACHE[1])
            self._now = gr.State(None, time_to_live=CACHE[1])
            self._standing = gr.State(None, time_to_live=CACHE[1])
            # Kept by the browser, under a name that outlives the server; nothing of it is kept here.
            self._prompts = gr.BrowserState([], storage_key="freeu-prompts", secret="freeu-studio")
            self._chosen = gr.BrowserState("", storage_key="freeu-language", secret="freeu-studio")
            self._voter = gr.BrowserState("", storage_key="freeu-voter", secret="freeu-studio")
            self._folder = Path(self.results.pair.GRADIO_CACHE)
            self._generating()
            self._choosing()
            if self._votes is not None:
                self._voting(self._votes)
            self._speaking(blocks)
        self.blocks = blocks.queue(max_size=MAX_WAITING, api_open=False)

    # -- generating --------------------------------------------------------------------------------------------------

    def _generating(self) -> None:
        panel = self.results.panel
        given = {*self.inputs.values(), self._seen, self._prompts, self.language}
        given |= {self._voter, panel.blind, panel.earlier}
        changed = [*self.results.components, *panel.of_pairs, self._seen, self._prompts, self._history, self._now]

        def generate(data: Changes, request: gr.Request, progress: gr.Progress = gr.Progress()) -> Iterator[Changes]:  # noqa: B008
            yield from self._run(self._form(data), data, str(request.session_hash), progress)

        def propose(data: Changes, request: gr.Request, progress: gr.Progress = gr.Progress()) -> Iterator[Changes]:  # noqa: B008
            yield from self._run(self._form(data), data, str(request.session_hash), progress, proposed=True)

        def released(data: Changes, request: gr.Request, progress: gr.Progress = gr.Progress()) -> Iterator[Changes]:  # noqa: B008
            form = self._form(data)
            ready = actions.live(form, data[self._seen], self.studio.pair_seconds(str(form["model"])))
            if ready is None:
                yield {self._seen: gr.skip()}
            else:
                yield from self._run(ready, data, str(request.session_hash), progress)

        shown: dict[str, Any] = {
            **_TOGETHER,
            "show_progress": "full",
            "show_progress_on": self.results.pair,
            **_AS_SENT,
        }
        started = [
            gr.on([self._go.click, self.inputs["prompt"].submit], generate, given, changed, **shown),
            gr.on(
                [getattr(self.inputs[name], _settled(self.inputs[name])) for name in OF_FREEU],
                released,
                given,
                changed,
                trigger_mode="always_last",
                **shown,
            ),
        ]

        def choose(name: str, model: str) -> Changes:
            try:
                if name not in (RECOMMENDED, *presets()):
                    return {self.results.error: ""}
                config = self.studio.defaults(model).config if name == RECOMMENDED else presets()[name].config
            except FreeUError as reason:
                return self.results.failed(actions.one_line(reason, self._folder))
            return dict(zip(moved, actions.slider_values(config), strict=True))

        def take(standing: Any, model: str, language: str) -> Changes:
            if self._votes is None or standing is None or standing.settings is None:
                return {self.results.error: ""}
            values = self._votes.liked(standing, model) | {"preset": CUSTOM}
            return self.results.told(say("vote_taken", language)) | {
                self.inputs[name]: value for name, value in values.items()
            }

        taken = [*(self.inputs[name] for name in ("preset", *OF_FREEU)), self.results.error]
        liked = panel.take.click(take, [self._standing, self.inputs["model"], self.language], taken, **_NO_QUEUE)
        started += [
            panel.next.click(propose, given, changed, **shown),
            liked.then(released, given, changed, trigger_mode="always_last", **shown),
        ]

        preset, moved = self.inputs["preset"], [self.inputs[name] for name in OF_PRESETS]
        chosen = preset.input(choose, [preset, self.inputs["model"]], [*moved, self.results.error], **_QUIETLY)
        started.append(chosen.then(released, given, changed, trigger_mode="always_last", **shown))

        def stop(language: str, request: gr.Request) -> Changes:
            self._running.stop(str(request.session_hash))
            return self.results.told(say("stopped", language))

        self._stop.click(stop, self.language, self.results.error, cancels=started, **_NO_QUEUE)

    def _run(
        self, form: dict[str, Any], data: Changes, session: str, progress: Any, proposed: bool = False
    ) -> Iterator[Changes]:
        """Generate a form, image by image, or the pair that votes propose for it; the page follows."""
        language, gallery, run = data[self.language], data[self._seen], self._running.begin(session)
        prompts = actions.remembered_prompts(data[self._prompts], str(form["prompt"] or ""))
        try:
            votes, voter = self._votes, str(data[self._voter] or session)
            if votes is not None and proposed:
                todo = [votes.proposed(voter, form, prompts, bool(data[self.results.panel.earlier]))]
            else:
                todo = actions.requests_from(form)
            yield {self.results.error: ""}
            for number, (alone, asked) in enumerate(todo, start=1):
                tell = _teller(progress, run, language, number, len(todo))
                began = time.perf_counter()
                if votes is not None and proposed:
                    pair = votes.pair(voter, asked, tell)
                else:
                    pair = self.studio.pair(asked, tell)
                files = (
                    saved(pair.png("baseline"), pair.file_name("baseline"), self._folder),
                    saved(pair.png("freeu"), pair.file_name("freeu"), self._folder),
                )
                seconds = time.perf_counter() - began
                texts, spectra = pair.texts(), pair.spectra()
                settings = votes.settings(asked) if votes is not None else None
                new = Shown(
                    alone,
                    pair.plan,
                    files,
                    seconds,
                    pair.remembered,
                    pair.notes,
                    texts,
                    spectra,
                    asked.against,
                    settings,
                )
                gallery = actions.entered(gallery, new)
                showing = openly(new, proposed)
                if settings is not None and (proposed or data[self.results.panel.blind]):
                    plain = (saved(png(image), BLIND, self._folder) for image in (pair.off, pair.on))
                    showing = blindly(new, (next(plain), next(plain)), proposed)
                kept = {self._seen: gallery, self._prompts: prompts, self._history: gr.update(choices=prompts)}
                # The votes may have changed since this run began: what they say is left as it is.
                kept |= self.results.panel.pair(showing, language) | {self._now: showing}
                yield self.results.of(showing, gallery, language) | kept
        except Stopped:
            yield self.results.told(say("stopped", language))
        except FreeUError as error:
            yield self.results.failed(actions.one_line(error, self._folder))

    def _form(self, data: Changes) -> dict[str, Any]:
        return {name: _plain(component, data[component]) for name, component in self.inputs.items()}

    # -- choosing ----------------------------------------------------------------------------------------------------

    def _choosing(self) -> None:
        inputs, error = self.inputs, self.results.error
        moved = [inputs[name] for name in OF_PRESETS]

        for one in moved:
            one.input(lambda: CUSTOM, None, inputs["preset"], **_NO_QUEUE)

        def change(data: Changes, request: gr.Request) -> Changes:
            model, language = data[inputs["model"]], data[self.language]
            try:
                own = self.studio.defaults(model)
                standing = self._counted(str(data[self._voter] or request.session_hash), model)
            except FreeUError as reason:
                return self.results.failed(actions.one_line(reason, self._folder))
            values = dict(zip(moved, actions.slider_values(own.config), strict=True))
            values |= {inputs["steps"]: own.steps, inputs["guidance"]: own.guidance, inputs["preset"]: RECOMMENDED}
            size = gr.update(value=own.side, step=own.multiple)
            values |= {inputs["width"]: size, inputs["height"]: size, error: ""}
            return values | self._stand(None, standing, language)

        names = ("model", "steps", "guidance", "preset", "width", "height")
        changed = [*(inputs[name] for name in names), *moved, error, *self._stands]
        inputs["model"].input(change, {inputs["model"], self.language, self._voter}, changed, **(_TOGETHER | _QUIETLY))

        def fit(image: Any, model: str) -> Changes:
            path = actions.uploaded(image)
            try:
                size = self.studio.fitted(model, path) if path else (self.studio.defaults(model).side,) * 2
            except FreeUError as reason:
                return self.results.failed(actions.one_line(reason, self._folder))
            return {inputs["width"]: size[0], inputs["height"]: size[1], error: ""}

        given, sized = [inputs["image"], inputs["model"]], [inputs["width"], inputs["height"], error]
        gr.on([inputs["image"].upload, inputs["image"].clear], fit, given, sized, **_QUIETLY, **_AS_SENT)

        self._dice.click(lambda: "-1", None, inputs["seed"], **_NO_QUEUE)

        def reuse(gallery: list[Shown], language: str) -> Changes:
            if not gallery:
                return self.results.told(say("nothing_yet", language))
            return {inputs["seed"]: gallery[0].form["seed"], error: ""}

        self._reuse.click(reuse, [self._seen, self.language], [inputs["seed"], error], **_NO_QUEUE)
        self._history.input(lambda text: text, self._history, inputs["prompt"], **_NO_QUEUE)

        def restore(data: Changes, event: gr.SelectData, request: gr.Request) -> Changes:
            language, now, gallery = data[self.language], data[self._now], data[self._seen]
            offered = [one for one in gallery if now is None or not now.hidden or one != now.shown]
            if not isinstance(event.index, int) or not 0 <= event.index < len(offered):
                return {error: ""}
            shown = offered[event.index]
            try:
                standing = self._counted(str(data[self._voter] or request.session_hash), shown.form["model"])
            except FreeUError as reason:
                return self.results.failed(actions.one_line(reason, self._folder))
            showing = openly(shown)
            form = {inputs[name]: value for name, value in shown.form.items() if name not in ("live", "model")}
            return (
                {inputs["model"]: shown.form["model"]}
                | form
                | self.results.of(showing, gallery, language)
                | self.results.told(say("from_gallery", language))
                | self._stand(showing, standing, language)
            )

        self.results.gallery.select(
            restore,
            {self._seen, self._now, self._voter, self.language},
            [*inputs.values(), *self.results.components, *self._stands],
            **_QUIETLY,
        )

    # -- votes -------------------------------------------------------------------------------------------------------

    def _voting(self, votes: Votes) -> None:
        panel, error = self.results.panel, self.results.error
        given = {self._now, self._standing, self._voter, self._seen, self.language, self.inputs["model"]}

        def voted(choice: str) -> Any:
            def vote(data: Changes, request: gr.Request) -> Changes:
                showing, language = data[self._now], data[self.language]
                if showing is None or showing.choice is not None or showing.shown.settings is None:
                    return {error: ""}
                try:
                    standing = votes.vote(str(data[self._voter] or request.session_hash), showing, choice)
                except FreeUError as reason:
                    return self.results.failed(actions.one_line(reason, self._folder))
                told = showing.voted(choice)
                changes = self.results.of(told, data[self._seen], language) if showing.hidden else {error: ""}
                return changes | self._stand(told, standing, language)

            return vote

        for choice, button in panel.choices.items():
            button.click(voted(choice), given, [*self.results.components, *self._stands], **_NO_QUEUE)

        def undo(data: Changes, request: gr.Request) -> Changes:
            showing, language = data[self._now], data[self.language]
            try:
                standing = votes.undo(str(data[self._voter] or request.session_hash), data[self.inputs["model"]])
            except FreeUError as reason:
                return self.results.failed(actions.one_line(reason, self._folder))
            if standing is None:
                return {error: ""}
            again = showing.again() if showing is not None and showing.choice is not None else showing
            return self._stand(again, standing, language) | self.results.told(say("vote_undone", language))

        panel.undo.click(undo, given, [error, *self._stands], **_NO_QUEUE)

    @property
    def _stands(self) -> list[Any]:
        """What ``_stand`` changes."""
        panel = self.results.panel
        return [*panel.of_pairs, *panel.of_votes, self._now, self._standing]

    def _stand(self, showing: Showing | None, standing: Standing | None, language: str) -> Changes:
        """The pair that a visitor has before him, and what his votes say."""
        found = preset_file(standing)
        preset = saved(*found, self._folder) if found is not None else None
        panel = self.results.panel
        changes = panel.pair(showing, language) | panel.votes(standing, preset, language)
        return changes | {self._now: showing, self._standing: standing}

    def _counted(self, voter: str, model: str) -> Standing | None:
        """What a visitor's votes on a model say."""
        return self._votes.standing(voter, model) if self._votes is not None else None

    # -- languages ---------------------------------------------------------------------------------------------------

    def _speaking(self, blocks: gr.Blocks) -> None:
        labels = list(dict.fromkeys([*self._labels.components, self.results.pair, *self._stands]))

        def first(chosen: str, prompts: list[Any], voter: str, model: str, request: gr.Request) -> Changes:
            language = chosen if chosen in LANGUAGES else preferred(request.headers.get("accept-language", ""))
            voter = voter if re.fullmatch("[0-9a-f]{32}", str(voter)) else secrets.token_hex(16)
            kept = actions.remembered_prompts(prompts, "")[1:]
            changes = {self.language: language, self._voter: voter, self._history: gr.update(choices=kept)}
            try:
                standing = self._counted(voter, model)
            except FreeUError as reason:
                standing = None
                changes |= self.results.failed(actions.one_line(reason, self._folder))
            # The page is sent in English.
            spoken = self._spoken(language, None, standing) if language != "en" else self._stand(None, standing, "en")
            return _merged(changes, spoken)

        blocks.load(
            first,
            [self._chosen, self._prompts, self._voter, self.inputs["model"]],
            [*labels, self.language, self._voter, self.results.error],
            **_NO_QUEUE,
        )

        def switch(language: str, showing: Showing | None, standing: Standing | None) -> Changes:
            return self._spoken(language, showing, standing) | {self._chosen: language}

        self.language.input(switch, [self.language, self._now, self._standing], [*labels, self._chosen], **_NO_QUEUE)
        blocks.unload(self._left)

    def _spoken(self, language: str, showing: Showing | None, standing: Standing | None) -> Changes:
        """Every text in a language."""
        pair = {self.results.pair: gr.update(label=label_of(showing, language))}
        return _merged(self._labels.updates(language), pair | self._stand(showing, standing, language))

    def _left(self, request: gr.Request) -> None:
        """A visitor has closed the page: what he had running ends."""
        self._running.stop(str(request.session_hash))


def _merged(changes: Changes, others: Changes) -> Changes:
    """Both; what they change of one component is put together."""
    both = {one: {**changes[one], **others[one]} for one in changes.keys() & others.keys()}
    return changes | others | both


def _plain(component: Any, value: Any) -> Any:
    """What a slider shows of a number that was typed beside it; the path of a file; other values as they are."""
    if isinstance(component, (gr.Image, gr.File)):
        path = actions.uploaded(value)
        return str(path) if path else None
    if isinstance(component, gr.Slider) and isinstance(value, (int, float)):
        return min(max(value, component.minimum), component.maximum)
    return value


def _settled(component: Any) -> str:
    """The event that tells that a visitor has settled on a value."""
    return "release" if isinstance(component, gr.Slider) else "input"


def _teller(progress: Any, run: threading.Event, language: str, number: int, count: int) -> Any:
    """Shows the progress of one image of a batch, and ends it when its visitor has stopped it."""

    def tell(what: str, done: float) -> None:
        if run.is_set():
            raise Stopped
        text = say(what, language)
        text = say("of_batch", language, number=number, count=count, what=text) if count > 1 else text
        progress(done, desc=text)

    return tell


def serve(page: Page, host: str, port: int, browser: bool = False) -> str:
    """Begin to serve a page, and give back its address.

    Args:
        host, port: where to listen; port 0 takes a free one.
        browser: open it.

    Raises:
        OSError: the port is taken, or the address is not of this machine.
    """
    _, url, _ = page.blocks.launch(
        server_name=host,
        server_port=port or None,
        inbrowser=browser,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=True,
        footer_links=[],
        allowed_paths=[],
        max_file_size=MAX_UPLOAD,
        css_paths=STYLE,
        head=f"<script>{KEYS.read_text()}</script>",
    )
    return str(url)

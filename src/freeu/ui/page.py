"""The studio's page, made with Gradio: where things stand, and what happens on each click."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from freeu.errors import FreeUError
from freeu.presets import presets
from freeu.ui import actions, controls
from freeu.ui.actions import CUSTOM, OF_PRESETS, RECOMMENDED, Running, Shown, Stopped
from freeu.ui.controls import OF_FREEU, Labels
from freeu.ui.results import Results, saved
from freeu.ui.studio import Studio
from freeu.ui.texts import LANGUAGES, preferred, say

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
    """

    def __init__(self, studio: Studio, note: str = "") -> None:
        self.studio = studio
        self._running, self._labels = Running(), Labels()
        own = studio.defaults(studio.models[0])
        labels = self._labels
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
                    self.results = Results(labels)
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
            # Kept by the browser, under a name that outlives the server; nothing of it is kept here.
            self._prompts = gr.BrowserState([], storage_key="freeu-prompts", secret="freeu-studio")
            self._chosen = gr.BrowserState("", storage_key="freeu-language", secret="freeu-studio")
            self._folder = Path(self.results.pair.GRADIO_CACHE)
            self._generating()
            self._choosing()
            self._speaking(blocks)
        self.blocks = blocks.queue(max_size=MAX_WAITING, api_open=False)

    # -- generating --------------------------------------------------------------------------------------------------

    def _generating(self) -> None:
        given = {*self.inputs.values(), self._seen, self._prompts, self.language}
        changed = [*self.results.components, self._seen, self._prompts, self._history]

        def generate(data: Changes, request: gr.Request, progress: gr.Progress = gr.Progress()) -> Iterator[Changes]:  # noqa: B008
            yield from self._run(self._form(data), data, str(request.session_hash), progress)

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

        preset, moved = self.inputs["preset"], [self.inputs[name] for name in OF_PRESETS]
        chosen = preset.input(choose, [preset, self.inputs["model"]], [*moved, self.results.error], **_QUIETLY)
        started.append(chosen.then(released, given, changed, trigger_mode="always_last", **shown))

        def stop(language: str, request: gr.Request) -> Changes:
            self._running.stop(str(request.session_hash))
            return self.results.told(say("stopped", language))

        self._stop.click(stop, self.language, self.results.error, cancels=started, **_NO_QUEUE)

    def _run(self, form: dict[str, Any], data: Changes, session: str, progress: Any) -> Iterator[Changes]:
        """Generate a form, image by image; the page follows."""
        language, gallery, run = data[self.language], data[self._seen], self._running.begin(session)
        prompts = actions.remembered_prompts(data[self._prompts], str(form["prompt"] or ""))
        try:
            todo = actions.requests_from(form)
            yield {self.results.error: ""}
            for number, (alone, asked) in enumerate(todo, start=1):
                tell = _teller(progress, run, language, number, len(todo))
                began = time.perf_counter()
                pair = self.studio.pair(asked, tell)
                files = (
                    saved(pair.png("baseline"), pair.file_name("baseline"), self._folder),
                    saved(pair.png("freeu"), pair.file_name("freeu"), self._folder),
                )
                seconds = time.perf_counter() - began
                texts, spectra = pair.texts(), pair.spectra()
                new = Shown(alone, pair.plan, files, seconds, pair.remembered, pair.notes, texts, spectra)
                gallery = actions.entered(gallery, new)
                kept = {self._seen: gallery, self._prompts: prompts, self._history: gr.update(choices=prompts)}
                yield self.results.of(new, gallery, language) | kept
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

        def change(model: str) -> Changes:
            try:
                own = self.studio.defaults(model)
            except FreeUError as reason:
                return self.results.failed(actions.one_line(reason, self._folder))
            values = dict(zip(moved, actions.slider_values(own.config), strict=True))
            values |= {inputs["steps"]: own.steps, inputs["guidance"]: own.guidance, inputs["preset"]: RECOMMENDED}
            size = gr.update(value=own.side, step=own.multiple)
            return values | {inputs["width"]: size, inputs["height"]: size, error: ""}

        names = ("model", "steps", "guidance", "preset", "width", "height")
        inputs["model"].input(
            change, inputs["model"], [*(inputs[name] for name in names), *moved, error], **(_TOGETHER | _QUIETLY)
        )

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

        def restore(gallery: list[Shown], language: str, event: gr.SelectData) -> Changes:
            if not isinstance(event.index, int) or not 0 <= event.index < len(gallery):
                return {error: ""}
            shown = gallery[event.index]
            form = {inputs[name]: value for name, value in shown.form.items() if name not in ("live", "model")}
            return (
                {inputs["model"]: shown.form["model"]}
                | form
                | self.results.of(shown, gallery, language)
                | self.results.told(say("from_gallery", language))
            )

        self.results.gallery.select(
            restore, [self._seen, self.language], [*inputs.values(), *self.results.components], **_QUIETLY
        )

    # -- languages ---------------------------------------------------------------------------------------------------

    def _speaking(self, blocks: gr.Blocks) -> None:
        labels = list(dict.fromkeys(self._labels.components))

        def first(chosen: str, prompts: list[Any], request: gr.Request) -> Changes:
            language = chosen if chosen in LANGUAGES else preferred(request.headers.get("accept-language", ""))
            changes = self._labels.updates(language) if language != "en" else {}
            changes[self.language] = language
            kept = actions.remembered_prompts(prompts, "")[1:]
            return changes | {self._history: gr.update(label=say("history", language), choices=kept)}

        blocks.load(first, [self._chosen, self._prompts], [*labels, self.language], **_NO_QUEUE)

        def switch(language: str) -> Changes:
            return self._labels.updates(language) | {self._chosen: language}

        self.language.input(switch, self.language, [*labels, self._chosen], **_NO_QUEUE)
        blocks.unload(self._left)

    def _left(self, request: gr.Request) -> None:
        """A visitor has closed the page: what he had running ends."""
        self._running.stop(str(request.session_hash))


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
    )
    return str(url)

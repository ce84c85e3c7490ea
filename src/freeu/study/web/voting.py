"""Voting: the page, its plain form, and the same as JSON for the script."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from freeu.study.plan.plan import Task
from freeu.study.store.records import Receipt
from freeu.study.store.standing import Standing
from freeu.study.web.pages import Csrf, answers
from freeu.study.web.site import Site, Visit, go
from freeu.study.web.texts import SCRIPT, TEXTS

MOST_SECONDS = 86_400.0
Choice = Literal["left", "right", "tie"]
TaskId = Annotated[str, Field(max_length=64, description="Opaque id of the task.")]
Revision = Annotated[int, Field(ge=0, le=1_000, description="How often the task was taken back.")]


class Shown(BaseModel):
    """The task to answer now. Nothing here tells who made which image, or whether this is a check."""

    task: str
    revision: int
    prompt: str
    question: str
    left: str
    right: str
    media: str
    width: int
    height: int


class Following(BaseModel):
    """What to load ahead."""

    left: str
    right: str
    media: str


class Last(BaseModel):
    """The answer that an undo would take back."""

    task: str
    revision: int


class State(BaseModel):
    """How far a rater has come, and what is next."""

    done: int
    total: int
    task: Shown | None
    following: Following | None
    undo: Last | None


class Ballot(BaseModel):
    """An answer. Sent again, it is acknowledged again and counted once."""

    model_config = ConfigDict(extra="forbid")
    task: TaskId
    revision: Revision
    choice: Choice
    seconds: Annotated[float, Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False, description="Since both were shown.")]


class Undo(BaseModel):
    """Take an answer back."""

    model_config = ConfigDict(extra="forbid")
    task: TaskId
    revision: Revision


class Acknowledged(BaseModel):
    """What is on disk now, and the state after it."""

    outcome: Literal["counted", "undone", "conflict", "stale"]
    choice: Literal["left", "right", "tie", ""]
    state: State


class Problem(BaseModel):
    """Why not."""

    error: str


def _problems(*statuses: int) -> dict[int | str, dict[str, object]]:
    page = answers(*statuses)
    found: dict[int | str, dict[str, object]] = {
        status: {"description": one["description"], "model": Problem} for status, one in page.items()
    }
    return found


def state_of(site: Site, visit: Visit, at: Standing) -> State:
    """The state that a rater may see."""
    assert visit.rater is not None
    tasks = site.store.tasks(visit.rater)
    shown = following = last = None
    if at.done < len(tasks):
        task = tasks[at.done]
        left, right = (site.plan.item(name) for name in sides(site, task))
        question = next(one for one in site.plan.questions if one.name == task.question)
        shown = Shown(
            task=task.id,
            revision=at.revision,
            prompt=site.plan.prompts[left.prompt],
            question=question.text[visit.language],
            left=left.id,
            right=right.id,
            media=left.media,
            # One size for both: that of a single file could differ by its maker.
            width=max(left.width, right.width),
            height=max(left.height, right.height),
        )
    if at.done + 1 < len(tasks):
        names = sides(site, tasks[at.done + 1])
        following = Following(left=names[0], right=names[1], media=site.plan.item(names[0]).media)
    if at.undoable:
        last = Last(task=tasks[at.undoable[0]].id, revision=at.undoable[1])
    return State(done=at.done, total=len(tasks), task=shown, following=following, undo=last)


def sides(site: Site, task: Task) -> tuple[str, str]:
    """Ids of the items on the left and on the right."""
    pair = site.plan.pair(task.pair)
    return (pair.first, pair.second) if task.first_left else (pair.second, pair.first)


def routes(site: Site) -> APIRouter:
    """The routes of voting."""
    router = APIRouter()

    @router.get("/vote", response_class=HTMLResponse, responses=answers(303), summary="The voting page")
    def page(request: Request) -> Response:
        visit = site.visit(request)
        if not visit.taking_part or visit.standing is None:
            return go(request, "/")
        state = state_of(site, visit, visit.standing)
        if state.task is None:
            return go(request, "/done")
        words = {name: TEXTS[visit.language][name] for name in SCRIPT}
        since = _since(site, visit, state.task.task, state.task.revision, time.time_ns() // 1_000_000)
        return site.page(
            request, visit, "vote.html", at="/vote", state=state, data=state.model_dump(), words=words, since=since
        )

    @router.post("/vote", response_class=HTMLResponse, responses=answers(303, 401, 403, 422), summary="Vote by form")
    def voted(
        request: Request,
        task: Annotated[TaskId, Form()],
        revision: Annotated[Revision, Form()],
        choice: Annotated[Choice, Form()],
        since: Annotated[str, Form(max_length=120)],
        csrf: Csrf = "",
    ) -> Response:
        visit = _rater(request, csrf)
        stamp = since.partition(".")[0]
        if not (stamp.isascii() and stamp.isdecimal()) or _since(site, visit, task, revision, int(stamp[:20])) != since:
            raise HTTPException(403)
        seconds = min(MOST_SECONDS, max(0.0, time.time() - int(stamp) / 1_000))
        _vote(visit, Ballot(task=task, revision=revision, choice=choice, seconds=seconds))
        return go(request, "/vote")

    @router.post("/undo", response_class=HTMLResponse, responses=answers(303, 401, 403, 422), summary="Undo by form")
    def undone(
        request: Request, task: Annotated[TaskId, Form()], revision: Annotated[Revision, Form()], csrf: Csrf = ""
    ) -> Response:
        visit = _rater(request, csrf)
        assert visit.rater is not None
        site.store.undo(visit.rater, task, revision)
        return go(request, "/vote")

    @router.get("/done", response_class=HTMLResponse, responses=answers(303), summary="The last page")
    def done(request: Request) -> Response:
        visit = site.visit(request)
        if not visit.taking_part or visit.standing is None:
            return go(request, "/")
        state = state_of(site, visit, visit.standing)
        if state.task is not None:
            return go(request, "/vote")
        return site.page(request, visit, "done.html", at="/done", state=state)

    @router.get("/api/state", response_model=State, responses=_problems(401), summary="What to answer now")
    def state(request: Request) -> State:
        visit = site.visit(request)
        if not visit.taking_part or visit.standing is None:
            raise HTTPException(401)
        return state_of(site, visit, visit.standing)

    responses = _problems(400, 401, 403, 422) | {
        409: {
            "description": "Another answer was there first, or another task is to be answered.",
            "model": Acknowledged,
        }
    }

    @router.post("/api/vote", response_model=Acknowledged, responses=responses, summary="Vote")
    def vote(request: Request, ballot: Ballot) -> Response:
        visit = _rater(request, "")
        return _acknowledge(visit, _vote(visit, ballot))

    @router.post("/api/undo", response_model=Acknowledged, responses=responses, summary="Undo the last vote")
    def undo(request: Request, wish: Undo) -> Response:
        visit = _rater(request, "")
        assert visit.rater is not None
        return _acknowledge(visit, site.store.undo(visit.rater, wish.task, wish.revision))

    def _rater(request: Request, csrf: str) -> Visit:
        visit = site.visit(request)
        if not visit.taking_part or visit.rater is None:
            raise HTTPException(401)
        site.check(request, visit.value, csrf)
        site.limit("vote", visit.rater.id)
        return visit

    def _vote(visit: Visit, ballot: Ballot) -> Receipt:
        assert visit.rater is not None
        if ballot.choice == "tie" and not site.plan.ties:
            raise HTTPException(422)
        return site.store.vote(visit.rater, ballot.task, ballot.revision, ballot.choice, ballot.seconds)

    def _acknowledge(visit: Visit, receipt: Receipt) -> Response:
        state = state_of(site, visit, receipt.standing).model_dump()
        data = {"outcome": receipt.outcome, "choice": receipt.choice, "state": state}
        return JSONResponse(data, 200 if receipt.outcome in ("counted", "undone") else 409)

    return router


def _since(site: Site, visit: Visit, task: str, revision: int, milliseconds: int) -> str:
    """When a page without script was sent, signed: nobody can claim to have looked for longer or shorter."""
    text = f"{visit.value}|{task}|{revision}|{milliseconds}"
    return f"{milliseconds}.{site.keys.sign('since', text)[:32]}"

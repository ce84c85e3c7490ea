"""Voting: the page, its form without script, and the JSON API for the script."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from freeu.study.plan.plan import Task
from freeu.study.store.progress import RaterProgress
from freeu.study.store.records import Receipt
from freeu.study.web.pages import Csrf, documented
from freeu.study.web.site import Site, Visit, redirect
from freeu.study.web.texts import SCRIPT, TEXTS

MOST_SECONDS = 86_400.0
Choice = Literal["left", "right", "tie"]
TaskId = Annotated[str, Field(max_length=64, description="Random id of the task.")]
Revision = Annotated[int, Field(ge=0, le=1_000, description="How often the task was undone.")]


class CurrentTask(BaseModel):
    """The task to answer now. It reveals neither the arms nor whether this is a check."""

    task: str
    revision: int
    prompt: str
    question: str
    left: str
    right: str
    media: str
    width: int
    height: int


class NextMedia(BaseModel):
    """The media of the next task, for preloading."""

    left: str
    right: str
    media: str


class LastVote(BaseModel):
    """The answer that an undo would remove."""

    task: str
    revision: int


class State(BaseModel):
    """The progress of a rater and the current task."""

    done: int
    total: int
    task: CurrentTask | None
    following: NextMedia | None
    undo: LastVote | None


class VoteRequest(BaseModel):
    """An answer. If it is sent again, it is acknowledged again and counted once."""

    model_config = ConfigDict(extra="forbid")
    task: TaskId
    revision: Revision
    choice: Choice
    seconds: Annotated[
        float,
        Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False, description="Response time since both images were shown."),
    ]


class UndoRequest(BaseModel):
    """Undo an answer."""

    model_config = ConfigDict(extra="forbid")
    task: TaskId
    revision: Revision


class VoteResponse(BaseModel):
    """The recorded answer, which is on disk, and the state after it."""

    outcome: Literal["counted", "undone", "conflict", "stale"]
    choice: Literal["left", "right", "tie", ""]
    state: State


class ErrorResponse(BaseModel):
    """The reason of an error."""

    error: str


def _errors(*statuses: int) -> dict[int | str, dict[str, object]]:
    page = documented(*statuses)
    found: dict[int | str, dict[str, object]] = {
        status: {"description": one["description"], "model": ErrorResponse} for status, one in page.items()
    }
    return found


def state_of(site: Site, visit: Visit, now: RaterProgress) -> State:
    """The state as a rater may see it."""
    assert visit.rater is not None
    tasks = site.store.tasks(visit.rater)
    shown = following = last = None
    if now.done < len(tasks):
        task = tasks[now.done]
        left, right = (site.plan.item(name) for name in sides(site, task))
        question = next(one for one in site.plan.questions if one.name == task.question)
        shown = CurrentTask(
            task=task.id,
            revision=now.revision,
            prompt=site.plan.prompts[left.prompt],
            question=question.text[visit.language],
            left=left.id,
            right=right.id,
            media=left.media,
            # One size for both: the size of a single file could reveal its arm.
            width=max(left.width, right.width),
            height=max(left.height, right.height),
        )
    if now.done + 1 < len(tasks):
        names = sides(site, tasks[now.done + 1])
        following = NextMedia(left=names[0], right=names[1], media=site.plan.item(names[0]).media)
    if now.undoable:
        last = LastVote(task=tasks[now.undoable[0]].id, revision=now.undoable[1])
    return State(done=now.done, total=len(tasks), task=shown, following=following, undo=last)


def sides(site: Site, task: Task) -> tuple[str, str]:
    """Ids of the left and the right item."""
    pair = site.plan.pair(task.pair)
    return (pair.first, pair.second) if task.first_left else (pair.second, pair.first)


def routes(site: Site) -> APIRouter:
    """The routes for voting."""
    router = APIRouter()

    @router.get("/vote", response_class=HTMLResponse, responses=documented(303), summary="The voting page")
    def page(request: Request) -> Response:
        visit, state = _current(request)
        if state is None:
            return redirect(request, "/")
        if state.task is None:
            return redirect(request, "/done")
        words = {name: TEXTS[visit.language][name] for name in SCRIPT}
        since = _since(site, visit, state.task.task, state.task.revision, time.time_ns() // 1_000_000)
        return site.page(
            request, visit, "vote.html", at="/vote", state=state, data=state.model_dump(), words=words, since=since
        )

    @router.post("/vote", response_class=HTMLResponse, responses=documented(303, 401, 403, 422), summary="Vote by form")
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
        _vote(visit, VoteRequest(task=task, revision=revision, choice=choice, seconds=seconds))
        return redirect(request, "/vote")

    @router.post("/undo", response_class=HTMLResponse, responses=documented(303, 401, 403, 422), summary="Undo by form")
    def undone(
        request: Request, task: Annotated[TaskId, Form()], revision: Annotated[Revision, Form()], csrf: Csrf = ""
    ) -> Response:
        visit = _rater(request, csrf)
        assert visit.rater is not None
        site.store.undo(visit.rater, task, revision)
        return redirect(request, "/vote")

    @router.get("/done", response_class=HTMLResponse, responses=documented(303), summary="Last page")
    def done(request: Request) -> Response:
        visit, state = _current(request)
        if state is None:
            return redirect(request, "/")
        if state.task is not None:
            return redirect(request, "/vote")
        return site.page(request, visit, "done.html", at="/done", state=state)

    @router.get("/api/state", response_model=State, responses=_errors(401), summary="Current task")
    def state(request: Request) -> State:
        state = _current(request)[1]
        if state is None:
            raise HTTPException(401)
        return state

    responses = _errors(400, 401, 403, 422) | {
        409: {
            "description": "Another answer was recorded first, or this is not the current task.",
            "model": VoteResponse,
        }
    }

    @router.post("/api/vote", response_model=VoteResponse, responses=responses, summary="Vote")
    def vote(request: Request, body: VoteRequest) -> Response:
        visit = _rater(request, "")
        return _acknowledge(visit, _vote(visit, body))

    @router.post("/api/undo", response_model=VoteResponse, responses=responses, summary="Undo the last vote")
    def undo(request: Request, body: UndoRequest) -> Response:
        visit = _rater(request, "")
        assert visit.rater is not None
        return _acknowledge(visit, site.store.undo(visit.rater, body.task, body.revision))

    def _current(request: Request) -> tuple[Visit, State | None]:
        visit = site.visit(request)
        if not visit.taking_part or visit.progress is None:
            return visit, None
        return visit, state_of(site, visit, visit.progress)

    def _rater(request: Request, csrf: str) -> Visit:
        visit = site.visit(request)
        if not visit.taking_part or visit.rater is None:
            raise HTTPException(401)
        site.check(request, visit.value, csrf)
        site.limit("vote", visit.rater.id)
        return visit

    def _vote(visit: Visit, body: VoteRequest) -> Receipt:
        assert visit.rater is not None
        if body.choice == "tie" and not site.plan.ties:
            raise HTTPException(422)
        return site.store.vote(visit.rater, body.task, body.revision, body.choice, body.seconds)

    def _acknowledge(visit: Visit, receipt: Receipt) -> Response:
        state = state_of(site, visit, receipt.progress).model_dump()
        data = {"outcome": receipt.outcome, "choice": receipt.choice, "state": state}
        return JSONResponse(data, 200 if receipt.outcome in ("counted", "undone") else 409)

    return router


def _since(site: Site, visit: Visit, task: str, revision: int, milliseconds: int) -> str:
    """Signed time at which a page without script was sent, so that clients cannot change the response time."""
    text = f"{visit.value}|{task}|{revision}|{milliseconds}"
    return f"{milliseconds}.{site.keys.sign('since', text)[:32]}"

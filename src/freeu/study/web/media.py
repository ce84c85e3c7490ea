"""Images and videos of the current and the next task, with headers that do not reveal the arm."""

from __future__ import annotations

import re

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from freeu.study.web.pages import documented
from freeu.study.web.site import Site
from freeu.study.web.voting import sides

TYPES = {"image": "image/png", "video": "video/mp4"}
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def routes(site: Site) -> APIRouter:
    """The route of media."""
    router = APIRouter()
    found: dict[int | str, dict[str, object]] = {
        200: {"description": "The file.", "content": {kind: {} for kind in TYPES.values()}},
        206: {"description": "A part of the file.", "content": {kind: {} for kind in TYPES.values()}},
        416: {"description": "The range is not available.", "content": {"text/html": {}}},
    }

    @router.get(
        "/media/{item}", response_class=Response, responses=found | documented(404), summary="An image or video"
    )
    def media(request: Request, item: str) -> Response:
        visit = site.visit(request)
        # The same response for files that do not exist and files that the rater may not see now.
        if visit.rater is None or visit.progress is None or not visit.taking_part:
            raise HTTPException(404)
        tasks = site.store.tasks(visit.rater)[visit.progress.done : visit.progress.done + 2]
        if item not in {name for task in tasks for name in sides(site, task)}:
            raise HTTPException(404)
        data = site.folder.media(item).read_bytes()
        headers = {"cache-control": "private, max-age=3600", "accept-ranges": "bytes", "vary": "cookie"}
        kind = TYPES[site.plan.item(item).media]
        wanted = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
        if wanted is None or not (wanted[1] or wanted[2]):
            return Response(data, 200, headers, kind)
        # Safari requires range requests for videos.
        size = len(data)
        first = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
        last = min(size - 1, int(wanted[2])) if wanted[1] and wanted[2] else size - 1
        if first > last:
            raise HTTPException(416, headers={"content-range": f"bytes */{size}"})
        return Response(data[first : last + 1], 206, headers | {"content-range": f"bytes {first}-{last}/{size}"}, kind)

    return router

"""``freeu tune --objective votes``: the page is served until the votes are complete, or until Ctrl-C."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from freeu.cli.errors import stopped
from freeu.cli.serving import address_of, clean_shutdown, listening_at
from freeu.extras import need
from freeu.pipelines.options.server import ServerOptions
from freeu.wording import counted

if TYPE_CHECKING:
    import uvicorn

    from freeu.tuning.votes.outcome import VoteTuning


def serve_votes(tuning: VoteTuning, server: ServerOptions, folder: Path, seeds: str) -> None:
    """Serve the page of a search by votes, and write what came out.

    Args:
        tuning: what is searched.
        server: where the page is.
        folder: new, or that of the same search, which goes on.
        seeds: of the run, for the command that goes on.

    Raises:
        FreeUError: the votes cannot be kept, or no image can be made.
        StoppedError: the server was stopped before the votes were complete; they are kept.
    """
    need("tune", "uvicorn")
    import uvicorn

    from freeu.tuning.votes.ballots import DONE
    from freeu.tuning.votes.outcome import open_votes, write_outcome
    from freeu.tuning.votes.report import write_vote_report
    from freeu.tuning.web.app import create_app

    plan = tuning.prepared.plan
    with listening_at(server) as listening, open_votes(tuning, folder) as (search, images):
        if search.stage != DONE:
            app = create_app(
                search,
                images,
                tuning.texts,
                (plan.width, plan.height),
                when_done=lambda: _end(serving),
                host=server.host,
            )
            serving: uvicorn.Server = uvicorn.Server(
                uvicorn.Config(
                    app,
                    access_log=False,
                    log_level="warning",
                    server_header=False,
                    lifespan="off",
                    timeout_graceful_shutdown=5,
                )
            )
            images.when_failed = lambda: _end(serving)
            with clean_shutdown(serving):
                done, total = search.progress
                earlier = f", {done} of {counted(total, 'vote')} of this part are there" if done else ""
                print(f"freeu tune: vote at {address_of(server.host, listening)}/ (Ctrl-C stops it{earlier})")
                sys.stdout.flush()
                serving.run(sockets=[listening])
        if images.failure is not None:
            raise images.failure
        if search.stage != DONE:
            done, total = search.progress
            raise stopped(folder, f"after {done} of {counted(total, 'vote')} of this part, which are kept", seeds)
        outcome = write_outcome(tuning, search, folder)
        written = write_vote_report(outcome, images)
    print(outcome.result.text)
    print(f"wrote {folder / 'preset.json'}, tuning.json and {written.name}")


def _end(serving: uvicorn.Server) -> None:
    """The server answers what it was asked, and ends."""
    serving.should_exit = True

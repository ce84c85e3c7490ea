"""``freeu study serve``, ``status``, ``tokens`` and ``backup``."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freeu.cli.bundles import Defaults
from freeu.cli.commands.study.options import StudyOptions
from freeu.cli.serving import address_of, clean_shutdown, listening_at
from freeu.pipelines.options.option import check_bounds, check_range
from freeu.pipelines.options.server import ServerOptions

if TYPE_CHECKING:
    from freeu.study.store.database import Access

BehindProxy = Annotated[
    bool,
    typer.Option("--behind-proxy", help="Trust the headers X-Forwarded-For and X-Forwarded-Proto of a reverse proxy."),
]
RootPath = Annotated[
    str, typer.Option("--root-path", metavar="/PATH", help="Sub-path under which a reverse proxy serves the study.")
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--admin-password-file",
        metavar="FILE",
        help="File with the administrator's password in its first line (default: a generated one, printed once).",
    ),
]
TokensOnly = Annotated[
    bool, typer.Option("--tokens-only", help="Admit only raters with a personal link (freeu study tokens).")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Backup file; must not exist yet.")]
Count = Annotated[int, typer.Argument(metavar="N", help="Number of links, one per rater.")]
Address = Annotated[
    str, typer.Option("--url", metavar="URL", help="Public address of the study, including the sub-path.")
]


def serve(
    options: StudyOptions,
    server: Annotated[ServerOptions, Defaults(port=8000)],
    behind_proxy: BehindProxy = False,
    root_path: RootPath = "",
    admin_password_file: PasswordFile = None,
    tokens_only: TokensOnly = False,
) -> None:
    """Serve a study: raters vote at the printed address, the administrator uses /admin.

    The database is created, or checked and tried by a real write. Acknowledged votes are on disk.
    The server can be stopped or killed at any time and started again.
    """
    from freeu.extras import need

    check_bounds(server)
    need("study", "fastapi", "uvicorn", "sqlalchemy", "jinja2", "python_multipart")
    import uvicorn

    from freeu.study.web.app import create_app
    from freeu.study.web.secrets import load_or_create

    study = _open(options.folder)
    study.verify_media()
    with _store(study, options.database, "create") as store, listening_at(server) as listening:
        # Last: a password that was generated is shown once, so nothing may fail between here and there.
        keys, generated = load_or_create(options.folder, admin_password_file)
        app = create_app(study, store, keys, root_path=root_path, tokens_only=tokens_only, behind_proxy=behind_proxy)
        # No access log: it would link network addresses to votes. The application reads the proxy's headers itself.
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
            limit_concurrency=1_000,
        )
        serving = uvicorn.Server(config)
        gc.collect()
        gc.freeze()  # libraries and plan stay in memory; collecting them again would delay votes
        with clean_shutdown(serving):
            address = f"{address_of(server.host, listening)}{root_path.rstrip('/')}/"
            print(f"freeu study: {address} (Ctrl-C ends it)")
            print(
                f"administration: {address}admin" + (f", password {generated} (shown this once)" if generated else "")
            )
            if store.created:
                print(f"new database: {store.engine.url.render_as_string(hide_password=True)}")
            if study.plan.demonstration:
                print("demonstration with simulated raters: the results are no evidence about people")
            sys.stdout.flush()
            serving.run(sockets=[listening])


def status(options: StudyOptions) -> None:
    """Show the progress of a study: raters, votes, and exclusions so far."""
    with _store(_open(options.folder), options.database, "read") as store:
        from freeu.study.results.overview import overview

        seen = overview(store)
        plan = store.plan
        print(f"{plan.title}: plan {plan.sha256[:12]}" + (", a demonstration" if plan.demonstration else ""))
        print(f"raters: {len(seen.rows)} of {plan.raters} planned, {seen.finished} finished, {seen.recent} voting now")
        print(f"slots: {seen.slots}, {seen.invited} reserved by personal links that are not used yet")
        print(f"votes: {seen.votes}")
        least, most = (choose(one.votes / one.planned for one in seen.coverage) for choose in (min, max))
        print(f"coverage by prompt and question: {least:.0%} to {most:.0%} of all slots")
        print(f"excluded by the rules so far: {seen.excluded}")
        for row in seen.rows:
            if row.summary and row.summary.excluded and row.rater.slot is not None:
                reasons = "; ".join(reason.text for reason in row.summary.reasons)
                print(f"  {row.rater.name}: {reasons}")


def tokens(options: StudyOptions, count: Count, url: Address = "http://127.0.0.1:8000") -> None:
    """Reserve slots and print a personal link for each, also while the study is served. Only hashes are stored."""
    check_range("N", count, 1, 100_000)
    with _store(_open(options.folder), options.database, "write") as store:
        for code in store.invite(count):
            print(f"{url.rstrip('/')}/resume#{code}")


def backup(options: StudyOptions, output: Output) -> None:
    """Back up the votes of a study to one file, also while it is served."""
    from freeu.study.store.backup import back_up
    from freeu.study.store.database import database_url
    from freeu.wording import counted

    _open(options.folder)
    events = back_up(database_url(options.folder, options.database), output)
    print(f"wrote {output}: {counted(events, 'event')} (votes and undos)")


def _open(folder: Path) -> Any:
    from freeu.study.plan.folder import StudyFolder

    return StudyFolder.open(folder)


def _store(study: Any, database: str | None, access: Access) -> Any:
    """The votes of a study. Only ``serve`` creates a database: a mistyped path would look like no votes."""
    from freeu.extras import need

    need("study", "sqlalchemy")
    from freeu.study.store.database import database_url
    from freeu.study.store.store import Store

    return Store(database_url(study.path, database), study.plan, access=access)

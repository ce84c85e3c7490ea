"""Databases, applications and servers for the tests of a study's web pages."""

import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import psycopg
import pytest
from study.handmade import make_study
from study.webapp import KEYS, Browser

from freeu.study.store.database import database_url
from freeu.study.store.store import Store
from freeu.study.web.app import create_app

_numbers = count()


def _postgres_tools():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    path = str(found[-1]) if found else shutil.which("initdb")
    return Path(path).parent if path else None


@pytest.fixture(scope="session")
def postgres():
    """The URL of a PostgreSQL server of this test run, without the name of a database."""
    tools = _postgres_tools()
    if tools is None:
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    # It refuses to run as root, and cannot look into root's temporary folders.
    who = {"user": "postgres", "group": "postgres"} if os.name == "posix" and os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="freeu-pg-"))
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/", **who}
    try:
        if who:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        command = [
            tools / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C",
        ]
        subprocess.run(command, **quiet)
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=200"
        start = [tools / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"]
        subprocess.run(start, **quiet)
        try:
            yield f"postgresql://postgres@/{{name}}?host={folder}"
        finally:
            subprocess.run([tools / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fresh_postgres(postgres):
    """The URL of an empty database."""
    name = f"study{next(_numbers)}"
    with psycopg.connect(postgres.format(name="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres.format(name=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return database_url(tmp_path)
    return request.getfixturevalue("fresh_postgres")


@pytest.fixture
def folder(tmp_path):
    """A study of four slots with ten tasks each."""
    return make_study(tmp_path / "study")


@pytest.fixture
def store(folder):
    """Its store over SQLite."""
    with Store(database_url(folder.path), folder.plan) as found:
        yield found


@pytest.fixture
def client(folder, store):
    """A browser without script, before the application."""
    return Browser(create_app(folder, store, KEYS))

"""freeu study serve, status, tokens and backup as processes of their own."""

import contextlib
import re
import signal
import subprocess
import sys
import time

import httpx2
import pytest
from study.handmade import make_study

from freeu.cli.commands.study.options import StudyOptions
from freeu.cli.commands.study.serve import backup, status, tokens
from freeu.errors import FreeUValueError
from freeu.study.store.database import database_url
from freeu.study.store.store import Store

SERVE = (sys.executable, "-m", "freeu", "study", "serve")


@contextlib.contextmanager
def serving(folder, *options, env=None):
    """Address, first lines and process of a served study; afterwards everything that it printed is in ``said``."""
    command = [*SERVE, str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    said = [process.stdout.readline(), process.stdout.readline()]
    try:
        found = re.match(r"freeu study: (http://127\.0\.0\.1:\d+/\S*)", said[0])
        assert found, [*said, process.stdout.read()]
        yield found[1].rstrip("/"), said, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(20)
        said.append(process.stdout.read())
        process.stdout.close()


def begin(http, address):
    """Take part; the state."""
    token = re.search(r'name="csrf" value="(\w+)"', http.get(f"{address}/").text)[1]
    assert http.post(f"{address}/start", data={"csrf": token, "consent": "yes"}).status_code == 303
    http.headers["x-csrf-token"] = re.search(r'data-csrf="(\w+)"', http.get(f"{address}/vote").text)[1]
    return http.get(f"{address}/api/state").json()


def test_a_study_is_served(folder, tmp_path, capsys):
    (tmp_path / "password").write_text("a good password\n")
    options = ["--admin-password-file", str(tmp_path / "password"), "--root-path", "/lab"]
    with serving(folder.path, *options) as (address, said, process), httpx2.Client() as http:
        assert address.endswith("/lab")
        assert said[1] == f"administration: {address}/admin\n"
        task = begin(http, address)["task"]
        body = {"task": task["task"], "revision": 0, "choice": "left", "seconds": 2.0}
        assert http.post(f"{address}/api/vote", json=body).json()["outcome"] == "counted"
        code = re.search(r"data-personal-code>([^<]+)<", http.get(f"{address}/link").text)[1]
        # The other commands work beside it.
        tokens(StudyOptions(folder.path), 2, "https://example.org/lab/")
        status(StudyOptions(folder.path))
        backup(StudyOptions(folder.path), tmp_path / "copy.sqlite")
        out = capsys.readouterr().out
        assert len(re.findall(r"^https://example\.org/lab/resume#[0-9A-Z-]{24}$", out, re.M)) == 2
        assert "raters: 1 of 4 planned, 0 finished, 1 voting now" in out
        assert "2 reserved" in out
        assert "votes: 1\n" in out
        assert "copy.sqlite: 1 event (votes and undos)" in out
        assert http.get(f"{address}/media/none?code={code}").status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    everything = "".join(said)
    for secret in (code, "a good password", task["task"], http.headers["x-csrf-token"]):
        assert secret not in everything
    assert "Traceback" not in everything


def test_a_password_is_made_up_once(folder):
    with serving(folder.path) as (_, said, process):
        password = re.search(r"password (\S+) \(shown this once\)", said[1])[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    with serving(folder.path, "--tokens-only") as (address, said, _):
        assert password not in "".join(said)
        assert "password" not in said[1]
        assert "open only to people with a personal link" in httpx2.get(address).text
    assert "Traceback" not in "".join(said)


def test_a_killed_server_goes_on(folder):
    with serving(folder.path) as (address, _, process), httpx2.Client() as http:
        task = begin(http, address)["task"]
        body = {"task": task["task"], "revision": 0, "choice": "tie", "seconds": 2.0}
        assert http.post(f"{address}/api/vote", json=body).status_code == 200
        process.kill()
        process.wait()
    with serving(folder.path) as (address, _, _):
        answer = http_again(http, address, body)
        assert (answer["outcome"], answer["state"]["done"]) == ("counted", 1)
    with Store(database_url(folder.path), folder.plan) as store:
        assert len(store.events()) == 1


def http_again(http, address, body):
    """The same vote with the same cookies, sent to the server that was started again."""
    with httpx2.Client(cookies=http.cookies, headers=http.headers) as again:
        return again.post(f"{address}/api/vote", json=body).json()


def test_a_port_that_is_taken(folder):
    with serving(folder.path) as (address, _, _):
        port = address.rpartition(":")[2]
        command = [*SERVE, str(folder.path), "--port", port]
        again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert again.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in again.stderr


def test_folders_that_are_no_study(tmp_path):
    for command in (status, lambda study: tokens(study, 1), lambda study: backup(study, tmp_path / "x")):
        with pytest.raises(FreeUValueError, match="not a study of freeu"):
            command(StudyOptions(tmp_path))


def test_changed_media_are_not_served(tmp_path):
    study = make_study(tmp_path / "study")
    file = study.media(study.plan.items[0].id)
    file.write_bytes(file.read_bytes() + b"x")
    command = [*SERVE, str(study.path), "--port", "0"]
    start = time.monotonic()
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "was changed" in refused.stderr
    assert time.monotonic() - start < 30

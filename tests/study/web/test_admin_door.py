"""The administrator's door: sessions that end for good, and guesses that shut nobody else out."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from study.webapp import KEYS, PASSWORD, Browser

from freeu.errors import FreeURuntimeError
from freeu.study.web import sessions
from freeu.study.web.admin import MOST_CHECKS
from freeu.study.web.app import create_app
from freeu.study.web.limits import Limits, Rate
from freeu.study.web.secrets import Secrets


@pytest.fixture
def app(folder, store):
    return create_app(folder, store, KEYS)


def restarted(folder, store, keys=KEYS):
    """The application as another process would start it."""
    return create_app(folder, store, keys)


def test_a_session_that_was_ended_stays_ended(app, folder, store):
    """Also after a restart, and for one that is open a restart changes nothing."""
    first, second = Browser(app), Browser(app)
    first.log_in()
    second.log_in()
    stolen = dict(first.cookies.items())
    token = first.field("csrf", first.get("/admin").text)
    assert first.post("/admin/logout", data={"csrf": token}).status_code == 303
    for application in (app, restarted(folder, store), restarted(folder, store)):
        assert Browser(application, cookies=stolen).get("/admin").status_code == 303
        assert Browser(application, cookies=dict(second.cookies.items())).get("/admin").status_code == 200
    file = folder.path / sessions.FILE
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for value in (*stolen.values(), *second.cookies.values()):
        assert value not in file.read_text()


def test_sessions_and_a_clock_that_jumps(folder):
    clock, steady = [1e9], [0.0]

    def begin():
        return sessions.Sessions(folder.path, KEYS, lambda: clock[0], lambda: steady[0])

    kept = begin()
    ended, open_one, expired = kept.begin(), kept.begin(), kept.begin()
    kept.end(ended)
    clock[0] += sessions.SECONDS + 1
    assert not kept.valid(expired)
    clock[0] -= sessions.SECONDS + 2
    for found in (kept, begin()):
        assert not found.valid(ended)
    assert not kept.valid(expired)  # once it was over it is over
    # Set back while the server runs: no session lasts longer for it.
    clock[0] = 1e9
    fresh = begin()
    value = fresh.begin()
    clock[0] -= 1e6
    steady[0] += sessions.SECONDS + 1
    assert not fresh.valid(value)
    assert not fresh.valid(open_one)


def test_sessions_are_limited_in_number(folder, monkeypatch):
    monkeypatch.setattr(sessions, "MOST", 3)
    kept = sessions.Sessions(folder.path, KEYS)
    found = [kept.begin() for _ in range(5)]
    assert sum(kept.valid(value) for value in found) == 3
    assert kept.valid(found[-1])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": "freeu-study-sessions", "schema": 1, "sessions": [1]}'])
def test_a_damaged_list_of_sessions_ends_them(folder, text):
    kept = sessions.Sessions(folder.path, KEYS)
    value = kept.begin()
    (folder.path / sessions.FILE).write_text(text)
    again = sessions.Sessions(folder.path, KEYS)
    assert not again.valid(value)
    assert again.valid(again.begin())


def test_a_logout_that_cannot_be_written_is_not_told_as_done(client, folder, monkeypatch, caplog):
    client.log_in()
    cookies = dict(client.cookies.items())
    token = client.field("csrf", client.get("/admin").text)

    def full(*_):
        raise FreeURuntimeError("cannot write sessions.json: No space left on device")

    monkeypatch.setattr(sessions, "write_private", full)
    assert client.post("/admin/logout", data={"csrf": token}).status_code == 503
    assert Browser(client.app, cookies=cookies).get("/admin").status_code == 303
    assert client.log_in().status_code == 503  # nor is a login that a restart would forget
    assert "No space left" in caplog.text


def test_a_crowd_does_not_make_a_guesser_forgotten(monkeypatch):
    """Neither visitors who are made up nor other guessers give somebody new tries; who is full again is forgotten."""
    monkeypatch.setattr("freeu.study.web.limits.MOST_CALLERS", 100)
    clock = [0.0]
    limits = Limits(clock=lambda: clock[0])
    while limits.wait("login", "guesser") == 0.0:
        pass
    for number in range(1_000):
        for purpose in ("session", "address", "login", "start"):
            limits.wait(purpose, f"x{number}")
    assert limits.wait("login", "guesser") > 0.0
    # The crowd shares what is left over.
    assert limits.wait("login", "somebody new") > 0.0
    clock[0] = 200.0  # all are full again
    assert limits.wait("login", "somebody new") == 0.0
    assert len(limits._buckets["login"]) < 10


def test_made_up_visitors_do_not_reset_the_guesses(folder, store, monkeypatch):
    monkeypatch.setattr("freeu.study.web.limits.MOST_CALLERS", 50)
    client = Browser(create_app(folder, store, KEYS, rates={"login": Rate(3, 0.001)}))
    assert [client.log_in("guess").status_code for _ in range(4)] == [403, 403, 403, 429]
    for number in range(100):
        Browser(client.app).get("/privacy", headers={"cookie": f"{_session(client)}=v{number:032x}"})
    assert client.log_in("guess").status_code == 429


def _session(client):
    return next(name for name in client.cookies if not name.endswith(("-admin", "-known")))


def guess(app, number, password, **cookies):
    """A login from an address of its own."""
    client = Browser(app, cookies=cookies)
    headers = {"x-forwarded-for": f"198.51.{number // 250}.{number % 250}"}
    token = client.field("csrf", client.get("/admin/login", headers=headers).text)
    return client.post("/admin/login", data={"csrf": token, "password": password}, headers=headers)


def test_guesses_of_many_do_not_shut_out_the_administrator(folder, store):
    rates = {"guesses": Rate(5, 0.001), "login": Rate(5, 0.01)}
    app = create_app(folder, store, KEYS, behind_proxy=True, rates=rates)
    assert [guess(app, number, "guess").status_code for number in range(8)] == [403] * 8
    # The limit of all is used up: each has had its one try, the right password from elsewhere still has its own.
    assert guess(app, 1, PASSWORD).status_code == 429
    assert guess(app, 100, PASSWORD).status_code == 303
    assert guess(app, 101, "guess").status_code == 403
    assert guess(app, 101, PASSWORD).status_code == 429
    # IPv6 networks of one site are one caller.
    client = Browser(app)
    found = []
    for number in range(3):
        headers = {"x-forwarded-for": f"2001:db8:1:{number}::1"}
        token = client.field("csrf", client.get("/admin/login", headers=headers).text)
        found.append(client.post("/admin/login", data={"csrf": token, "password": "x"}, headers=headers).status_code)
    assert found == [403, 429, 429]


def test_a_browser_that_has_logged_in_has_limits_of_its_own(folder, store):
    """Somebody who guesses from the same address, such as that of a laboratory, does not shut it out."""
    app = create_app(folder, store, KEYS, rates={"login": Rate(3, 0.001)})
    client = Browser(app)
    assert client.log_in().status_code == 303
    name, known = next((name, value) for name, value in client.cookies.items() if name.endswith("-known"))
    other = Browser(app)
    assert [other.log_in("guess").status_code for _ in range(3)] == [403, 403, 429]  # one of the three was the login
    assert other.log_in(PASSWORD).status_code == 429
    again = Browser(app, cookies={name: known})
    assert again.get("/admin").status_code == 303  # it opens nothing by itself
    assert again.log_in("guess").status_code == 403
    assert again.log_in(PASSWORD).status_code == 303
    # And it has limits: a stolen one does not allow guessing without end.
    assert [Browser(app, cookies={name: known}).log_in("guess").status_code for _ in range(2)] == [403, 429]
    for forged in (
        known[:-1] + "0",
        known.replace(".", ""),
        "x." + KEYS.sign("known", ""),
        "." + KEYS.sign("known", ""),
    ):
        assert Browser(app, cookies={name: forged}).log_in(PASSWORD).status_code == 429


def test_checks_of_passwords_do_not_queue_up(folder, store, monkeypatch):
    """Each takes the processor for a while: so many at once, and the rest are told to come again."""
    app = create_app(folder, store, KEYS, behind_proxy=True)
    held, inside = threading.Event(), threading.Semaphore(0)

    def slow(self, password):
        inside.release()
        held.wait(20)
        return False

    monkeypatch.setattr(Secrets, "is_password", slow)
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(guess, app, number, "x") for number in range(MOST_CHECKS)]
        for _ in range(MOST_CHECKS):
            assert inside.acquire(timeout=20)
        answer = guess(app, 99, "x")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        held.set()
        assert {job.result().status_code for job in jobs} == {403}

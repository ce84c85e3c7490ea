"""Attacks in process: what must not work, and what must not be told."""

import contextlib
import json
import os
import re
import socket
import stat
import time
from pathlib import Path

import pytest
from study.handmade import make_study, opaque
from study.webapp import KEYS, PASSWORD, Browser, served

from freeu.errors import FreeUValueError
from freeu.study.plan.plan import CHECK_ARM
from freeu.study.store.database import database_url
from freeu.study.store.store import Store
from freeu.study.web.app import create_app
from freeu.study.web.limits import Limits, Rate, caller
from freeu.study.web.secrets import FILE, Secrets, load_or_create
from freeu.study.web.security import HEADERS, MOST_BYTES
from freeu.study.web.site import STATIC

EVIL = "\"><script>alert(1)</script>'{{7*7}}"


@pytest.fixture
def app(folder, store):
    return create_app(folder, store, KEYS)


@pytest.fixture
def rater(client):
    client.start()
    return client


# Forms from elsewhere.

FORMS = ["/start", "/resume", "/forget", "/vote", "/undo", "/admin/login", "/admin/logout", "/admin/links"]


@pytest.mark.parametrize("path", FORMS)
def test_forms_without_their_token_do_nothing(rater, app, store, path):
    rater.log_in()
    page = rater.get("/vote").text
    fields = {name: rater.field(name, page) for name in ("task", "revision", "since")}
    fields |= {"choice": "left", "consent": "yes", "code": "x", "password": PASSWORD, "count": "1"}
    other = Browser(app)
    other.start()
    raters, events = store.raters(), store.events()
    for token in ("", "0" * 64, other.token(), rater.token()[:-1] + "x", "é", "\x00"):
        assert rater.post(path, data={**fields, "csrf": token}).status_code == 403, token
    # The right token, but the browser says that another site sent it.
    headers = {"sec-fetch-site": "cross-site", "x-csrf-token": rater.token()}
    assert rater.post(path, data=fields, headers=headers).status_code == 403
    assert (store.raters(), store.events()) == (raters, events)
    assert rater.get("/admin").status_code == 200  # still logged in


@pytest.mark.parametrize("path", ["/api/vote", "/api/undo"])
def test_the_script_needs_the_token_too(rater, store, path):
    task = rater.state()["task"]
    body = {"task": task["task"], "revision": 0} | ({"choice": "left", "seconds": 1.0} if path == "/api/vote" else {})
    assert rater.post(path, json=body).status_code == 403
    # A form of another site cannot send JSON; what it can send is not read as JSON.
    text = json.dumps(body)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = rater.post(path, content=text, headers={"content-type": kind, "x-csrf-token": rater.token()})
        assert answer.status_code == 422
    assert store.events() == []


def test_a_token_of_one_purpose_is_none_for_another(rater):
    value = next(value for value in rater.cookies.values() if value.startswith("r"))
    assert rater.token() == KEYS.sign("csrf", value)
    assert rater.post("/admin/login", data={"csrf": rater.token(), "password": PASSWORD}).status_code == 403


# Sessions.


def test_cookies_are_closed(rater):
    for answer in (Browser(rater.app).get("/"), Browser(rater.app).start(), rater.log_in()):
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert re.search(r"SameSite=(lax|strict)", cookie)
        assert "Secure" not in cookie  # over plain HTTP it would be lost


def test_cookies_over_https_are_secure(folder, store):
    app = create_app(folder, store, KEYS, behind_proxy=True)
    answer = Browser(app).get("/", headers={"x-forwarded-proto": "https"})
    assert "; Secure" in answer.headers["set-cookie"]
    assert (
        "Secure"
        not in Browser(create_app(folder, store, KEYS))
        .get("/", headers={"x-forwarded-proto": "https"})
        .headers["set-cookie"]
    )


@pytest.mark.parametrize(
    "value", ["", "r", "v", "vfixed", "r7K3M-Q0XW-9ZTA-BC4D-EFGH", "v" + "A" * 32, "r" + "0" * 20_000, "r\u00e9", '"r"']
)
def test_made_up_sessions(app, store, value):
    client = Browser(app)
    name = next(iter(dict(Browser(app).get("/").cookies)))
    answer = client.get("/api/state", headers={"cookie": f"{name}={value}".encode()})
    assert answer.status_code in (401, 400)
    first = client.get("/", headers={"cookie": f"{name}={value}".encode()})
    assert re.search(r"=v[0-9a-f]{32};", first.headers["set-cookie"])  # a session of our own making


def test_a_session_from_before_is_worth_nothing_after(app):
    """Session fixation: whoever planted the visitor's cookie knows nothing of the rater's."""
    victim = Browser(app)
    victim.get("/")
    planted = dict(victim.cookies.items())
    victim.start()
    assert victim.state()["done"] == 0
    attacker = Browser(app, cookies=planted)
    assert attacker.get("/api/state").status_code == 401
    assert dict(victim.cookies.items()) != planted
    # The same for the administrator: a cookie that was there before the password is not the one after it.
    name = next(iter(planted)) + "-admin"
    victim.cookies.set(name, "planted")
    value = re.search(rf"{name}=([^;]+);", victim.log_in().headers["set-cookie"])[1]
    assert value != "planted"
    assert re.search(rf"{name}=([^;]+);", Browser(app).log_in().headers["set-cookie"])[1] != value


def test_sessions_of_the_administrator(app, store, folder):
    client = Browser(app)
    client.log_in()
    name, value = next((name, value) for name, value in client.cookies.items() if name.endswith("-admin"))
    text, _, signature = value.rpartition(".")
    expiry, nonce = text.split(".")

    def status(cookie, application=app):
        return Browser(application).get("/admin", headers={"cookie": f"{name}={cookie}".encode()}).status_code

    assert status(value) == 200
    later = f"{int(expiry) + 9999}.{nonce}"
    past = f"{int(time.time()) - 1}.{nonce}"
    for forged in (
        "",
        text,
        f"{later}.{signature}",
        f"{text}.{'0' * 64}",
        f"{text}.",
        f"{later}.{KEYS.sign('csrf', later)}",
        f"{past}.{KEYS.sign('admin', past)}",
        value.upper(),
        "a.b." + KEYS.sign("csrf", "a.b"),
        "é" * 80,
    ):
        assert status(forged) == 303, forged
    other = create_app(folder, store, Secrets(b"o" * 32, KEYS.password))
    assert status(value, other) == 303
    token = client.field("csrf", client.get("/admin").text)
    assert client.post("/admin/logout", data={"csrf": token}).headers["location"] == "/admin/login"
    assert status(value) == 303  # a stolen cookie dies with the session


def test_guessing_the_password(folder, store):
    client = Browser(create_app(folder, store, KEYS, rates={"login": Rate(3, 0.001)}))
    assert [client.log_in(f"guess {number}").status_code for number in range(3)] == [403] * 3
    assert client.log_in(PASSWORD).status_code == 429  # even the right one has to wait
    assert client.get("/admin").status_code == 303
    assert client.post("/admin/login", data={"password": "x" * 1001}).status_code == 422


def test_one_password_takes_as_long_as_another():
    """Right, wrong, empty and long: scrypt decides, not the comparison."""

    def seconds(password):
        best = []
        for _ in range(3):
            start = time.perf_counter()
            KEYS.is_password(password)
            best.append(time.perf_counter() - start)
        return min(best)

    times = [seconds(password) for password in (PASSWORD, "", "wrong", "x" * 100_000)]
    assert max(times) < 2.5 * min(times)
    assert min(times) > 0.01


# What comes in.


def test_bodies_that_are_too_large(rater, store):
    for body in (b"x" * (MOST_BYTES + 1), b"nickname=" + b"a" * 10_000_000):
        answer = rater.post("/start", content=body, headers={"content-type": "application/x-www-form-urlencoded"})
        assert answer.status_code == 413
    chunks = iter([b"x" * 1000] * 100)  # without a Content-Length
    assert rater.post("/api/vote", content=chunks).status_code == 413
    assert rater.post("/start", content=b"", headers={"content-length": "-5"}).status_code == 413
    assert rater.post("/start", content=b"", headers={"content-length": "1" * 30}).status_code == 413
    assert store.events() == []


@pytest.mark.parametrize("text", [EVIL, "a\r\nSet-Cookie: x=1", "\x00\x01", "\u202eevil", "x" * 400, "’" * 200, "猫"])
def test_nicknames_are_only_text(app, store, text):
    client = Browser(app)
    answer = client.start(nickname=text)
    assert answer.status_code == 303
    assert "x=1" not in str(answer.headers)
    (rater,) = store.raters()
    assert rater.nickname is None or (len(rater.nickname) <= 40 and rater.nickname.isprintable())
    client.log_in()
    page = client.get("/admin").text
    assert "<script>alert" not in page
    assert "49" not in (rater.nickname or "")
    if text == EVIL:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_prompts_titles_and_questions_are_only_text(tmp_path):
    study = make_study(tmp_path / "evil", title=EVIL, prompts=(EVIL, EVIL + "</main>"))
    with Store(database_url(study.path), study.plan) as store:
        client = Browser(create_app(study, store, KEYS))
        client.start()
        client.log_in()
        for path in ("/vote", "/link", "/privacy", "/nothing", "/admin", "/admin/login"):
            assert "<script>alert" not in client.get(path).text
        page = client.get("/vote").text
        data = re.search(r"data-state='([^']*)'", page)[1]  # no quote of the prompt ends the attribute
        assert json.loads(data.replace("&amp;", "&"))["task"]["prompt"].startswith(EVIL)


def test_paths_do_not_leave_their_folder(rater, folder):
    secret = KEYS.key.hex()
    (folder.path / FILE).write_text(secret)
    for base in ("/media", "/static", "/admin/export"):
        for name in (
            "../secrets.json",
            "..%2fsecrets.json",
            "%2e%2e%2f%2e%2e%2fsecrets.json",
            "..\\secrets.json",
            "....//secrets.json",
            "/etc/passwd",
            "%2fetc%2fpasswd",
            "..%00/secrets.json",
            "../site.py",
        ):
            answer = rater.get(f"{base}/{name}")
            assert answer.status_code in (303, 404), name
            assert secret not in answer.text
            assert "root:" not in answer.text
            assert "import" not in answer.text


def test_no_page_leads_elsewhere(rater):
    """The address of a request never becomes a link: "//elsewhere" would be one to another site."""
    for path in ("//evil.example/x", "/%2fevil.example", "/\\evil.example", "/x?lang=//evil.example"):
        answer = rater.get(path)
        assert answer.status_code == 404
        assert "evil" not in answer.text + str(answer.headers)


def test_no_redirect_repeats_the_host(rater):
    """Redirects name paths only: a cache or a proxy may keep what somebody else's Host header made of them."""
    rater.log_in()
    found = 0
    for path in ("/", "/vote/", "/static", "/static/", "/admin/", "/media/", "/done", "/done/", "/resume/", "/link/"):
        answer = rater.get(path, headers={"host": "evil.example"})
        assert "evil" not in str(answer.headers)
        found += answer.status_code == 303
        assert answer.headers.get("location", "/").startswith("/")
    assert found >= 2


def test_two_lengths_get_one_answer(app):
    """What a proxy would take for a second request is not one."""
    with served(app) as address:
        host, port = address.removeprefix("http://").split(":")
        for lengths in (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 4\r\nContent-Length: 5",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        ):
            request = (
                f"POST /start HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n0\r\n\r\nGET /privacy HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(request.encode())
                data = b""
                with contextlib.suppress(TimeoutError):
                    while part := connection.recv(65536):
                        data += part
            assert data.count(b"HTTP/1.1 ") == 1, lengths
            assert data.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), lengths


def test_other_methods_are_refused(rater):
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT"):
        assert rater.request(method, "/vote").status_code == 405
        assert rater.request(method, "/api/vote").status_code == 405


# What goes out.


def test_headers_of_every_answer(rater):
    item = rater.state()["task"]["left"]
    rater.log_in()
    for path in (
        "/",
        "/vote",
        "/api/state",
        "/static/study.js",
        "/nothing",
        f"/media/{item}",
        "/admin",
        "/openapi.json",
    ):
        headers = rater.get(path).headers
        for name in set(HEADERS) - {"cache-control"}:
            assert headers[name] == HEADERS[name], path
        assert "server" not in headers
        assert "unsafe" not in headers["content-security-policy"]
    assert rater.get("/vote").headers["cache-control"] == "no-store"
    assert rater.post("/start", content=b"x" * 99_999).headers["x-frame-options"] == "DENY"


def test_no_page_needs_what_the_policy_forbids(rater):
    """No inline script, no inline style, no handler, nothing from elsewhere."""
    rater.log_in()
    for path in ("/vote", "/link", "/privacy", "/resume", "/admin", "/nothing"):
        page = rater.get(path).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page), path
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page))
        assert not re.search(
            r'(?:src|href|action)="(?!/)(?!#)[^"]*"', page.replace('href="http://testserver/', 'href="/')
        )
    for file in STATIC.iterdir():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", file.read_text())


def test_nothing_unblinds(tmp_path):
    """No name of an arm, no kind of a task, no path: in no page, no JSON, no address and no header."""
    study = make_study(tmp_path / "study")
    plan = study.plan
    words = {CHECK_ARM, "repeat", "SD + FreeU", "first_left", "noised", "noisy", "arm"} | {
        pair.id for pair in plan.pairs
    }
    words |= {item.sha256 for item in plan.items} | {str(tmp_path), "secrets"}
    sizes, headers, pages = set(), set(), {}
    with Store(database_url(study.path), plan) as store:
        client = Browser(create_app(study, store, KEYS))
        client.start()
        for place in range(10):
            page, data = client.get("/vote"), client.get("/api/state")
            shown = page.text + data.text + str(page.headers) + str(data.headers)
            shown = shown.replace("aria-", "").replace("_image", "")
            for word in words:
                assert not re.search(rf"\b{re.escape(word)}\b", shown), word
            task = data.json()["task"]
            for side in ("left", "right"):
                answer = client.get(f"/media/{task[side]}")
                sizes.add(len(answer.content))
                headers.add(tuple(sorted(answer.headers.items())))
            if 0 < place < 9:  # the first has nothing to undo, and 10 has a digit more
                about = task["prompt"], task["question"]
                pages.setdefault(about, set()).add((len(page.content), len(data.content)))
            client.vote()
    assert len(sizes) == len(headers) == 1
    # All pages of one prompt and question are of one size: whatever the arms, sides and kinds.
    assert [len(found) for found in pages.values()] == [1] * 4


def test_media_of_raters_do_not_cross(folder, store, app):
    """What one rater may see now, another may not, and the answer is that for what does not exist."""
    first, second = Browser(app), Browser(app)
    first.start()
    second.start()
    mine = {first.state()["task"][side] for side in ("left", "right")}
    theirs = {second.state()[part][side] for part in ("task", "following") for side in ("left", "right")}
    missing = second.get(f"/media/{opaque('none')}")
    for item in mine - theirs:
        answer = second.get(f"/media/{item}")
        assert (answer.status_code, answer.text) == (404, missing.text)
        assert dict(answer.headers) == dict(missing.headers)
    for task in folder.plan.slots[0][:1]:
        assert second.vote(task=task.id).json()["outcome"] == "stale"
    assert store.events() == []


# The file of secrets.


@pytest.mark.skipif(os.name != "posix", reason="modes of files are those of POSIX")
def test_the_secrets_are_for_their_owner(tmp_path):
    keys, password = load_or_create(tmp_path)
    file = tmp_path / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(password) >= 16
    assert keys.is_password(password)
    assert not keys.is_password(password + "x")
    assert password not in file.read_text()
    assert keys.key.hex() not in repr(keys) + str(keys)
    assert keys.password not in repr(keys)
    again, nothing = load_or_create(tmp_path)
    assert (again, nothing) == (keys, None)
    file.chmod(0o640)
    with pytest.raises(FreeUValueError, match="chmod 600"):
        load_or_create(tmp_path)


def test_a_password_of_ones_own(tmp_path):
    given = tmp_path / "password"
    given.write_text("first password\nsecond line\n")
    keys, generated = load_or_create(tmp_path, given)
    assert generated is None
    assert keys.is_password("first password")
    assert load_or_create(tmp_path, given)[0] == keys
    given.write_text("another password")
    changed, _ = load_or_create(tmp_path, given)
    assert changed.is_password("another password")
    assert changed.key != keys.key  # sessions of the old password end
    for text in ("", "short", "x" * 1001):
        given.write_text(text)
        with pytest.raises(FreeUValueError, match="8 to 1000"):
            load_or_create(tmp_path, given)
    with pytest.raises(FreeUValueError, match="cannot read"):
        load_or_create(tmp_path, tmp_path / "none")


@pytest.mark.parametrize(
    "change", [{"kind": "x"}, {"key": "AAAA"}, {"key": None}, {"password": "x"}, {"schema": 2}, None]
)
def test_damaged_secrets(tmp_path, change):
    load_or_create(tmp_path)
    file = tmp_path / FILE
    data = json.loads(file.read_text())
    file.write_text("[]" if change is None else json.dumps(data | change))
    with pytest.raises(FreeUValueError, match="damaged: remove it"):
        load_or_create(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are those of POSIX")
def test_the_votes_are_for_their_owner(folder, store):
    store.claim_slot("en")
    files = [path for path in folder.path.iterdir() if path.name.startswith("study.sqlite")]
    assert len(files) == 3  # with the companions of SQLite
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


# Limits.


def test_buckets_fill_again():
    clock = [0.0]
    limits = Limits({"vote": Rate(2, 0.5)}, lambda: clock[0])
    assert [limits.wait("vote", "a") for _ in range(3)] == [0.0, 0.0, 2.0]
    assert limits.wait("vote", "b") == 0.0
    clock[0] = 1.0
    assert limits.wait("vote", "a") == 1.0
    clock[0] = 2.0
    assert limits.wait("vote", "a") == 0.0
    clock[0] = 1e6
    assert [limits.wait("vote", "a") for _ in range(3)][:2] == [0.0, 0.0]


def test_buckets_are_limited(monkeypatch):
    monkeypatch.setattr("freeu.study.web.limits.MOST_CALLERS", 100)
    limits = Limits()
    for number in range(1_000):
        limits.wait("login", str(number))
    assert len(limits._buckets["login"]) == 101  # and one for all who found no room


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_callers(address, who):
    assert caller(address) == who


@pytest.mark.parametrize("proxied", [True, False])
def test_the_address_behind_a_proxy(folder, store, proxied):
    """Only the nearest proxy's word counts, and only if there is one: an invented address gains nothing."""
    app = create_app(folder, store, KEYS, behind_proxy=proxied, rates={"address": Rate(3, 0.001)})
    client = Browser(app)

    def statuses(forwarded):
        return [client.get("/privacy", headers={"x-forwarded-for": one}).status_code for one in forwarded]

    same = [f"198.51.100.{number}, 203.0.113.9" for number in range(5)]
    assert statuses(same) == [200, 200, 200, 429, 429]
    others = [f"203.0.113.{number}" for number in range(20, 23)]
    assert statuses(others) == ([200] * 3 if proxied else [429] * 3)


def test_texts_have_no_template_left():
    for path in (Path(__file__).parents[3] / "src" / "freeu" / "study" / "templates").glob("*.html"):
        assert "|safe" not in path.read_text() or path.name == "study_report.html"

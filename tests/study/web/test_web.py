"""The application over HTTP, in process: taking part, voting, media, languages, sub-paths, administration."""

import contextlib
import importlib.util
import io
import json
import re
import sqlite3
import subprocess
import sys

import httpx2
import pyarrow.parquet
import pytest
from PIL import Image
from study.handmade import PROMPTS, make_study
from study.webapp import KEYS, PASSWORD, Browser, served

from freeu.errors import FreeUValueError
from freeu.study.plan.plan import QUESTIONS
from freeu.study.store import database
from freeu.study.store.database import database_url
from freeu.study.store.store import Store
from freeu.study.web.app import create_app
from freeu.study.web.limits import RATES, Rate
from freeu.study.web.texts import TEXTS, negotiated


@pytest.fixture
def app(folder, store):
    return create_app(folder, store, KEYS)


@pytest.fixture
def rater(client):
    """A browser that has begun."""
    answer = client.start(nickname="Ada")
    assert (answer.status_code, answer.headers["location"]) == (303, "/vote")
    return client


def test_taking_part(client, store):
    first = client.get("/")
    assert "10 questions, about 1 minute" in first.text
    assert client.get("/vote").headers["location"] == "/"
    assert client.get("/api/state").status_code == 401
    assert client.post("/start", data={"csrf": client.field("csrf", first.text)}).status_code == 422  # no consent
    assert store.raters() == []
    assert client.start(nickname=" A\r\nda\x00\u202e  B ").status_code == 303
    (rater,) = store.raters()
    assert (rater.nickname, rater.language) == ("Ada B", "en")
    assert client.get("/").headers["location"] == "/vote"


def test_a_whole_study(rater, store, folder):
    tasks = folder.plan.slots[0]
    for place, task in enumerate(tasks):
        state = rater.state()
        pair = folder.plan.pair(task.pair)
        sides = (pair.first, pair.second) if task.first_left else (pair.second, pair.first)
        question = next(one for one in QUESTIONS if one.name == task.question)
        assert state["task"] == {
            "task": task.id,
            "revision": 0,
            "prompt": PROMPTS[pair.prompt],
            "question": question.text["en"],
            "left": sides[0],
            "right": sides[1],
            "media": "image",
            "width": 96,
            "height": 96,
        }
        assert (state["done"], state["total"]) == (place, 10)
        answer = rater.vote("right", 2.5)
        assert answer.status_code == 200
        assert (answer.json()["outcome"], answer.json()["choice"]) == ("counted", "right")
        assert answer.json()["state"] == rater.state()
    assert rater.state() | {"undo": None} == {"done": 10, "total": 10, "task": None, "following": None, "undo": None}
    assert rater.get("/vote").headers["location"] == "/done"
    done = rater.get("/done")
    assert "All 10 answers are stored" in done.text
    assert [vote.task for vote in store.counted_votes()] == [task.id for task in tasks]
    # The last answer can be undone even now.
    fields = {name: rater.field(name, done.text) for name in ("csrf", "task", "revision")}
    assert rater.post("/undo", data=fields).headers["location"] == "/vote"
    assert rater.get("/done").headers["location"] == "/vote"
    assert rater.state()["task"]["revision"] == 1


def test_conflicts_and_stale_answers(rater, store):
    task = rater.state()["task"]["task"]
    assert rater.vote("left").status_code == 200
    again = rater.vote("left", task=task, revision=0)
    assert (again.status_code, again.json()["outcome"]) == (200, "counted")
    other = rater.vote("right", task=task, revision=0)
    assert (other.status_code, other.json()["outcome"], other.json()["choice"]) == (409, "conflict", "left")
    assert other.json()["state"]["done"] == 1
    assert rater.vote("right", revision=1).json()["outcome"] == "stale"
    undone = rater.undo()
    assert (undone.status_code, undone.json()["outcome"], undone.json()["state"]["done"]) == (200, "undone", 0)
    assert rater.vote("right", task=task, revision=1).status_code == 200
    assert [vote.choice for vote in store.counted_votes()] == ["right"]


@pytest.mark.parametrize(
    "change",
    [
        {"choice": "both"},
        {"choice": None},
        {"seconds": -1},
        {"seconds": 1e9},
        {"seconds": "NaN"},
        {"revision": -1},
        {"revision": 10**30},
        {"task": "x" * 65},
        {"task": ["x"]},
        {"more": 1},
    ],
)
def test_votes_that_do_not_fit(rater, store, change):
    answer = rater.vote(**change)
    assert answer.status_code == 422
    assert answer.json() == {"error": TEXTS["en"]["error_422"]}
    assert store.events() == []


@pytest.mark.parametrize("body", [b"", b"{", b'{"task": "\xff"}', b"[]", b'"\\ud800"', b'{"task":"\\ud800"}', b"NaN"])
def test_bodies_that_are_none(rater, body):
    headers = {"x-csrf-token": rater.token(), "content-type": "application/json"}
    assert rater.post("/api/vote", content=body, headers=headers).status_code in (400, 422)


def test_the_plain_form_measures_on_the_server(rater, store):
    page = rater.get("/vote").text
    fields = {name: rater.field(name, page) for name in ("csrf", "task", "revision", "since")}
    forged = {**fields, "choice": "left", "since": "1." + fields["since"].partition(".")[2]}
    assert rater.post("/vote", data=forged).status_code == 403
    assert rater.post("/vote", data={**fields, "choice": "left", "since": "x"}).status_code == 403
    assert rater.post("/vote", data={**fields, "choice": "sideways"}).status_code == 422
    assert store.events() == []
    assert rater.post("/vote", data={**fields, "choice": "left"}).headers["location"] == "/vote"
    assert rater.post("/vote", data={**fields, "choice": "right"}).status_code == 303  # a second click
    (vote,) = store.counted_votes()
    assert vote.choice == "left"
    assert 0.0 <= vote.seconds < 10.0


def test_the_personal_link(rater, app, store):
    page = rater.get("/link").text
    code = re.search(r"data-personal-code>([^<]+)<", page)[1]
    assert f"http://testserver/resume#{code}" in page
    rater.vote()
    phone = Browser(app)
    token = phone.field("csrf", phone.get("/resume").text)
    wrong = phone.post("/resume", data={"csrf": token, "code": "7K3M-Q0XW-9ZTA-BC4D-EFGH"})
    assert (wrong.status_code, "This code is unknown" in wrong.text) == (422, True)
    typed = code.lower().replace("-", "  ")
    assert phone.post("/resume", data={"csrf": token, "code": typed}).headers["location"] == "/vote"
    assert phone.state()["done"] == 1
    assert len(store.raters()) == 1


def test_invited_only(folder, store):
    app = create_app(folder, store, KEYS, tokens_only=True)
    client = Browser(app)
    page = client.get("/").text
    assert "open only to people with a personal link" in page
    token = client.field("csrf", page)
    assert client.post("/start", data={"csrf": token, "consent": "yes"}).status_code == 403
    assert store.raters() == []
    (code,) = store.invite(1)
    assert client.post("/resume", data={"csrf": token, "code": code}).headers["location"] == "/"
    assert client.get("/vote").headers["location"] == "/"  # consent comes first
    media = folder.plan.pair(folder.plan.slots[0][0].pair).first
    assert client.get(f"/media/{media}").status_code == 404
    assert client.get("/api/state").status_code == 401
    assert client.start(nickname="Li").headers["location"] == "/vote"
    assert [(rater.slot, rater.nickname) for rater in store.raters()] == [(0, "Li")]


def test_when_every_slot_is_taken(app, store):
    for _ in range(4):
        store.claim_slot("en")
    late = Browser(app).start()
    assert (late.status_code, "The study is full" in late.text) == (409, True)


def test_forget_me(rater, store, app):
    rater.vote()
    code = re.search(r"data-personal-code>([^<]+)<", rater.get("/link").text)[1]
    answer = rater.post("/forget", data={"csrf": rater.token()})
    assert "Your data is deleted" in answer.text
    assert rater.get("/vote").headers["location"] == "/"
    token = rater.field("csrf", rater.get("/resume").text)
    assert rater.post("/resume", data={"csrf": token, "code": code}).status_code == 422
    assert len(store.counted_votes()) == 1
    assert store.raters()[0].nickname is None
    token = rater.field("csrf", rater.get("/resume").text)
    assert rater.post("/forget", data={"csrf": token}).status_code == 401


# Media.


def test_media_of_the_current_and_next_task_only(rater, folder, app):
    tasks = folder.plan.slots[0]

    def items(*chosen):
        pairs = [folder.plan.pair(task.pair) for task in chosen]
        return {name for pair in pairs for name in (pair.first, pair.second)}

    for place in range(3):
        allowed = items(*tasks[place : place + 2])
        for item in folder.plan.items:
            answer = rater.get(f"/media/{item.id}")
            assert answer.status_code == (200 if item.id in allowed else 404)
            if item.id in allowed:
                assert answer.content == folder.media(item.id).read_bytes()
                Image.open(io.BytesIO(answer.content)).verify()
            assert Browser(app).get(f"/media/{item.id}").status_code == 404
        rater.vote()
    for name in ("..%2fplan.json", "%2e%2e/plan.json", "../plan.json", "x.png", folder.plan.items[0].file, "%00"):
        answer = rater.get(f"/media/{name}")
        assert answer.status_code == 404
        assert b"freeu-study" not in answer.content


def test_media_in_parts(rater, folder):
    item = rater.state()["task"]["left"]
    data = folder.media(item).read_bytes()
    for wanted, first, last in (
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, len(data) - 1),
        ("bytes=-50", len(data) - 50, len(data) - 1),
        ("bytes=0-99999999", 0, len(data) - 1),
    ):
        answer = rater.get(f"/media/{item}", headers={"range": wanted})
        assert (answer.status_code, answer.content) == (206, data[first : last + 1])
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(data)}"
    assert rater.get(f"/media/{item}", headers={"range": f"bytes={len(data)}-"}).status_code == 416
    assert rater.get(f"/media/{item}", headers={"range": "bytes=-0"}).status_code == 416
    for odd in ("bytes=", "bytes=a-b", "lines=0-1", "bytes=0-1,5-6"):
        assert rater.get(f"/media/{item}", headers={"range": odd}).content == data


# Languages and sub-paths.


def test_both_languages_say_the_same_things():
    assert set(TEXTS["en"]) == set(TEXTS["zh"])
    fields = re.compile(r"\{\w+\}")
    for name, text in TEXTS["en"].items():
        assert sorted(fields.findall(text)) == sorted(fields.findall(TEXTS["zh"][name])), name


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("fr, zh;q=0.5, en;q=0.4", "zh"),
        ("en;q=0.1, zh;q=0", "en"),
        ("zh;q=0", "en"),
        ("de-DE", "en"),
        ("zh;q=x,,;;,en", "en"),
    ],
)
def test_the_browser_chooses_the_language(header, language):
    assert negotiated(header, ("en", "zh")) == language


def test_a_chosen_language_stays(client):
    assert 'lang="zh-Hans"' in client.get("/", headers={"accept-language": "zh"}).text
    chosen = client.get("/?lang=en", headers={"accept-language": "zh"})
    assert '<html lang="en">' in chosen.text
    assert '<html lang="en">' in client.get("/", headers={"accept-language": "zh"}).text
    assert '<html lang="en">' in client.get("/?lang=xx").text
    client.start()
    assert client.get("/vote?lang=zh").text.count("没有差别") >= 1
    assert client.state()["task"]["question"] in [question.text["zh"] for question in QUESTIONS]


class Strip:
    """A reverse proxy that strips the sub-path."""

    def __init__(self, app, root):
        self.app, self.root = app, root

    async def __call__(self, scope, receive, send):
        if not scope["path"].startswith(self.root + "/"):
            await send({"type": "http.response.start", "status": 502, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        path = scope["path"][len(self.root) :]
        await self.app({**scope, "path": path, "raw_path": path.encode()}, receive, send)


@pytest.mark.parametrize("strips", [True, False])
def test_behind_a_sub_path(folder, store, strips):
    app = create_app(folder, store, KEYS, root_path="/lab/study/")
    client = Browser(Strip(app, "/lab/study") if strips else app, root="/lab/study")
    take_part_under(client, "/lab/study", folder)


def test_behind_uvicorns_sub_path(folder, store):
    with served(create_app(folder, store, KEYS), root_path="/lab") as address, httpx2.Client(base_url=address) as http:
        first = http.get("/")  # uvicorn expects a proxy that strips
        assert "Path=/lab;" in first.headers["set-cookie"]
        page = first.text
        assert 'action="/lab/start"' in page
        assert http.get("/static/study.css").status_code == 200


def take_part_under(client, root, folder):
    first = client.get(f"{root}/")
    assert f"Path={root};" in first.headers["set-cookie"]
    assert client.start().headers["location"] == f"{root}/vote"
    page = client.get(f"{root}/vote").text
    for address in re.findall(r'(?:href|src|action)="([^"#]*)"', page):
        assert address.startswith(f"{root}/")
    for address in re.findall(r'(?:href|src)="([^"#]+)"', page):
        assert client.get(address.replace("&amp;", "&")).status_code == 200, address
    assert f'data-root="{root}"' in page
    assert client.vote().status_code == 200
    assert f"http://testserver{root}/resume#" in client.get(f"{root}/link").text
    assert client.get(f"{root}/admin").headers["location"] == f"{root}/admin/login"
    answer = client.log_in()
    assert answer.headers["location"] == f"{root}/admin"
    assert f"Path={root}/admin;" in answer.headers["set-cookie"]
    assert client.get(f"{root}/admin").status_code == 200
    assert client.get(f"{root}/nothing").status_code == 404
    assert client.get(f"{root}/openapi.json").json()["openapi"]


@pytest.mark.parametrize("root", ["/vote", "/admin/study", "study", "/a b", "/a//b", "//evil", '/"x'])
def test_sub_paths_that_cannot_be(folder, store, root):
    with pytest.raises(FreeUValueError, match="--root-path must"):
        create_app(folder, store, KEYS, root_path=root)


def test_a_demonstration_says_so_on_every_page(tmp_path):
    study = make_study(tmp_path / "demo", demonstration=True, slots=1)
    with Store(database_url(study.path), study.plan) as store:
        client = Browser(create_app(study, store, KEYS))
        for path in ("/", "/resume", "/privacy", "/nothing", "/admin/login"):
            assert "Demonstration with simulated raters" in client.get(path).text, path
        client.start()
        client.log_in()
        for path in ("/vote", "/link", "/admin"):
            assert "Demonstration with simulated raters" in client.get(path).text, path
        for _ in range(10):
            client.vote()
        assert "Demonstration with simulated raters" in client.get("/done").text
        assert "simulated" in client.get("/admin/report").text
        assert "Demonstration with simulated raters" in Browser(create_app(study, store, KEYS)).start().text


# Administration.


def test_progress_of_the_administrator(rater, folder):
    rater.vote(seconds=3.0)
    assert rater.get("/admin").headers["location"] == "/admin/login"
    wrong = rater.log_in("wrong")
    assert (wrong.status_code, "Wrong password" in wrong.text) == (403, True)
    assert rater.get("/admin").status_code == 303
    assert rater.log_in().headers["location"] == "/admin"
    page = rater.get("/admin").text
    cells = re.findall(r"<dd>(\d+)</dd>", page)
    assert cells == ["1", "0", "1", "1", "0", "0", "3"]
    assert "1 of 10" in page
    assert "Ada" in page
    assert folder.plan.sha256[:12] in page


def test_without_pyarrow_parquet_is_not_offered(rater, monkeypatch):
    rater.log_in()
    assert "votes.parquet" in rater.get("/admin").text
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "pyarrow" else find(name, *more)
    )
    page = rater.get("/admin").text
    assert "parquet" not in page
    assert "votes.csv" in page
    assert rater.get("/admin/export/votes.parquet").status_code == 404
    assert rater.get("/admin/export/study.zip").status_code == 200


def test_exports_and_report(rater, store, folder):
    for _ in range(10):
        rater.vote(seconds=3.0)
    rater.log_in()
    rows = rater.get("/admin/export/votes.csv").text.strip().split("\r\n")
    assert len(rows) == 11
    assert "Ada" not in "".join(rows)
    assert len(rater.get("/admin/export/votes.json").json()) == 10
    table = pyarrow.parquet.read_table(io.BytesIO(rater.get("/admin/export/votes.parquet").content))
    assert table.num_rows == 10
    found = rater.get("/admin/export/results.json")
    assert found.headers["content-disposition"] == 'attachment; filename="results.json"'
    assert json.loads(found.text)["plan"] == folder.plan.sha256
    for name in ("results.csv", "results.parquet"):
        assert rater.get(f"/admin/export/{name}").status_code == 200
    for name in ("secrets.json", "study.sqlite", "votes.exe", "..%2fplan.json"):
        assert rater.get(f"/admin/export/{name}").status_code == 404
    report = rater.get("/admin/report")
    assert report.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert "SD + FreeU" in report.text
    assert "data:image/" in report.text


def test_links_of_the_administrator(rater, store):
    rater.log_in()
    token = rater.field("csrf", rater.get("/admin").text)
    page = rater.post("/admin/links", data={"csrf": token, "count": "2"}).text
    codes = re.findall(r"http://testserver/resume#([0-9A-Z-]{24})", page)
    assert len(codes) == 2
    assert all(store.find(code)[0].joined is None for code in codes)
    assert "has 1 free slot of 4" in rater.post("/admin/links", data={"csrf": token, "count": "2"}).text
    assert rater.post("/admin/links", data={"csrf": token, "count": "0"}).status_code == 422


def test_every_page_of_the_administrator_is_closed(rater):
    for path in ("", "/report", "/export/votes.csv", "/export/results.json"):
        answer = rater.get(f"/admin{path}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/admin/login")
    assert rater.post("/admin/links", data={"count": "1"}).headers["location"] == "/admin/login"


# Limits and failures.


def test_too_many_requests(folder, store):
    app = create_app(folder, store, KEYS, rates={"vote": Rate(2, 0.01), "session": Rate(100, 1)})
    client = Browser(app)
    client.start()
    assert [client.vote().status_code for _ in range(3)] == [200, 200, 429]
    assert len(store.counted_votes()) == 2
    assert int(client.vote().headers["retry-after"]) >= 1


def test_a_busy_database_is_no_lost_answer(folder, monkeypatch):
    """Another program holds the database: the rater is told to try again, and then counts once."""
    monkeypatch.setattr(database, "BUSY_MS", 50)
    url = database_url(folder.path)
    with Store(url, folder.plan) as store:
        client = Browser(create_app(folder, store, KEYS))
        client.start()
        with contextlib.closing(sqlite3.connect(folder.path / "study.sqlite")) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = client.vote()
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            other.rollback()
        assert client.vote().status_code == 200
        assert len(store.events()) == 1


def test_no_library_is_loaded_that_is_not_needed():
    code = "import sys, freeu.study.web, freeu.cli.commands.study.serve;"
    code += "print({'torch', 'scipy', 'pandas', 'PIL', 'pyarrow'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_the_password_opens_nothing_else(client):
    assert client.log_in(PASSWORD).status_code == 303
    assert client.get("/api/state").status_code == 401


def test_a_study_made_by_freeu_study_new(study_folder):
    """The real folder: every task of a slot can be answered, and the results count them."""
    plan = study_folder.plan
    with Store(database_url(study_folder.path), plan) as store:
        # Faster than any person: no limit of any kind may depend on how fast this machine is.
        client = Browser(create_app(study_folder, store, KEYS, rates=dict.fromkeys(RATES, Rate(1e9, 1e9))))
        client.start()
        for task in plan.slots[0]:
            state = client.state()["task"]
            sizes = {len(client.get(f"/media/{state[side]}").content) for side in ("left", "right")}
            assert (state["task"], len(sizes)) == (task.id, 1)
            assert client.vote(seconds=3.0).status_code == 200
        client.log_in()
        found = client.get("/admin/export/results.json").json()
        assert found["raters"]["voted"] == 1
        assert found["demonstration"] is plan.demonstration
        assert len(store.counted_votes()) == len(plan.slots[0])


def test_where_prompts_are_unknown_none_is_shown(tmp_path):
    study = make_study(tmp_path / "study", prompts=("", ""))
    with Store(database_url(study.path), study.plan) as store:
        client = Browser(create_app(study, store, KEYS))
        client.start()
        assert '<p class="prompt" hidden>' in client.get("/vote").text
        assert client.vote().status_code == 200
        client.log_in()
        assert "<td>unknown prompt 2</td>" in client.get("/admin").text
        assert re.search(r"<span>unknown prompt [12]</span>", client.get("/admin/report").text)

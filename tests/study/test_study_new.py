"""From folders to a study: ``new_study``, ``StudyFolder``, and ``freeu study new`` and ``power``."""

import contextlib
import hashlib
import io
import json
import re
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from study.materials import compared_folder, frames_of, make_image, plain_folders, video

from freeu.cli.commands.study import study
from freeu.config import FreeUConfig
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.study.plan.build import new_study
from freeu.study.plan.design import Workload, make_design, workload
from freeu.study.plan.folder import StudyFolder
from freeu.study.plan.material import read_material
from freeu.study.plan.plan import CHECK_ARM, QUESTIONS, Rules
from freeu.study.plan.questions import parse_languages, parse_questions
from freeu.wording import counted

SETTINGS = {"title": "Which?", "raters": 4, "pairs_per_rater": 6, "seed": 1}


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def command(*words):
    """What ``freeu study ...`` prints on both outputs."""
    app = typer.Typer()
    app.add_typer(study)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        app(["study", *map(str, words)], standalone_mode=False)
    return out.getvalue(), err.getvalue()


def test_every_file_shows_what_its_item_says(tmp_path):
    folders = plain_folders(tmp_path, arms=("one", "two", "three"))
    made = new_study(read_material(folders), tmp_path / "out", **SETTINGS)
    names = ("a1", "a2", "b1", "b2", "c1", "c2")
    clean = [item for item in made.plan.items if item.arm != CHECK_ARM]
    assert {item.arm for item in clean} == {"one", "two", "three"}
    for item in clean:
        np.testing.assert_array_equal(pixels(made.media(item.id)), np.asarray(make_image(names[item.prompt], item.arm)))
        assert (item.width, item.height, item.media, item.seed) == (64, 48, "image", None)
    for pair in made.plan.pairs:
        first, second = made.plan.item(pair.first), made.plan.item(pair.second)
        assert first.prompt == second.prompt == pair.prompt
        assert pair.check == (second.arm == CHECK_ARM)
        if pair.check:
            shown, noisy = (pixels(made.media(item.id)).astype(int) for item in (first, second))
            assert 30 < np.abs(shown - noisy).mean() < 80
            assert np.corrcoef(shown.ravel(), noisy.ravel())[0, 1] > 0.3
        else:
            assert first.arm != second.arm


def test_nothing_about_a_file_tells_its_arm(tmp_path):
    made = new_study(
        read_material([compared_folder(tmp_path / "run")]),
        tmp_path / "out",
        **(SETTINGS | {"pairs_per_rater": 4, "repeats": 0}),
    )
    plan = made.plan
    files = {item.id: made.media(item.id) for item in plan.items}
    for pair in plan.pairs:
        assert files[pair.first].stat().st_size == files[pair.second].stat().st_size
    assert len({path.stat().st_mtime_ns for path in files.values()}) == 1
    for path in files.values():
        assert re.fullmatch(r"[0-9a-f]{32}\.png", path.name)
        assert not re.search(rb"(?i)freeu|baseline|tEXt|iTXt|zTXt|eXIf|tIME|pHYs", path.read_bytes()[:2000])
    names = [item.id for item in plan.items] + [task.id for task in plan.tasks()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)
    # Neither the order of items nor that of files follows the order of making, in which the baseline was first.
    assert [item.id for item in plan.items] == sorted(item.id for item in plan.items)


def test_tasks_follow_the_design(plan):
    design = make_design([0, 0, 1, 1, 2, 2], 2, raters=4, pairs_per_rater=6, seed=1)
    assert len(plan.slots) == len(design.slots) == 6
    for slot, trials in zip(plan.slots, design.slots, strict=True):
        both = list(zip(slot[::2], slot[1::2], strict=True))
        assert len(both) == len(trials)
        for (one, other), trial in zip(both, trials, strict=True):
            # Both questions about a pair follow each other, with the same sides.
            assert (one.question, other.question) == ("alignment", "quality")
            assert (one.pair, one.first_left, one.kind) == (other.pair, other.first_left, other.kind)
            assert (one.first_left, one.kind) == (trial.first_left, trial.kind)
            asked = plan.pair(one.pair)
            prompts = [design.checks if trial.kind == "check" else design.pairs][0]
            assert asked.prompt == prompts[trial.number].group // 2


def test_same_seed_same_design_other_ids(tmp_path):
    material = read_material(plain_folders(tmp_path))
    one, other = (new_study(material, tmp_path / name, **SETTINGS).plan for name in ("x", "y"))
    shape = [[(task.pair, task.question, task.first_left, task.kind) for task in slot] for slot in one.slots]
    assert shape == [[(task.pair, task.question, task.first_left, task.kind) for task in slot] for slot in other.slots]
    assert not {item.id for item in one.items} & {item.id for item in other.items}
    assert not {task.id for task in one.tasks()} & {task.id for task in other.tasks()}
    assert one.sha256 != other.sha256


def test_settings_reach_the_plan(tmp_path):
    rules = Rules(0.5, 1.0, 0.1, 0.6)
    made = new_study(
        read_material([compared_folder(tmp_path / "run")]),
        tmp_path / "out",
        title="Which?",
        raters=3,
        pairs_per_rater=4,
        questions=QUESTIONS[1:],
        ties=True,
        checks=1,
        repeats=0,
        spare=1,
        seed=5,
        languages=("zh",),
        rules=rules,
        demonstration=True,
    )
    plan = StudyFolder.open(made.path).plan
    assert plan == made.plan
    assert (plan.title, plan.seed, plan.languages, plan.ties, plan.raters) == ("Which?", 5, ("zh",), True, 3)
    assert (plan.questions, plan.rules, plan.demonstration) == (QUESTIONS[1:], rules, True)
    assert plan.prompts == ("a fox", "a dog")
    assert plan.source == ("run: freeu compare, tiny, 20 steps, CFG scale 7.5",)
    assert plan.arms[1].settings["b"] == [1.3, 1.4]
    assert {item.seed for item in plan.items} == {0, 1}
    assert len(plan.slots) == 4
    assert Counter(task.kind for task in plan.slots[0]) == {"vote": 4, "check": 1}


def test_a_study_of_videos(tmp_path):
    for arm in ("a", "b"):
        (tmp_path / arm).mkdir()
        for name in "123456":
            video(tmp_path / arm / f"{name}.mp4", arm, frames=6)
    made = new_study(
        read_material([tmp_path / "a", tmp_path / "b"]), tmp_path / "out", **(SETTINGS | {"repeats": 1, "checks": 1})
    )
    for item in made.plan.items:
        assert item.file.endswith(".mp4")
        if item.arm != CHECK_ARM:
            source = tmp_path / item.arm / f"{item.prompt + 1}.mp4"
            difference = np.abs(frames_of(made.media(item.id)).astype(float) - frames_of(source))
            assert np.median(difference) <= 2  # encoded anew, like all others
    for pair in made.plan.pairs:
        assert made.media(pair.first).stat().st_size == made.media(pair.second).stat().st_size


class Interrupted:
    """Ctrl-C, or an error, after some files."""

    def __init__(self, after, error):
        self.after, self.error = after, error

    def __call__(self, done, total):
        if done == self.after:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), RuntimeError("x")])
def test_what_is_interrupted_leaves_nothing(tmp_path, error):
    material = read_material(plain_folders(tmp_path))
    before = sorted(tmp_path.iterdir())
    expected = FreeURuntimeError if isinstance(error, OSError) else type(error)
    for output in (tmp_path / "out", tmp_path / "deep" / "er" / "out"):
        with pytest.raises(expected):
            new_study(material, output, **SETTINGS, report=Interrupted(5, error))
        assert sorted(tmp_path.iterdir()) == before


def test_where_a_study_may_go(tmp_path, monkeypatch):
    material = read_material(plain_folders(tmp_path))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(FreeUValueError, match="holds other files already"):
        new_study(material, tmp_path / "full", **SETTINGS)
    with pytest.raises(FreeUValueError, match="is a file"):
        new_study(material, tmp_path / "full" / "file", **SETTINGS)
    (tmp_path / "empty").mkdir()
    assert new_study(material, tmp_path / "empty", **SETTINGS).path == tmp_path / "empty"
    monkeypatch.chdir(tmp_path)
    deep = new_study(material, StudyFolder.open(tmp_path / "empty").path.relative_to(tmp_path) / "x" / "y", **SETTINGS)
    deep.verify_media()
    # The plan says the arm of every image: no other user of the machine reads it.
    assert stat.S_IMODE(deep.path.stat().st_mode) == 0o700
    with pytest.raises(FreeUValueError, match="holds other files already"):
        new_study(material, deep.path, **SETTINGS)


def test_a_plan_that_does_not_fit_its_media_is_not_written(tmp_path, plan):
    def fill(folder):
        for item in plan.items[1:]:
            (folder / item.file).write_bytes(b"x")
        return plan

    with pytest.raises(FreeUValueError, match="cannot read media"):
        StudyFolder.create(tmp_path / "new", fill)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data["plan"].update(title="Another"), "was changed after it was created"),
        (lambda data: data["plan"]["slots"][0].reverse(), "was changed after it was created"),
        (lambda data: data.update(sha256="0" * 64), "was changed after it was created"),
        (lambda data: data.update(kind="freeu-manifest"), 'lacks "kind": "freeu-study"'),
        (lambda data: data.update(schema=2), "use a newer freeu"),
        (lambda data: data["plan"].pop("items"), r"damaged: plan\.items: Field required"),
        (lambda data: data["plan"]["items"].pop(), "is inconsistent"),
        (lambda data: data.pop("plan"), "damaged"),
    ],
)
def test_changed_plans_are_refused(study_folder, change, words):
    path = study_folder.path / "plan.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(FreeUValueError, match=words):
        StudyFolder.open(study_folder.path)


def _first_task(data, **changes):
    data["plan"]["slots"][0][0].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data["plan"].update(raters="2"), "plan.raters: .*integer, got '2'"),
        (lambda data: data["plan"].update(ties=0), "plan.ties: .*boolean, got 0"),
        (lambda data: data["plan"].update(prompts="a fox"), "plan.prompts: .*array, got 'a fox'"),
        (lambda data: data["plan"]["items"][1].update(width=64.5), r"plan.items\[1\].width: .*, got 64.5"),
        (
            lambda data: data["plan"]["items"][0].update(path="/etc"),
            r"plan.items\[0\].path: Unexpected.*, got '/etc'",
        ),
        (lambda data: data["plan"]["arms"].append("third"), r"plan.arms\[2\]: .*, got 'third'"),
        (lambda data: data["plan"]["questions"][0].update(text=["Which?"]), r"plan.questions\[0\].text: .*"),
        (lambda data: data["plan"]["rules"].update(least_checks=float("nan")), "plan.rules.least_checks: .*finite"),
        (lambda data: _first_task(data, first_left="yes"), r"plan.slots\[0\]\[0\].first_left: .*boolean, got 'yes'"),
        (lambda data: _first_task(data, kind="bonus"), r"plan.slots\[0\]\[0\].kind: .*'vote'.*, got 'bonus'"),
        (lambda data: data.update(votes=[]), r"votes: .*, got \[\]"),
    ],
)
def test_a_damaged_plan_names_field_and_value_in_one_line(study_folder, change, words):
    path = study_folder.path / "plan.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(FreeUValueError, match=rf"plan.json is damaged: {words}") as caught:
        StudyFolder.open(study_folder.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"kind": ' * 100_000, "{", "", "\x00"])
def test_what_is_no_json_is_one_line(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(FreeUValueError, match=r"plan\.json is damaged: not valid JSON") as caught:
        StudyFolder.open(tmp_path)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_a_plan_of_version_0_1_is_read(tmp_path):
    """The file was written by ``freeu study new`` of version 0.1; its votes carry that hash."""
    (tmp_path / "plan.json").write_bytes((Path(__file__).parent / "files" / "plan-0.1.json").read_bytes())
    plan = StudyFolder.open(tmp_path).plan
    assert plan.sha256 == "779a941e3eb5454d006d6f0f5e59d817d8ec3195025eccd88de373b5b31ded77"
    assert (plan.raters, plan.languages, len(plan.items), len(plan.slots)) == (2, ("en", "zh"), 16, 4)
    assert [arm.name for arm in plan.arms] == ["baseline", "freeu"]
    assert FreeUConfig.from_dict(plan.arms[1].settings) == FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))


def test_what_is_no_study(tmp_path):
    with pytest.raises(FreeUValueError, match="is not a study of freeu"):
        StudyFolder.open(tmp_path / "nothing")
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe")
    with pytest.raises(FreeUValueError, match="is damaged: not valid JSON"):
        StudyFolder.open(tmp_path)
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(FreeUValueError, match="is not the plan of a study"):
        StudyFolder.open(tmp_path)


def test_only_ids_of_the_plan_lead_to_files(study_folder):
    item = study_folder.plan.items[0]
    path = study_folder.media(item.id)
    assert path.parent == study_folder.path / "media"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == item.sha256
    for name in ("../plan.json", "..%2fplan", "/etc/passwd", item.file, item.id.upper(), item.id + "/", "", "check"):
        with pytest.raises(KeyError):
            study_folder.media(name)


def test_media_are_verified(study_folder):
    study_folder.verify_media()
    first, second = (study_folder.media(item.id) for item in study_folder.plan.items[:2])
    data = first.read_bytes()
    first.write_bytes(data[:-1] + b"x")
    with pytest.raises(FreeUValueError, match=f"{first.name} was changed: its hash is not the one in the plan"):
        study_folder.verify_media()
    first.write_bytes(data)
    second.rename(second.with_name("other.png"))
    with pytest.raises(FreeUValueError, match=f"cannot read media/{second.name}"):
        study_folder.verify_media()
    second.with_name("other.png").rename(second)
    second.with_name("other.png").write_bytes(b"")
    with pytest.raises(FreeUValueError, match=r"media/other.png is not in the plan"):
        study_folder.verify_media()


def test_new_says_what_was_planned(tmp_path):
    out, err = command(
        "new", compared_folder(tmp_path / "run", seeds=(0, 1, 2)), "--raters", 10, "--output", tmp_path / "s"
    )
    assert "2 prompts, 6 pairs of baseline / freeu" in out
    assert "10 raters (12 slots), each with 6 pairs, 4 attention checks and 2 repeats: 24 answers to 2 questions" in out
    assert "10 votes per pair and question" in out
    assert "cannot detect" not in out
    assert f"wrote {tmp_path / 's'}" in out
    made = StudyFolder.open(tmp_path / "s")
    made.verify_media()
    assert (made.plan.raters, made.plan.ties, made.plan.demonstration) == (10, False, False)
    assert made.plan.questions == QUESTIONS
    assert "safety" not in err


def test_new_takes_every_option(tmp_path):
    folders = plain_folders(tmp_path)
    (tmp_path / "prompts").write_text("one\none\ntwo\ntwo\nthree\nthree\n")
    words = "--title T --raters 3 --pairs-per-rater 5 --ties --checks 1 --repeats 1 --seed 9 --languages zh,en"
    rules = "--min-seconds 2 --max-hasty 0.5 --min-checks 1 --min-consistency 0.5 --demonstration"
    questions = ("--question", "sharp=Sharper?", "--question", "sharp.zh=更清晰?", "--question", "quality")
    out, _ = command(
        "new",
        *folders,
        *words.split(),
        *rules.split(),
        *questions,
        "--prompts",
        tmp_path / "prompts",
        "--output",
        tmp_path / "s",
    )
    plan = StudyFolder.open(tmp_path / "s").plan
    assert (plan.title, plan.raters, plan.ties, plan.seed, plan.demonstration) == ("T", 3, True, 9, True)
    assert plan.languages == ("zh", "en")
    assert plan.rules == Rules(1.0, 2.0, 0.5, 0.5)
    assert plan.prompts == ("one", "two", "three")
    assert [question.name for question in plan.questions] == ["sharp", "quality"]
    assert plan.questions[0].text == {"zh": "更清晰?", "en": "Sharper?"}
    assert Counter(task.kind for task in plan.slots[0]) == {"vote": 10, "check": 2, "repeat": 2}
    assert "2-3 votes per pair and question" in out


def test_without_prompts_only_quality_is_asked(tmp_path):
    _, err = command("new", *plain_folders(tmp_path), "--output", tmp_path / "s")
    assert "only quality is asked" in err
    assert [question.name for question in StudyFolder.open(tmp_path / "s").plan.questions] == ["quality"]


@pytest.mark.parametrize(
    ("names", "words", "kept"),
    [
        (("1",), [], (1, 1, 0)),
        (("1", "2"), [], (2, 2, 0)),
        (("1", "2", "3", "4", "5"), [], (5, 4, 1)),
        (("1", "2"), ["--checks", "1"], (2, 1, 0)),
        (("1", "2"), ["--repeats", "0", "--checks", "0"], (2, 0, 0)),
        (("1", "2", "3"), ["--pairs-per-rater", "2"], (2, 2, 0)),
    ],
)
def test_a_small_study_reduces_the_defaults_and_says_so(tmp_path, names, words, kept):
    out, err = command("new", *plain_folders(tmp_path, names=names), "--output", tmp_path / "s", *words)
    pairs, checks, repeats = kept
    plan = StudyFolder.open(tmp_path / "s").plan
    for slot in plan.slots:
        assert Counter(task.kind for task in slot) == Counter({"vote": pairs, "check": checks, "repeat": repeats})
    reduced = [
        f"{counted(number, noun)} instead of {default}"
        for name, noun, number, default in (
            ("--checks", "attention check", checks, 4),
            ("--repeats", "repeat", repeats, 2),
        )
        if name not in words and number < default
    ]
    note = f"freeu: only {counted(pairs, 'pair')} per rater, so {' and '.join(reduced)}\n"
    assert (note in err) == bool(reduced)
    assert f"each with {counted(pairs, 'pair')}, {counted(checks, 'attention check')} and" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checks", "4"], "checks must be at most 2, the number of pairs and repeats per rater, got 4"),
        (["--repeats", "2"], "repeats must be at most 0 with 2 pairs per rater"),
        (["--pairs-per-rater", "3"], "pairs per rater must be at most 2"),
    ],
)
def test_given_numbers_are_refused_where_they_do_not_fit(tmp_path, words, message):
    folders = plain_folders(tmp_path, names=("1", "2"))
    with pytest.raises(FreeUValueError, match=message):
        command("new", *folders, "--output", tmp_path / "s", *words)
    assert not (tmp_path / "s").exists()


def test_workload():
    assert workload(100, 2) == Workload(20, 4, 2)
    assert workload(1, 2) == Workload(1, 1, 0)
    assert workload(1, 3) == Workload(3, 3, 0)
    assert workload(1, 30) == Workload(29, 4, 2)
    assert workload(1, 2, 7, 8, 9) == Workload(7, 8, 9)
    for groups in range(1, 8):
        for arms in (2, 3, 4):
            make_design(list(range(groups)), arms, raters=2)  # the defaults always fit


def test_questions_and_title_name_what_is_shown(tmp_path):
    command("new", *plain_folders(tmp_path / "images", names=("1", "2")), "--output", tmp_path / "i")
    for arm in ("a", "b"):
        (tmp_path / arm).mkdir()
        video(tmp_path / arm / "1.mp4", arm, frames=4)
    (tmp_path / "prompts").write_text("a fox\n")
    folders = (tmp_path / "a", tmp_path / "b", "--prompts", tmp_path / "prompts", "--raters", 1)
    command("new", *folders, "--output", tmp_path / "v")
    images, videos = (StudyFolder.open(tmp_path / name).plan for name in ("i", "v"))
    assert (images.title, videos.title) == ("Which image is better?", "Which video is better?")
    # Without prompts raters are neither asked about them nor reminded of them.
    assert [question.text["en"] for question in images.questions] == ["Which image has better quality?"]
    assert [question.text["en"] for question in videos.questions] == [
        "Which video matches the prompt better?",
        "Which video has better quality, regardless of the prompt?",
    ]
    command("new", *folders, "--question", "quality", "--question", "motion=Smoother?", "--output", tmp_path / "q")
    assert StudyFolder.open(tmp_path / "q").plan.questions[0] == videos.questions[1]
    with pytest.raises(FreeUValueError, match="--question alignment needs the prompts"):
        command("new", *plain_folders(tmp_path / "more"), "--question", "alignment", "--output", tmp_path / "x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--raters", "0"], "--raters must lie in 1 to 10000, got 0"),
        (["--pairs-per-rater", "7"], "pairs per rater must be at most 6"),
        (["--repeats", "4"], "repeats must be at most 2"),
        (["--checks", "-1"], "--checks must lie in 0 to 100"),
        (["--max-hasty", "nan"], "--max-hasty must lie in 0 to 1, got nan"),
        (["--languages", "en,de"], "--languages must be a comma-separated list of en, zh"),
        (["--languages", ""], "--languages must be a comma-separated list of en, zh"),
        (["--question", "what"], '--question must look like "name=text"'),
        (["--question", "a.de=Was?"], '--question must look like "name=text"'),
        (["--question", "a.en=What?"], '--question a has no text for zh: add "a.zh=..."'),
        (["--title", " "], "title must not be empty"),
        (["--prompts", "missing.txt"], "cannot read the prompts in missing.txt"),
    ],
)
def test_bad_options_write_nothing(tmp_path, words, message):
    folders = plain_folders(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FreeUValueError, match=re.escape(message)) as error:
        command("new", *folders, "--output", tmp_path / "s", *words)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_parsing():
    assert parse_languages("zh, en,zh") == ("zh", "en")
    assert parse_questions([], ("en",)) == ()
    (one,) = parse_questions(["a.zh=二", "a=b=c"], ("en", "zh"))
    assert one.text == {"zh": "二", "en": "b=c"}
    assert parse_questions(["quality", "alignment"], ("en", "zh")) == (QUESTIONS[1], QUESTIONS[0])


def test_power_command():
    out, _ = command("power", "--effect", "0.6", "--pairs-per-rater", 20, "--prompts", 35)
    assert "210 independent votes detect a preference of 60.0% with power 80%" in out
    assert "29 raters with 20 pairs each over 35 prompts have the same power: 580 votes per question" in out
    assert ", design effect 2.7" in out
    out, _ = command("power", "--arms", 4, "--pairs-per-rater", 30, "--prompts", 50)
    assert "votes per question and pair of arms" in out
    with pytest.raises(FreeUValueError, match="no number of raters is enough with 10 prompts"):
        command("power", "--prompts", 10)

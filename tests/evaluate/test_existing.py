"""``freeu evaluate --pictures``: plain folders, folders with a manifest, the embedded reader, and bad input."""

import json

import pytest
from command_line import run_cli as run
from PIL import Image

from freeu.cli.progress import Bar
from freeu.errors import FreeUValueError
from freeu.evaluate.embedded import load_reader
from freeu.evaluate.experiment.existing import read_existing
from freeu.evaluate.experiment.prompts import Prompt

LINES = ("a 3d fox on a blue background", "a flat car on a red background")


def folder_of(path, colours):
    path.mkdir(parents=True)
    for number, colour in enumerate(colours):
        Image.new("RGB", (16, 16), colour).save(path / f"{number}.png")
    return path


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(LINES))
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder of ``freeu compare`` with two prompts, the second first, and two seeds."""
    pytest.importorskip("freeu_zoo")
    folder = tmp_path_factory.mktemp("compared") / "both"
    words = ("--seeds", "0-1", "--steps", "1", "--threads", "1", "--output", folder)
    code, _, err = run("compare", *reversed(LINES), *words)
    assert code == 0, err
    return folder


def test_plain_folders(prompts, clip_dir, tmp_path):
    first = folder_of(tmp_path / "a", ["red", "blue"])
    second = folder_of(tmp_path / "b", ["blue", "white"])
    real = folder_of(tmp_path / "real", ["black", "green"])
    words = ("--images", first, "--images", second, "--reference", real, "--reference-matches")
    code, out, err = run(
        "evaluate", "--prompts", prompts, *words, "--judge", clip_dir, "--threads", 1, "--output", tmp_path / "out"
    )
    assert (code, err) == (0, "")
    assert "table.md" in out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [arm["name"] for arm in results["arms"]] == ["a", "b"]
    assert (results["plan"], results["reference_matches"]) == (None, True)
    assert results["guidance"] == {"a": None, "b": None}
    assert results["pictures"][3]["file"] == "b/1.png"
    assert results["summary"]["a"]["saturation"]["value"] == 1.0
    assert results["differences"]["b"]["saturation"]["value"] == -0.5
    assert {"clip_score", "retrieval", "brightness"} <= results["ceiling"]["summary"].keys()
    assert results["floor"]["summary"].keys() == {"clip_score"}
    assert [row["prompt"] for row in results["floor"]["pictures"]] == [1, 0]
    assert {"kid", "fid"} <= results["summary"]["a"].keys()
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.startswith("# Existing images\n\n2 prompts, 1 image per prompt.")
    assert "| arm | clip_score | kid x 1000 |" in table
    assert "guidance" not in table
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 4
    assert "images as they were given" in page
    assert str(tmp_path) not in page
    assert str(tmp_path) not in table + (tmp_path / "out" / "results.json").read_text()
    code, _, err = run("evaluate", "--prompts", prompts, *words, "--output", tmp_path / "out")
    assert code == 2
    assert "holds other files already" in err


def test_a_folder_of_compare(prompts, compared, tmp_path):
    other = folder_of(tmp_path / "other", ["red", "blue"])
    words = ("--images", compared, "--judge", "none", "--output", tmp_path / "out")
    code, _, err = run("evaluate", "--prompts", prompts, *words)
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [arm["name"] for arm in results["arms"]] == ["both/baseline", "both/freeu"]
    assert results["arms"][0]["config"] is None
    assert results["arms"][1]["config"] is not None
    assert results["guidance"]["both/freeu"] > 1
    # The manifest's first prompt is the second of the file.
    rows = [(row["file"], row["prompt"], row["seed"]) for row in results["pictures"][:4]]
    assert rows == [
        ("both/p001-s0000-baseline.png", 0, 0),
        ("both/p001-s0001-baseline.png", 0, 1),
        ("both/p000-s0000-baseline.png", 1, 0),
        ("both/p000-s0001-baseline.png", 1, 1),
    ]
    assert results["summary"]["both/freeu"]["pixel_diversity"]["count"] == 2
    assert "2 prompts, 2 images per prompt." in (tmp_path / "out" / "table.md").read_text()

    asked = [Prompt(line) for line in LINES]
    with pytest.raises(FreeUValueError, match="the same number of images of each prompt, got 2 and 4 of 2 prompts"):
        read_existing([compared, other], asked)
    with pytest.raises(FreeUValueError, match="'a flat car on a red background', which is not in --prompts"):
        read_existing([compared], asked[:1])
    with pytest.raises(FreeUValueError, match=r"shows 2 of the 3 prompts of --prompts: .* such as 'a dog'"):
        read_existing([compared], [*asked, Prompt("a dog")])
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "manifest.json").write_text((compared / "manifest.json").read_text())
    with pytest.raises(FreeUValueError, match="holds 0 of its 8 images"):
        read_existing([copy], asked)
    # The same images with seed 5 in place of 1 cannot be paired.
    text = (compared / "manifest.json").read_text().replace("s0001", "s0005").replace('"seed": 1', '"seed": 5')
    data = json.loads(text)
    data["plan"]["seeds"] = [0, 5]
    (copy / "manifest.json").write_text(json.dumps(data))
    for path in compared.glob("p*.png"):
        (copy / path.name.replace("s0001", "s0005")).write_bytes(path.read_bytes())
    assert len(read_existing([copy], asked)) == 2
    with pytest.raises(FreeUValueError, match="copy/baseline and both/baseline have different seeds"):
        read_existing([compared, copy], asked)


def test_folders_of_one_name_are_told_apart(tmp_path):
    folders = [folder_of(tmp_path / outer / "same", ["red"]) for outer in "xy"]
    assert [arm.name for arm in read_existing(folders, [Prompt("a")])] == ["x/same", "y/same"]
    with pytest.raises(FreeUValueError, match="is given twice"):
        read_existing([folders[0], folders[0] / ".." / "same"], [Prompt("a")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--images", "nowhere"), "--images nowhere is no folder"),
        (("--images", "one"), "its i-th image must show the i-th prompt, got 1 image and 2 prompts"),
        (("--images", "empty"), "--images empty holds no images"),
        (("--images", "foreign"), "is not a manifest of freeu"),
        (("--images", "two", "--arms", "none"), "--images are there already: leave --arms out"),
        (("--images", "two", "--seeds", "0"), "--images are there already: leave --seeds out"),
        (("--images", "two", "--dtype", "float32"), "--images are there already: leave --dtype out"),
        (("--images", "two", "--steps", "3"), "leave --steps out"),
        (("mini-sd", "--images", "two"), "leave MODEL out"),
        (("--images", "two", "--threads", "0"), "--threads must lie in 1 to 4096"),
        (("--images", "two", "--output", "two"), "--output two holds other files already"),
        (("--images", "broken", "--judge", "none"), "is not an image that Pillow can read"),
        (("--images", "two", "--reference-matches"), "give --reference too"),
        (("--reference", "three", "--reference-matches"), "got 3 images and 2 prompts"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words, message, prompts, tmp_path, monkeypatch):
    work = tmp_path / "work"
    for name, count in (("empty", 0), ("one", 1), ("two", 2), ("three", 3), ("broken", 2), ("foreign", 2)):
        folder_of(work / name, ["red"] * count)
    (work / "broken" / "1.png").write_text("no image")
    (work / "foreign" / "manifest.json").write_text("{}")
    before = sorted(work.rglob("*"))
    monkeypatch.chdir(work)
    code, out, err = run("evaluate", "--prompts", prompts, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(work.rglob("*")) == before


def test_the_bar_counts_what_is_scored():
    bar = Bar("scoring", None)
    with bar:
        bar.say("scoring a")
        bar.scored(3, 7)
        bar.say("scoring b")
    assert bar.shown == ("scoring b", 3, 7)


def test_the_embedded_reader_sees_its_own_scenes(tmp_path):
    pytest.importorskip("freeu_zoo")
    try:
        load_reader()
    except FreeUValueError as error:
        pytest.skip(f"the installed freeu-zoo has no reader: {error}")
    from freeu_zoo import prompts as zoo

    assert zoo.main([str(tmp_path / "prompts.jsonl"), "--count", "24", "--scenes", str(tmp_path / "real")]) == 0
    # The scenes themselves, each one place further on: an arm that generates well and listens badly.
    arm = tmp_path / "arm"
    arm.mkdir()
    for number in range(24):
        (arm / f"{number:04}.png").write_bytes((tmp_path / "real" / f"{(number + 1) % 24:04}.png").read_bytes())
    words = ("--prompts", tmp_path / "prompts.jsonl", "--images", arm, "--reference", tmp_path / "real")
    code, _, err = run(
        "evaluate", *words, "--reference-matches", "--judge", "none", "--threads", 1, "--output", tmp_path / "out"
    )
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    real, drawn = results["ceiling"]["summary"], results["summary"]["arm"]
    assert real["noun_strict"]["value"] > drawn["noun_strict"]["value"] + 0.3
    assert set(results["by_layout"]["ceiling"]["noun_strict"]) <= {"single", "count", "pair"}
    assert results["share_of_ceiling"]["arm"]["noun_strict"]["value"] < 0.7

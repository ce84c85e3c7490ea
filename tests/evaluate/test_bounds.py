"""Ceiling, floor, shares and layouts, worked by hand with a reader that knows a few plain colours."""

from dataclasses import dataclass

import pytest
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.evaluate import PromptSpec, share_interval
from freeu.evaluate.experiment.bounds import derangement, real_scenes, score_shuffled
from freeu.evaluate.experiment.prompts import Prompt, read_prompts
from freeu.evaluate.experiment.results import as_markdown
from freeu.evaluate.experiment.scoring import Judges, Sample, images_in, score_arm
from freeu.evaluate.experiment.summary import score_everything

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}
NAMES = {rgb: name for name, rgb in COLOURS.items()}


@dataclass(frozen=True)
class Seen:
    background: tuple[str, ...]
    count: int
    nouns: tuple[str, ...] = ()
    style: str = "flat"
    colours: tuple[str | None, ...] = ()
    relation: str | None = None


class ColourReader:
    """Tells the background by the pixel in the corner, and counts one object for each 4 pixels of width."""

    nouns, styles, colours = (), ("flat",), tuple(COLOURS)

    def read(self, pictures):
        return [Seen((NAMES[picture.getpixel((0, 0))],), picture.width // 4) for picture in pictures]


PROMPTS = (
    Prompt("red", PromptSpec(background=("red",), count=1), "single"),
    Prompt("green", PromptSpec(background=("green",), count=1), "single"),
    Prompt("blue", PromptSpec(background=("blue",), count=2), "pair"),
    Prompt("grey", PromptSpec(background=("grey",)), None),
)


def folder_of(path, colours, size=(4, 4)):
    path.mkdir()
    for number, name in enumerate(colours):
        Image.new("RGB", size, COLOURS[name]).save(path / f"{number}.png")
    return [Sample(file, number) for number, file in enumerate(images_in(path, "--images"))]


@pytest.fixture
def results(tmp_path):
    """Plain gets 1 of 4 backgrounds, better 3 of 4, and the real scenes 4 of 4 but no count of 2."""
    samples = {
        "plain": folder_of(tmp_path / "plain", ["red", "red", "red", "red"]),
        "better": folder_of(tmp_path / "better", ["red", "green", "blue", "red"], (8, 8)),
    }
    real = [one.path for one in folder_of(tmp_path / "real", ["red", "green", "blue", "grey"])]
    told = []
    found = score_everything(
        samples, PROMPTS, Judges(ColourReader()), real, True, report=lambda done, total: told.append((done, total))
    )
    assert told == [(4, 12), (8, 12), (12, 12)]
    return found


def test_the_ceiling_is_scored_like_an_arm(results):
    ceiling = results["ceiling"]["summary"]
    assert ceiling["background"] == {"value": 1.0, "low": 1.0, "high": 1.0, "count": 4, "clusters": 4}
    assert ceiling["count"]["value"] == pytest.approx(2 / 3)
    assert ceiling["brightness"]["count"] == 4
    assert [row["file"] for row in results["ceiling"]["pictures"]] == ["0.png", "1.png", "2.png", "3.png"]


def test_the_share_of_the_ceiling(results):
    shares = results["share_of_ceiling"]
    assert shares["plain"]["background"]["value"] == pytest.approx(1 / 4)
    assert shares["better"]["background"]["value"] == pytest.approx(3 / 4)
    # Better counts 2 everywhere: 1 of 3 right, and the real scenes 2 of 3.
    assert shares["better"]["count"]["value"] == pytest.approx(1 / 2)
    assert "brightness" not in shares["plain"]


def test_the_floor_meets_other_prompts_only(results):
    floor = results["floor"]
    assert floor["arm"] == "plain"
    order = [row["prompt"] for row in floor["pictures"]]
    assert sorted(order) == [0, 1, 2, 3]
    assert all(own != other for own, other in enumerate(order))
    # All of its images are red, so exactly the one scored against the first prompt is right.
    assert floor["summary"]["background"]["value"] == pytest.approx(1 / 4)
    assert floor["summary"].keys() == {"background", "colour", "count", "all_asked"}


def test_layouts(results):
    found = results["by_layout"]
    background = found["arms"]["plain"]["background"]
    assert {layout: background[layout]["value"] for layout in background} == {"single": 0.5, "pair": 0.0}
    assert found["arms"]["better"]["count"]["pair"]["value"] == 1.0
    assert found["ceiling"]["count"]["single"]["value"] == 1.0
    assert found["ceiling"]["count"]["pair"]["value"] == 0.0
    # The floor's layouts are those of the prompts that were asked for: one red prompt among two single ones.
    assert found["floor"]["background"]["single"]["value"] == 0.5
    assert background["single"]["clusters"] == 2
    assert background["pair"]["low"] is None


def test_the_table(results):
    record = {
        "plan": None,
        "prompts": [prompt.to_dict() for prompt in PROMPTS],
        "arms": [{"name": "plain"}, {"name": "better"}],
        "guidance": {"plain": None, "better": 3.0},
        "calibration": {},
    }
    text = as_markdown(record | results)
    heads = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert heads[:6] == ["At a glance", "count", "colour", "background", "all_asked", "brightness"]
    assert "4 prompts, 1 image per prompt." in text
    assert "| arm | colour | count |" in text
    assert "| real scenes | 1.000 ± 0.000 | 0.667 ± 0.500 |" in text
    section = text.partition("## background\n")[2].partition("## ")[0].splitlines()
    assert section[1] == "| arm | CFG scale | value | difference | of real |"
    assert section[3].startswith("| plain | - | 0.25 [0, 0.75] | - | 0.25 [")
    assert section[4].startswith("| better | 3 | 0.75 [0.25, 1] | 0.5 [0, 1] | 0.75 [")
    assert section[5] == "| real scenes | - | 1 [1, 1] | - | - |"
    assert section[6].startswith("| shuffled prompts | - | 0.25 [")
    assert section[8:13] == [
        "| arm | single | pair |",
        "| --- | --- | --- |",
        "| plain | 0.5 [0, 1] | 0 |",
        "| better | 1 [1, 1] | 1 |",
        "| real scenes | 1 [1, 1] | 1 |",
    ]
    # Statistics have no share, no layouts and no floor.
    assert "| arm | CFG scale | value | difference |" in text
    brightness = text.partition("## brightness\n")[2].partition("## ")[0]
    assert "real scenes" in brightness
    assert "shuffled" not in brightness


def test_without_references_and_layouts(tmp_path):
    samples = {"a|b": folder_of(tmp_path / "plain", ["red", "green"])}
    prompts = tuple(Prompt(prompt.text, prompt.spec) for prompt in PROMPTS[:2])
    found = score_everything(samples, prompts, Judges(ColourReader()))
    assert (found["ceiling"], found["by_layout"], found["share_of_ceiling"]) == (None, None, {})
    assert found["floor"]["summary"]["background"]["value"] == 0.0
    record = {"plan": None, "prompts": [prompt.to_dict() for prompt in prompts], "arms": [{"name": "a|b"}]}
    text = as_markdown(record | {"guidance": {"a|b": None}, "calibration": {}} | found)
    assert "of real" not in text
    assert "| arm | value | difference |" in text
    assert "| a\\|b |" in text
    blind = score_everything(samples, prompts, Judges())
    assert blind["floor"] is None


@pytest.mark.parametrize("count", [2, 3, 5, 100])
def test_a_derangement_moves_everything(count):
    found = [derangement(count, seed) for seed in range(20)]
    for order in found:
        assert sorted(order) == list(range(count))
        assert all(own != other for own, other in enumerate(order))
    assert derangement(count, 3) == found[3]
    assert len({tuple(order) for order in found}) > 1 or count == 2


def test_one_prompt_has_no_floor(tmp_path):
    with pytest.raises(FreeUValueError, match="at least 2 prompts, got 1"):
        derangement(1)
    samples = folder_of(tmp_path / "one", ["red"])
    assert score_shuffled(score_arm(samples, PROMPTS[:1], Judges(ColourReader()), None), PROMPTS[:1], None) is None


def test_real_scenes_are_as_many_as_prompts(tmp_path):
    paths = [one.path for one in folder_of(tmp_path / "real", ["red", "green"])]
    assert [one.prompt for one in real_scenes(paths, PROMPTS[:2])] == [0, 1]
    with pytest.raises(FreeUValueError, match="got 2 images and 4 prompts"):
        real_scenes(paths, PROMPTS)


def test_pictures_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("p10", "p9", "P1", "p2-b", "p2-a"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert [path.stem for path in images_in(tmp_path, "--images")] == ["P1", "p2-a", "p2-b", "p9", "p10"]


def test_a_share_by_hand():
    found = share_interval([1, 0, 1, 0], [1, 1, 0.5, 0.5], [0, 0, 1, 1], [0, 0, 1, 1])
    # Each prompt has a mean of 0.5; the wholes are 1 and 0.5: generates give 0.5, 2/3 or 1.
    assert (found.value, found.low, found.high) == pytest.approx((2 / 3, 0.5, 1.0))
    assert (found.count, found.clusters) == (4, 2)
    # Values that are their whole, prompt by prompt, are all of it in every generate.
    found = share_interval([0.2, 0.9, 0.4], [0.2, 0.9, 0.4])
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert share_interval([1, None], [2, None]).low is None
    with pytest.raises(FreeUValueError, match="mean is not 0"):
        share_interval([1, 1], [0, 0])
    with pytest.raises(FreeUValueError, match="all are missing"):
        share_interval([1, 1], [None])


def test_layouts_in_a_prompt_file(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "layout": "pair"}\n{"prompt": "b", "layout": null}\n{"prompt": "c"}')
    assert [prompt.layout for prompt in read_prompts(str(path))] == ["pair", None, None]
    path.write_text('{"prompt": "a", "layout": 3}')
    with pytest.raises(FreeUValueError, match="line 1: layout must be a name or absent, got 3"):
        read_prompts(str(path))

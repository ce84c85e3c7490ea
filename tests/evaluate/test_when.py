"""``freeu evaluate --when``: the grid, its statistics, and a whole run that is interrupted."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import torch
from command_line import run_cli as run

from freeu.cli.commands.evaluate import WhenOptions
from freeu.errors import FreeUValueError
from freeu.evaluate.attribution.grid import WINDOWS, Grid
from freeu.evaluate.attribution.maps import FEW, as_markdown, heat_maps, mark
from freeu.evaluate.attribution.when import compare, holm
from freeu.evaluate.metrics.statistics import image_statistics


def test_the_grid_has_every_cell_in_which_a_step_acts() -> None:
    grid = Grid.parse("1,4", "1,3")
    cells = list(grid.cells())
    whole = [cell for cell in cells if cell.steps == 4]
    assert len(whole) == 2 * (1 + 3 * 4)
    assert {(cell.window, cell.acting) for cell in whole if cell.window} == {
        ("early", 2),
        ("middle", 1),
        ("late", 1),
        ("all", 4),
    }
    assert {cell.window for cell in cells if cell.steps == 1} == {"", "early", "all"}
    assert len({cell.file for cell in cells}) == len(cells)
    seen: set[tuple[int, float]] = set()
    for cell in cells:  # plain sampling first
        assert cell.factor == "none" or (cell.steps, cell.guidance) in seen
        seen.add((cell.steps, cell.guidance))
    (gain,) = {cell.arm.config.skip_gain for cell in cells if cell.factor == "rho" and cell.arm.config is not None}
    assert gain == 1.1


def test_the_command_has_the_defaults_of_the_grid() -> None:
    usual = WhenOptions()
    assert Grid.parse(usual.when_steps, usual.when_guidance, usual.when_settings) == Grid.parse()


def test_the_windows_divide_the_steps() -> None:
    for steps in range(1, 30):
        acting = {cell.window: cell.acting for cell in Grid.parse(str(steps), "1", "b: b1=1.2").cells()}
        assert sum(acting.get(name, 0) for name in WINDOWS if name != "all") == acting["all"] == steps


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (("4,x", "1", "b: b1=1.2"), "--when-steps must be numbers in 1 to 1000"),
        (("4.5", "1", "b: b1=1.2"), "whole numbers"),
        (("4,4", "1", "b: b1=1.2"), "names 4 twice"),
        (("4", "0.5", "b: b1=1.2"), "--when-guidance must be numbers in 1 to 100"),
        (("4", "1", "guidance=3"), "settings of FreeU alone"),
        (("4", "1", "freeu"), "settings of FreeU alone"),
        (("4", "1", "b: b1=1"), "changes nothing"),
        (("4", "1", "b: b1=1.2 end=0.5"), "has a schedule"),
        (("4", "1", "b: b1=1.2 b_window=0:0.5"), "has a schedule"),
    ],
)
def test_bad_grids(lists: tuple[str, str, str], message: str) -> None:
    with pytest.raises(FreeUValueError, match=message):
        Grid.parse(*lists)


def test_holm_by_hand() -> None:
    assert holm([]) == []
    assert holm([0.04, 0.01, None, 0.03]) == [pytest.approx(0.06), pytest.approx(0.03), None, pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    values = [random.Random(0).random() for _ in range(50)]
    adjusted = [one for one in holm(values) if one is not None]
    assert all(value <= one <= min(1.0, 50 * value) for value, one in zip(values, adjusted, strict=True))
    assert sorted(range(50), key=values.__getitem__) == sorted(
        range(50), key=lambda place: (adjusted[place], values[place])
    )


def planted(effects: dict[str, float], prompts: int = 60) -> dict[str, Any]:
    """What ``compare`` gives for values of known effect, two seeds a prompt."""
    grid = Grid.parse("4,10", "1,3", "b: b1=1.2, s: s1=0.6")
    generator = random.Random(3)
    own = {(number, seed): generator.gauss(0.0, 1.0) for number in range(prompts) for seed in (0, 1)}
    measured = []
    for cell in grid.cells():
        effect = effects.get(cell.factor, 0.0) if cell.window == "early" else 0.0
        noise = 0.0 if cell.factor == "none" else 0.5
        rows = {
            pair: {"clip_score": value + effect + noise * generator.gauss(0.0, 1.0), "noun": 0.0, "count": None}
            for pair, value in own.items()
        }
        measured.append((cell, rows))
    plan = {"model": {"name": "m|x"}, "prompts": ["a"] * prompts, "seeds": [0, 1], "width": 64, "height": 64}
    return {"grid": grid.to_dict(), "plan": {**plan, "dtype": "float32"}, **compare(measured)}


def test_a_planted_effect_is_found_and_chance_is_told() -> None:
    results = planted({"s": 0.6})
    assert results["measures"] == ["noun", "clip_score"]
    cells = {(one["guidance"], one["steps"], one["factor"], one["window"]): one for one in results["cells"]}
    for (_, _, factor, window), one in cells.items():
        found = one["measures"]["clip_score"]
        assert found["clusters"] == 60
        assert (mark(found) == "**") == (factor == "s" and window == "early")
        assert mark(one["measures"]["noun"]) == ""  # nothing changed
        assert one["measures"]["noun"]["p"] == 1.0
    told = results["multiplicity"]["clip_score"]
    assert told["cells"] == 32
    assert told["by_chance"] == pytest.approx(1.6)
    assert told["adjusted"] == 4
    assert told["clear"] >= 4
    assert results["multiplicity"]["noun"]["cells"] == 0
    text = as_markdown(results)
    assert "| clip_score | 32 |" in text
    assert "m|x" in text.partition("\n")[0]
    assert text.count("\\*\\*") == 4
    assert f"fewer than {FEW} prompts" not in text
    assert f"fewer than {FEW} prompts" in as_markdown(planted({}, 5))
    assert heat_maps(results) == heat_maps(results)


def test_p_values_are_those_of_students_test() -> None:
    from scipy.stats import ttest_1samp

    grid = Grid.parse("4,10", "1,3", "b: b1=1.2, s: s1=0.6")
    generator = random.Random(1)
    measured = []
    for cell in grid.cells():
        measured.append((cell, {(n, s): {"clip_score": generator.random()} for n in range(12) for s in (0, 1)}))
    results = compare(measured)
    base, first = measured[0][1], measured[1][1]
    means = [sum(first[n, s]["clip_score"] - base[n, s]["clip_score"] for s in (0, 1)) / 2 for n in range(12)]
    assert results["cells"][0]["measures"]["clip_score"]["p"] == pytest.approx(ttest_1samp(means, 0.0).pvalue)
    single = compare([(cell, {(0, 0): {"clip_score": 1.0}}) for cell in grid.cells()])
    found = single["cells"][0]["measures"]["clip_score"]
    assert (found["low"], found["p"], found["adjusted"], mark(found)) == (None, None, None, "")


def test_a_whole_run_that_was_killed(tmp_path: Any) -> None:
    freeu_zoo = pytest.importorskip("freeu_zoo")
    prompts = tmp_path / "prompts.txt"
    lines = ("a 3d fox on a blue background", "a flat car on a red background")
    prompts.write_text("\n".join(lines))
    folder = tmp_path / "out"
    base = ("evaluate", "--prompts", prompts, "--seeds", "0", "--threads", "1", "--dtype", "float32", "--batch", "1")
    size = ("--width", "64", "--height", "64", "--judge", "none")
    grid = ("--when", "--when-steps", "1,2", "--when-guidance", "1,3", "--when-settings", "b: b1=1.2 b2=1.3")
    words = (*base, *size, *grid, "--output", folder)
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert out == f"wrote {folder / 'when.md'}\n"
    results = json.loads((folder / "when.json").read_text())
    assert {"when.json", "when.md", "when.png", "when.svg", "manifest.json", "cells"} == {
        item.name for item in folder.iterdir()
    }
    files = sorted((folder / "cells").iterdir())
    assert len(files) == 2 * (3 + 4)  # one step: early and all
    assert results["measures"] == ["saturation", "sharpness", "high_frequency"]

    # CFG scale 1 is the pipeline without guidance.
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        lines[0],
        num_inference_steps=2,
        guidance_scale=1.0,
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(0),
    ).images[0]
    plain = json.loads((folder / "cells" / "steps-2-cfg-1-none.json").read_text())["images"][0]
    assert plain["values"]["saturation"] == pytest.approx(image_statistics(image)["saturation"], abs=1e-3)

    before = {file.name: file.read_bytes() for file in files}
    kept, lost = files[0], files[3:]
    time = kept.stat().st_mtime_ns
    for file in (*lost, folder / "when.json", folder / "when.md"):
        file.unlink()
    assert run(*words)[0] == 0
    assert {file.name: file.read_bytes() for file in (folder / "cells").iterdir()} == before
    assert kept.stat().st_mtime_ns == time  # not measured again
    assert json.loads((folder / "when.json").read_text()) == results
    code, _, err = run(*(word if word != "1,3" else "1,5" for word in words))
    assert code == 2
    assert "holds another grid (other grid)" in err
    kept.write_text("{}")
    code, _, err = run(*words)
    assert code == 2
    assert err.count("\n") == 1
    assert "delete it, and it is measured again" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--when-steps", "4"), "--when-steps says what --when compares: give --when too"),
        (("--when", "--arms", "none"), "leave --arms out"),
        (("--when", "--explain", "sd14"), "leave --explain out"),
        (("--when", "--metric", "ssim"), "leave --metric out"),
        (("--when", "--frames", "4"), "leave --frames out"),
        (("--when", "--ray"), "leave --ray out"),
        (("--when", "--steps", "4"), "--steps is part of the grid of --when: give --when-steps instead"),
        (("--when", "--cfg", "4"), "give --when-guidance instead"),
        (("--when", "--when-settings", "b: b1=1"), "changes nothing"),
        (("--when", "--images", "."), "--images are there already: leave --when out"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words: Any, message: str, tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "prompts.txt").write_text("a fox\na car\n")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    code, out, err = run("evaluate", "--prompts", tmp_path / "prompts.txt", "--judge", "none", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("words", [("--when",), ("--explain", "sd14")])
def test_videos_are_refused(words: Any, tmp_path: Any, monkeypatch: Any) -> None:
    pytest.importorskip("freeu_zoo_video")
    (tmp_path / "prompts.txt").write_text("a fox\na car\n")
    monkeypatch.chdir(tmp_path)
    base = ("evaluate", "mini-modelscope", "--prompts", "prompts.txt", "--judge", "none")
    code, _, err = run(*base, *words)
    assert code == 2
    assert "this model generates videos" in err

"""``freeu sweep``: axes from text, every place shown, equal images made once, resuming, the sheet and the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_add_ons import lora_state, save_kohya
from PIL import Image
from tiny_pipelines import tiny_controlnet

import freeu
from freeu.errors import FreeUValueError
from freeu.metadata import KEY
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.runs.interval import acts
from freeu.pipelines.runs.request import Request
from freeu.pipelines.sweep.axes import AXES, Settings, parse_axis
from freeu.pipelines.sweep.sweep import Sweep

BASE = ("--steps", "2", "--threads", "1")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("b1=1.0,1.2, 1.4", (1.0, 1.2, 1.4)),
        ("s2=0:1:0.25", (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("strength=0.1:0.3:0.1", (0.1, 0.2, 0.3)),
        ("b1=1:1.35:0.1,2", (1.0, 1.1, 1.2, 1.3, 2.0)),
        ("seed=0-2,7", (0, 1, 2, 7)),
        ("prompt=a fox|a cat, a dog", ("a fox", "a cat, a dog")),
        ("version=1,2", (1, 2)),
        ("preset=off,sd14", ("off", "sd14")),
        ("config=b1=1.1 b2=1.2 s1=0.9 s2=0.3 v=2|off", ("b1=1.1 b2=1.2 s1=0.9 s2=0.3 v=2", "off")),
        ("guidance-scale=5,7.5", (5.0, 7.5)),
        ("cfg=5,7.5", (5.0, 7.5)),
        ("guidance=5:6:0.5", (5.0, 5.5, 6.0)),  # its name in version 0.1
        ("high-gain=0.5", (0.5,)),
        ("negative-prompt=a|b", ("a", "b")),
        ("sampler=DPM++ 2M Karras|ddim", ("dpm++2m-karras", "ddim")),
        ("channels=first,all", ("first", "all")),
        ("channels=first,0.25,0.25:0.5", ("first", 0.25, (0.25, 0.5))),
        ("start=800,900", (800.0, 900.0)),  # of timesteps, if the rest of the settings say so
        ("steps=10:30:10", (10, 20, 30)),
        ("size=128,256x128", ((128, 128), (256, 128))),
        ("prompt-sr=fox|a cat|dog", (("fox", "fox"), ("fox", "a cat"), ("fox", "dog"))),
        ("denoise=0.2:0.6:0.2", (0.2, 0.4, 0.6)),
        ("lora-weight=-1,0,0.5", (-1.0, 0.0, 0.5)),
        ("controlnet-weight=0:1:0.5", (0.0, 0.5, 1.0)),
    ],
)
def test_axes(text: str, values: tuple[Any, ...]) -> None:
    assert parse_axis("--x", text).values == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b1", "--x must look like b1=1.0,1.2,1.4"),
        ("b1=", "--x must look like"),
        ("b4=1", "b4"),
        ("colour=red", "colour"),
        ("b1=1,x", "--x: 'x' is no value of b1"),
        ("b1=1,11", "--x: b"),
        ("b1=nan", "--x: b"),
        ("b1=1,1.0", "a value twice"),
        ("b1=1:2:0", "a range must be first:last:step"),
        ("b1=2:1:0.1", "a range must be first:last:step"),
        ("b1=0:10:0.0001", "at most 200"),
        ("seed=0-999", "more than 200"),
        ("seed=x", "seeds must look like"),
        ("prompt=a||b", "a value is empty"),
        ("preset=sd99", "sd99"),
        ("scheduler=magic", "magic"),
        ("steps=0", "steps must lie in 1"),
        ("version=3", "version must be"),
        ("mask=round", "mask"),
    ],
)
def test_wrong_axes_are_one_line(text: str, message: str) -> None:
    with pytest.raises(FreeUValueError, match=re.escape(message)) as error:
        parse_axis("--x", text)
    assert "\n" not in str(error.value)


def test_every_axis_changes_what_it_names() -> None:
    values = {
        **dict.fromkeys(("b1", "b2", "b3", "s1", "s2", "s3", "b", "s", "high-gain", "start", "end", "strength"), 0.5),
        "ramp": 0.25,
        "version": 1,
        "threshold": 2,
        "profile": "comfyui",
        "mask": "gaussian",
        "channels": "all",
        "share": "guidance",
        "halves": "conditional",
        "dc": "keep",
        "skip-gain": 0.5,
        "skip-gain-ends": (0.5, 1.0),
        "b-window": (0.0, 0.5),
        "s-window": (0.5, 1.0),
    } | dict.fromkeys(("g1", "g2", "g3"), 0.5)
    base = freeu.FreeUConfig(b=(1.2, 1.4), s=(0.9, 0.2))
    for name, value in values.items():
        changed = Settings().with_value(name, value).freeu(base)
        assert changed is not None
        assert changed != base, name
        if re.fullmatch("[bsg][123]", name):
            assert getattr(changed.stages[int(name[1]) - 1], name[0]) == 0.5
            assert changed.stages[0 if name[1] != "1" else 1] == base.stages[0 if name[1] != "1" else 1]
        elif name in ("b", "s"):
            assert {getattr(stage, name) for stage in changed.stages} == {0.5}
        else:
            assert getattr(changed, "guidance" if name == "halves" else name.replace("-", "_")) == value
    assert Settings(preset="sd15").freeu(base) == freeu.preset("sd15")
    assert Settings(preset="off").freeu(base) is None
    assert Settings(config="b1=1.1 b2=1.1 s1=1.0 s2=1.0 v=1").freeu(base) == freeu.FreeUConfig(b=(1.1, 1.1), version=1)
    of_run = {"prompt", "negative-prompt", "seed", "steps", "guidance-scale", "scheduler", "model", "preset", "config"}
    of_run |= {"prompt-sr", "size", "denoising-strength", "lora-weight", "controlnet-weight"}
    assert set(AXES) == values.keys() | of_run
    for name in ("guidance-scale", "cfg", "guidance"):
        assert Settings().with_value(name, 3.0) == Settings(guidance=3.0)


def test_axes_of_the_whole_skip_and_of_windows() -> None:
    base = freeu.FreeUConfig(b=(1.2, 1.4), s=(0.9, 0.2), skip_gain=(0.8, 0.9))
    assert Settings(fields=(("g1", 0.5), ("b3", 1.1))).freeu(base) == base.replace(
        b=(1.2, 1.4, 1.1), s=(0.9, 0.2, 1.0), skip_gain=(0.5, 0.9, 1.0)
    )
    one = base.replace(skip_gain=0.8)
    assert Settings(fields=(("b3", 1.1),)).freeu(one) == one.replace(b=(1.2, 1.4, 1.1), s=(0.9, 0.2, 1.0))
    assert Settings(fields=(("g2", 0.5),)).freeu(one) == one.replace(skip_gain=(0.8, 0.5))
    assert parse_axis("--x", "s-window=0:0.5,0.5:1").values == ((0.0, 0.5), (0.5, 1.0))
    axis = parse_axis("--x", "skip-gain-ends=0.5:1")
    assert axis.values == ((0.5, 1.0),)
    assert axis.label((0.5, 1.0)) == "skip-gain-ends = 0.5 to 1"
    assert parse_axis("--x", "skip-gain=0.7:0.9:0.1").values == (0.7, 0.8, 0.9)
    for text in ("b-window=0.5", "b-window=a:b", "dc=mean", "skip-gain=11", "skip-gain-ends=0.5", "g1=-1"):
        with pytest.raises(FreeUValueError, match="--x"):
            parse_axis("--x", text)


def test_a_window_without_a_step_is_one_line(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    outcome = cli(
        "generate", "a fox", "--model", sd_dir, "--steps", "4", "--s-window", "0.8,0.9", "--output", tmp_path / "out"
    )
    assert outcome.code == 2
    assert "s_window lets nothing act on any step: it is from 0.8 to 0.9" in outcome.one_line()


def test_whole_settings_come_before_their_fields() -> None:
    request = Request("generate", ("a",), freeu=FreeUOptions())
    cells = list(Sweep(request, (parse_axis("--x", "b1=2"), parse_axis("--y", "preset=sd15,off"))).cells())
    assert [cell.place for cell in cells] == [(0, 0), (0, 1)]
    first, second = (cell.settings.freeu(None) for cell in cells)
    assert first == freeu.preset("sd15").replace(b=(2.0, 1.6))
    assert second is None


def test_a_place_is_judged_as_a_whole() -> None:
    base = freeu.FreeUConfig(b=(1.2, 1.4), end=0.4)
    changed = Settings(fields=(("start", 0.5), ("end", 0.9))).freeu(base)
    assert changed == base.replace(start=0.5, end=0.9)
    by_time = freeu.FreeUConfig(b=(1.2, 1.4), start=500, end=100, unit="timestep")
    assert Settings(fields=(("start", 900.0),)).freeu(by_time) == by_time.replace(start=900)
    assert Settings(fields=(("b3", 1.1), ("b1", 1.3), ("s", 0.5))).freeu(base) == base.replace(
        b=(1.3, 1.4, 1.1), s=(0.5, 0.5, 0.5)
    )
    with pytest.raises(FreeUValueError, match="start must be smaller than end"):
        Settings(fields=(("start", 0.5),)).freeu(base)


def test_a_place_without_a_step_in_its_interval_is_one_without_freeu() -> None:
    config = freeu.FreeUConfig(b=(1.2, 1.4))
    assert acts(config.replace(start=0.5), 2)
    assert not acts(config.replace(start=0.5), 1)
    assert not acts(config.replace(start=0.9), 4)
    assert acts(config.replace(end=0.01), 1)
    assert not acts(config.replace(end=0.4), 10, 0.5)
    assert acts(config.replace(end=0.6), 10, 0.5)
    assert not acts(config.replace(end=0.5), 10, 0.5)
    assert not acts(config.replace(start=0.5, ramp=0.5), 2), "at its very beginning a ramp has weight 0"
    assert acts(config.replace(unit="timestep", start=900, end=800), 1)


def test_a_sweep(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = ("sweep", "a red fox", "--model", sd_dir, *BASE, "--b", "1.5,1.5", "--s", "1,1")
    axes = ("--x", "b=1,1.2,1.5", "--y", "seed=3-4", "--z", "strength=0,1")
    outcome = cli(*words, *axes, "--output", folder)
    assert (outcome.code, outcome.err) == (0, "")
    record = json.loads((folder / "manifest.json").read_text())
    files = {tuple(cell["place"]): cell["file"] for cell in record["cells"]}
    assert len(files) == 12
    # b = 1, and strength 0 with any b, are sampling without FreeU: once for each seed.
    plain = {files[x, y, z] for x in range(3) for y in range(2) for z in range(2) if x == 0 or z == 0}
    assert len(plain) == 2
    assert len(set(files.values())) == len(record["pictures"]) == 6
    assert "wrote 6 images for 12 cells" in outcome.out
    names = {path.name for path in folder.iterdir()}
    assert names == {*files.values(), "manifest.json", "sweep.html", "sheet-00.png", "sheet-01.png"}
    with Image.open(folder / files[2, 1, 1]) as image:
        inside = json.loads(image.info[KEY])
        assert inside["config"]["b"] == [1.5, 1.5]
        assert (inside["seed"], inside["prompt"]) == (4, "a red fox")
        size = image.size
    with Image.open(folder / "sheet-00.png") as sheet:
        assert sheet.width > 3 * size[0]
    # Named by the first cell that shows them.
    assert files[0, 0, 0] == "b=1_seed=3_strength=0.png"
    assert files[2, 1, 1] == "b=1.5_seed=4_strength=1.png"
    page = (folder / "sweep.html").read_text(encoding="utf-8")
    assert len(re.findall(r'data-file="', page)) == 12
    sources = re.findall(r'<img src="([^"]*)"', page)
    assert len(sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(name in page for name in files.values())
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)

    # The same images as those of freeu generate.
    again = cli(
        "generate",
        "a red fox",
        "--model",
        sd_dir,
        *BASE,
        "--b",
        "1.2,1.2",
        "--s",
        "1,1",
        "--seeds",
        "4",
        "--output",
        tmp_path / "one",
    )
    assert again.code == 0
    with Image.open(next((tmp_path / "one").glob("p000*.png"))) as one, Image.open(folder / files[1, 1, 1]) as two:
        assert one.tobytes() == two.tobytes()


def test_a_sweep_goes_on(
    sd_dir: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freeu.pipelines.sweep import sweep

    words = ("sweep", "--model", sd_dir, *BASE, "--x", "prompt=a|b", "--y", "end=0.5,1")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert cli(*words, "--output", whole).code == 0
    generate, calls = sweep.generate_image, []

    def interrupted(*args: Any, **named: Any) -> Any:
        calls.append(args[2].prompt)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(*args, **named)

    monkeypatch.setattr(sweep, "generate_image", interrupted)
    monkeypatch.setattr("sys.argv", ["freeu", "sweep"])
    outcome = cli(*words, "--output", parts)
    assert outcome.code == 130
    assert f"go on with: freeu sweep --output {parts}" in outcome.one_line()
    assert not (parts / "sweep.html").exists()
    next(parts.glob("*.png")).write_bytes(b"half")
    assert cli(*words, "--output", parts).code == 0
    assert len(calls) == 3 + 3  # two were there, one of them was damaged
    for path in whole.iterdir():
        assert (parts / path.name).read_bytes() == path.read_bytes(), path.name
    outcome = cli("sweep", "--model", sd_dir, *BASE, "--x", "prompt=a|c", "--y", "end=0.5,1", "--output", parts)
    assert outcome.code == 2
    assert "holds another sweep" in outcome.one_line()


def test_schedulers_and_models_are_axes(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    outcome = cli("sweep", "a", *BASE, "--x", "scheduler=ddim,euler", "--y", f"model={sd_dir}", "--output", folder)
    assert outcome.code == 0
    record = json.loads((folder / "manifest.json").read_text())
    assert {one["scheduler"] for one in record["pictures"].values()} == {"ddim", "euler"}
    assert len({cell["file"] for cell in record["cells"]}) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a", "--x", "b1=1,2", "--z", "seed=0-1"), "--z needs --y"),
        (("--x", "b1=1,2"), "no prompt"),
        (("a", "b", "--x", "b1=1,2"), "several prompts make an axis"),
        (("a", "--x", "prompt=a|b"), "leave the prompt out"),
        (("a", "--x", "b1=1,2", "--y", "b1=1,2"), "two axes sweep the same"),
        (("a", "--x", "cfg=1,2", "--y", "guidance-scale=3,4"), "two axes sweep the same"),
        (("a", "--x", "seed=0-199", "--y", "b1=0:10:0.1"), "too large"),
        (("a", "--x", "start=0.5", "--y", "end=0.3,0.6"), "start must be smaller than end"),
        (("a", "--x", "b1=99"), "--x: b"),
        (("a", "--x", "model=nowhere-at-all"), "nowhere-at-all"),
        (("a", "--x", "denoise=0.5,1"), "the axis denoise needs an image to start from: give --image FILE too"),
        (("a", "--x", "lora-weight=0,1"), "the axis lora-weight needs a LoRA"),
        (("a", "--x", "controlnet-weight=0,1"), "the axis controlnet-weight needs a ControlNet"),
        (("a fox", "--x", "prompt-sr=cat|dog"), "replaces its first value, 'cat': it is not in 'a fox'"),
        (("--x", "prompt=a fox|a cat", "--y", "prompt-sr=fox|dog"), "it is not in 'a cat'"),
        (("a", "--x", "prompt-sr=fox|fox"), "a value twice"),
        (("a", "--x", "size=100,128"), "a width must be a multiple of 8"),
        (("a", "--x", "size=128y128"), "'128y128' is no value of size"),
        (("a", "--x", "lora-weight=11"), "lora-weight must lie in -10 to 10"),
    ],
)
def test_bad_input_is_one_line(
    sd_dir: Path, cli: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    model = () if "model=" in words[-1] else ("--model", str(sd_dir))
    outcome = cli("sweep", *words, *model, *BASE, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.one_line()
    assert not (tmp_path / "out").exists()


def test_names_of_files_are_for_every_system() -> None:
    axis = parse_axis("--x", "prompt=a red fox: 3d/flat?|../../etc|日本|" + "x" * 300)
    words = [axis.file_word(place) for place in range(4)]
    assert words[:3] == ["prompt=a-red-fox-3d-flat", "prompt=etc", "prompt=3"]
    assert all(len(word) <= 47 for word in words)
    assert parse_axis("--x", "model=/some/where/tiny-sd").file_word(0) == "model=tiny-sd"
    assert parse_axis("--x", "b-window=0:0.5").file_word(0) == "b-window=0-0.5"


def test_prompts_that_are_named_alike_keep_their_files(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = ("sweep", "--model", sd_dir, *BASE, "--x", "prompt=a, fox|a fox|A: fox")
    assert cli(*words, "--output", folder).code == 0
    record = json.loads((folder / "manifest.json").read_text())
    assert [cell["file"] for cell in record["cells"]] == [
        "prompt=a-fox.png",
        "prompt=a-fox-2.png",
        "prompt=A-fox-3.png",
    ]
    for name, prompt in (("prompt=a-fox-2.png", "a fox"), ("prompt=A-fox-3.png", "A: fox")):
        assert record["pictures"][name]["prompt"] == prompt


def test_size_and_search_and_replace(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = ("sweep", "a fox, a red fox", "--model", sd_dir, *BASE, "--negative-prompt", "no fox")
    assert cli(*words, "--x", "prompt-sr=fox|cat", "--y", "size=16,24x16", "--output", folder).code == 0
    with Image.open(folder / "prompt-sr=cat_size=24x16.png") as image:
        assert image.size == (24, 16)
        inside = json.loads(image.info[KEY])
    assert (inside["prompt"], inside["negative_prompt"]) == ("a cat, a red cat", "no cat")
    page = (folder / "sweep.html").read_text(encoding="utf-8")
    for known in ("tiny-sd", "a fox, a red fox", "<dt>steps</dt><dd>2</dd>", "<dt>seed</dt><dd>0</dd>"):
        assert known in page
    assert "<dt>size</dt>" not in page


def test_denoising_strength_and_controlnet_weight(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    from freeu.pipelines.models.loading import load
    from freeu.pipelines.models.sources.sources import find_model

    tiny_controlnet(load(find_model(str(sd_dir))).pipe.unet).save_pretrained(tmp_path / "net")
    Image.effect_noise((24, 24), 80).convert("RGB").save(tmp_path / "in.png")
    base = ("a fox", "--model", sd_dir, "--steps", "4", "--threads", "1", "--image", tmp_path / "in.png")
    base += ("--controlnet", tmp_path / "net", "--control-image", tmp_path / "in.png")
    folder = tmp_path / "out"
    axes = ("--x", "denoise=0.5,1", "--y", "controlnet-weight=0,1", "--z", "size=16,24x16")
    assert cli("sweep", *base, *axes, "--output", folder).code == 0
    record = json.loads((folder / "manifest.json").read_text())
    assert len(record["pictures"]) == 8
    words = ("--denoise", "0.5", "--controlnet-weight", "1", "--width", "24", "--height", "16")
    assert cli("generate", *base, *words, "--output", tmp_path / "one").code == 0
    made = json.loads((tmp_path / "one" / "manifest.json").read_text())["pictures"][0]["sha256"]
    assert record["pictures"]["denoise=0.5_controlnet-weight=1_size=24x16.png"]["sha256"] == made
    # The inputs lie beside the images: one of them alone is reproduced.
    image = folder / "denoise=1_controlnet-weight=0_size=16x16.png"
    again = cli(
        "generate", "--from", image, "--model", sd_dir, "--controlnet", tmp_path / "net", "-o", tmp_path / "two"
    )
    assert "1 of 1 image is bit-identical" in again.out


@pytest.mark.parametrize("fuse", [(), ("--fuse-lora",)])
def test_lora_weight(sd_dir: Path, cli: Callable[..., Any], tmp_path: Path, fuse: tuple[str, ...]) -> None:
    pytest.importorskip("peft")
    from freeu.pipelines.models.loading import load
    from freeu.pipelines.models.sources.sources import find_model

    state = lora_state(load(find_model(str(sd_dir))).pipe, 1)
    file = save_kohya(state, tmp_path / "style.safetensors")
    base = ("a fox", "--model", sd_dir, *BASE, *fuse)
    folder = tmp_path / "out"
    assert cli("sweep", *base, "--lora", file, "--x", "lora-weight=0,0.5,2", "--output", folder).code == 0
    record = json.loads((folder / "manifest.json").read_text())
    found = {name: one["sha256"] for name, one in record["pictures"].items()}
    assert len(set(found.values())) == 3
    assert cli("generate", *base, "--lora", f"{file}:0.5", "--output", tmp_path / "one").code == 0
    made = json.loads((tmp_path / "one" / "manifest.json").read_text())["pictures"][0]["sha256"]
    assert found["lora-weight=0.5.png"] == made


def test_an_unknown_axis_names_all_of_them() -> None:
    with pytest.raises(FreeUValueError) as error:
        parse_axis("--x", "denoising=1")
    assert "did you mean denoising-strength" in str(error.value)
    assert all(name in str(error.value) for name in AXES)


def test_the_help_names_all_axes(cli: Callable[..., Any]) -> None:
    shown = cli("sweep", "--help").out
    assert all(name in shown for name in AXES)


def test_large_sweeps_are_compressed(
    sd_dir: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freeu.pipelines.sweep import page

    monkeypatch.setattr(page, "MAX_EXACT", 10)
    words = ("sweep", "a", "--model", sd_dir, *BASE, "--x", "seed=0-1")
    assert cli(*words, "--output", tmp_path / "webp").code == 0
    text = (tmp_path / "webp" / "sweep.html").read_text(encoding="utf-8")
    assert "data:image/webp" in text
    assert "WebP, quality 92" in text
    monkeypatch.setattr(page, "MAX_LARGE", 10)
    monkeypatch.setattr(page, "REDUCED", 8)
    assert cli(*words, "--output", tmp_path / "small").code == 0
    assert "reduced to 8 pixels" in (tmp_path / "small" / "sweep.html").read_text(encoding="utf-8")

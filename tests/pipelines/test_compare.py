"""``freeu compare`` from end to end on a tiny random model: files, manifest, resuming, making it again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from freeu.metadata import read_png
from freeu.pipelines.io.inputs import pixel_sha
from freeu.pipelines.runs.manifest import read_manifest

PICTURES = [f"p{p:03d}-s{s:04d}-{arm}.png" for p in (0, 1) for s in (3, 4) for arm in ("baseline", "freeu")]
AGAIN = ("a red fox", "--seeds", "3-4", "--steps", "2", "--threads", "1")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_folder_holds_pictures_grid_page_and_manifest(compared: tuple[Path, Any]) -> None:
    folder, outcome = compared
    assert (outcome.code, outcome.err) == (0, "")
    assert _names(folder) == {*PICTURES, "grid.png", "compare.html", "manifest.json"}
    for name in ("compare.html", "grid.png", "manifest.json"):
        assert str(folder / name) in outcome.out
    assert "model tiny-sd" in outcome.out
    assert "FreeU b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2" in outcome.out


def test_freeu_changes_every_picture(compared: tuple[Path, Any]) -> None:
    records = read_manifest(compared[0]).images
    for base in (name for name in records if "baseline" in name):
        assert records[base].sha256 != records[base.replace("baseline", "freeu")].sha256


@pytest.mark.parametrize("command", ["compare", "generate"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "1", "--start", ".5"), "it acts from 0.5 to 1, and 1 step begin"),
        (("--steps", "4", "--start", ".9"), "4 steps begin at 0 to 0.75 of the denoising"),
        (("--steps", "4", "--end", ".4", "--denoising-strength", ".5"), "the last 2 of 4 steps begin at 0.5 to 0.75"),
    ],
)
def test_an_interval_without_a_step_is_refused(
    sd_dir: Path, cli: Callable[..., Any], tmp_path: Path, command: str, words: tuple[str, ...], message: str
) -> None:
    image = tmp_path / "in.png"
    Image.new("RGB", (16, 16), "grey").save(image)
    if "--denoising-strength" in words:
        words = ("--image", str(image), *words)
    outcome = cli(command, "a red fox", "--model", sd_dir, "--threads", "1", *words, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.one_line()
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_manifest_tells_the_whole_story(compared: tuple[Path, Any]) -> None:
    folder = compared[0]
    data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert (data["kind"], data["schema"], data["complete"]) == ("freeu-manifest", 1, True)
    assert [entry["file"] for entry in data["pictures"]] == PICTURES
    assert {"freeu", "torch", "diffusers", "transformers"} <= data["environment"].keys()
    plan = data["plan"]
    assert plan["config"]["b"] == [1.3, 1.4]
    assert plan["model"]["fingerprint"].startswith("sha256:")
    assert (plan["steps"], plan["width"], plan["dtype"], plan["device"], plan["threads"]) == (
        2,
        16,
        "float32",
        "cpu",
        1,
    )
    for entry in data["pictures"]:
        with Image.open(folder / entry["file"]) as image:
            assert pixel_sha(image.convert("RGB")) == entry["sha256"]


def test_settings_inside_each_picture_come_back(compared: tuple[Path, Any], sd_dir: Path) -> None:
    folder = compared[0]
    off, on = read_png(folder / PICTURES[4]), read_png(folder / PICTURES[5])
    assert on["prompt"] == "ein grüner Apfel <b>&</b> 日本"
    assert (on["seed"], on["arm"], off["arm"]) == (3, "freeu", "baseline")
    assert on["config"]["s"] == [0.9, 0.2]
    assert off["config"] is None
    assert str(sd_dir.parent) not in json.dumps(on), "an image that is passed on tells no path"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.sliders = 0
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        if tag == "input" and found.get("type") == "range":
            self.sliders += 1
            assert found["aria-label"]
        self.links += [str(found[name]) for name in ("src", "href", "srcset", "action") if name in found]


def test_the_page_needs_no_network_and_escapes_prompts(compared: tuple[Path, Any], sd_dir: Path) -> None:
    text = (compared[0] / "compare.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    shown = [image for image in page.images if "src" in image]
    assert len(shown) == 8
    assert len(page.images) - len(shown) == 2  # those of the viewer, which scripts fill
    assert page.sliders == 4
    assert all(image["alt"] for image in shown)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"https?://|//cdn|@import|url\(", text)
    assert "ein grüner Apfel &lt;b&gt;&amp;&lt;/b&gt; 日本" in text
    assert str(sd_dir.parent) not in text


def test_the_grid_is_labelled_and_enlarged(compared: tuple[Path, Any]) -> None:
    with Image.open(compared[0] / "grid.png") as grid:
        assert grid.width >= 4 * 256
        assert grid.height >= 2 * 256


def test_from_a_manifest_the_same_bits_again(
    compared: tuple[Path, Any], cli: Callable[..., Any], tmp_path: Path
) -> None:
    folder, again = compared[0], tmp_path / "again"
    outcome = cli("generate", "--from", folder / "manifest.json", "--output", again)
    assert (outcome.code, outcome.err) == (0, "")
    assert "8 of 8 images are bit-identical" in outcome.out
    assert _names(again) == _names(folder)
    for name in [*PICTURES, "grid.png"]:
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_changed_environment_is_named_when_pictures_differ(
    compared: tuple[Path, Any], cli: Callable[..., Any], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    data = json.loads((compared[0] / "manifest.json").read_text(encoding="utf-8"))
    data["plan"]["seeds"], data["plan"]["prompts"] = [3], data["plan"]["prompts"][:1]
    data["pictures"] = data["pictures"][:2]
    data["pictures"][1]["sha256"] = "0" * 64
    data["environment"]["torch"] = "2.4.0"
    (elsewhere / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
    outcome = cli("generate", "--from", elsewhere, "--output", tmp_path / "again")
    assert outcome.code == 0
    assert "1 of 2 images are bit-identical" in outcome.out
    assert "torch 2.4.0 then" in outcome.out

    data["environment"] = json.loads((tmp_path / "again" / "manifest.json").read_text(encoding="utf-8"))["environment"]
    (elsewhere / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
    outcome = cli("generate", "--from", elsewhere, "--output", tmp_path / "once-more")
    assert outcome.code == 1
    assert "although model, versions, device and threads are the same" in outcome.one_line()


def test_an_interrupted_run_goes_on_and_ends_equal(
    sd_dir: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freeu.pipelines.runs import run

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert cli("compare", *AGAIN, "--model", sd_dir, "--output", whole).code == 0

    generate, calls = run.generate_images, []

    def interrupted(*args: Any) -> Any:
        calls.append(args[2][0].file)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(*args)

    monkeypatch.setattr(run, "generate_images", interrupted)
    monkeypatch.setattr("sys.argv", ["freeu", "compare", "a red fox"])
    outcome = cli("compare", *AGAIN, "--model", sd_dir, "--output", parts)
    assert outcome.code == 130
    line = outcome.one_line()
    assert "stopped after 2 of 4 images" in line
    assert f"freeu compare 'a red fox' --output {parts}" in line
    assert _names(parts) == {*PICTURES[:2], "manifest.json"}
    assert not read_manifest(parts).complete

    first = (parts / PICTURES[0]).stat().st_mtime_ns
    (parts / PICTURES[1]).write_bytes((parts / PICTURES[0]).read_bytes())  # an image that is not what was written
    calls[:] = ["none"] * 3
    outcome = cli("compare", *AGAIN, "--model", sd_dir, "--output", parts)
    assert (outcome.code, calls[3:]) == (0, PICTURES[1:4])
    assert "kept 1 image of the earlier run" in outcome.err
    assert (parts / PICTURES[0]).stat().st_mtime_ns == first
    assert _names(parts) == _names(whole)
    for name in [*PICTURES[:4], "grid.png"]:
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name

    outcome = cli("compare", "a red fox", "--seeds", "3", *AGAIN[3:], "--model", sd_dir, "--output", parts)
    assert outcome.code == 2
    assert re.search(r"holds another run \(seeds: \[3, 4\], \[3\]\): name a folder", outcome.one_line())


def test_a_full_disk_leaves_nothing_half_written(
    sd_dir: Path, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open
    allowed = 0

    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, _data: bytes) -> int:
            raise OSError(28, "No space left on device")

    def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        nonlocal allowed
        if path.suffix == ".part":
            allowed -= 1
            if allowed < 0:
                real(path, mode).close()
                return Full()
        return real(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    target = tmp_path / "new" / "folder"
    outcome = cli("compare", *AGAIN, "--model", sd_dir, "--output", target)
    assert outcome.code == 2
    assert "no space left on the disk" in outcome.one_line()
    assert list(tmp_path.iterdir()) == []

    allowed = 2  # manifest, image
    outcome = cli("compare", *AGAIN, "--model", sd_dir, "--output", target)
    assert outcome.code == 2
    assert re.search(rf"free some, then run the same command with --output {target}", outcome.one_line())
    assert _names(target) == {"manifest.json", "manifest.journal", PICTURES[0]}
    monkeypatch.undo()
    assert cli("compare", *AGAIN, "--model", sd_dir, "--output", target).code == 0


def test_generate_makes_one_arm(sd_dir: Path, cli: Callable[..., Any], work: Path) -> None:
    outcome = cli("generate", "a fox", "--model", sd_dir, "--b", "1.2,1.2", "--steps", "1", "--threads", "1")
    assert (outcome.code, outcome.err) == (0, "")
    (folder,) = work.iterdir()
    assert re.fullmatch(r"freeu-\d{8}-\d{6}", folder.name)
    assert _names(folder) == {"p000-s0000-freeu.png", "grid.png", "manifest.json"}
    assert read_png(folder / "p000-s0000-freeu.png")["config"]["s"] == [1.0, 1.0]
    shutil.rmtree(folder)

    assert cli("generate", "a fox", "--model", sd_dir, "--no-freeu", "--steps", "1", "--threads", "1").code == 0
    (folder,) = work.iterdir()
    assert _names(folder) == {"p000-s0000-baseline.png", "grid.png", "manifest.json"}


def test_identity_settings_are_told(sd_dir: Path, cli: Callable[..., Any], work: Path) -> None:
    outcome = cli(
        "compare", "a fox", "--model", sd_dir, "--freeu-strength", "0", "--steps", "1", "--output", work / "o"
    )
    assert outcome.code == 0
    assert "will be equal" in outcome.one_line()
    off, on = read_manifest(work / "o").images.values()
    assert off.sha256 == on.sha256

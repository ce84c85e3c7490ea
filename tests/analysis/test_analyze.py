"""``freeu analyze``: a whole run on the embedded model, resuming, the control, and bad input."""

import csv
import itertools
import json
import re

import numpy as np
import pytest

import freeu
from freeu.analysis.analyze import random_unet
from freeu.analysis.figures.figures import FIGURES, check_numbers, needed
from freeu.analysis.measurement.content import Verdict
from freeu.analysis.measurement.variants import FULL, LIGHT, Variants
from freeu.errors import FreeUValueError

LINES = ("a 3d fox on a blue background", "a flat cat on a red background")
CONFIG = freeu.preset("sd14")


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(LINES))
    return path


def test_a_whole_run(run, prompts, tmp_path):
    pytest.importorskip("freeu_zoo")
    folder = tmp_path / "out"
    words = ("analyze", "--prompts", prompts, "--steps", "2", "--threads", "1", "--random-baseline", "--output", folder)
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    results = json.loads((folder / "results.json").read_text())
    assert {one["figure"] for one in results["verdicts"]} == set(FIGURES)
    assert len(results["control_verdicts"]) == len(results["verdicts"])
    for ours, noise in zip(results["verdicts"], results["control_verdicts"], strict=True):
        assert ours["control"]["value"] == noise["value"]
        difference = np.mean(ours["values"]) - np.mean(noise["values"])
        assert ours["control"]["difference"]["value"] == pytest.approx(difference)
    assert any(
        abs(a["value"] - b["value"]) > 1e-3
        for a, b in zip(results["verdicts"], results["control_verdicts"], strict=True)
    )
    # Two prompts decide nothing.
    assert {one["answer"] for one in results["verdicts"]} == {"undecided"}
    assert out.count("undecided") == 3 * len(results["verdicts"])
    assert "fewer than 5 prompts decide no claim" in out
    assert "This run has 2, so every claim is undecided" in (folder / "report.html").read_text()
    for place in (folder / "figures", folder / "control" / "figures"):
        names = {path.name for path in place.iterdir()}
        assert {int(name[7:9]) for name in names} == set(FIGURES)
        for stem in {name.partition(".")[0] for name in names}:
            assert (place / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
            assert (place / f"{stem}.svg").read_bytes().startswith(b"<?xml")
            with (place / f"{stem}.csv").open(newline="") as file:
                rows = list(csv.reader(file))
            assert len(rows) > 1
            assert {len(row) for row in rows} == {len(rows[0])}
    table = (folder / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(results["verdicts"])
    assert {line.count("|") for line in table} == {9}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 20e6
    body = page[: page.index("<script>")]
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", body)
    # Every image is there, and only once.
    sources = json.loads(re.search(r'id="images">(.*?)</script>', page)[1])
    assert set(re.findall(r'data-image="(\w+)"', body)) == sources.keys()
    assert len(set(sources.values())) == len(sources)
    for number in FIGURES:
        assert f'id="figure-{number}"' in body


def test_an_interrupted_analysis_goes_on_and_ends_equal(run, prompts, tmp_path, monkeypatch):
    pytest.importorskip("freeu_zoo")
    from freeu.analysis.measurement import runs

    words = ("analyze", "--prompts", prompts, "--steps", "2", "--threads", "1", "--figure", "13", "--figure", "16")
    assert run(*words, "--output", tmp_path / "whole")[0] == 0

    draw, trace, calls = runs.generate_frames, runs.trace, []

    def interrupted(original):
        def call(*args, **kwargs):
            calls.append(args[2].file)
            if len(calls) == 6:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        return call

    monkeypatch.setattr(runs, "generate_frames", interrupted(draw))
    monkeypatch.setattr(runs, "trace", interrupted(trace))
    monkeypatch.setattr("sys.argv", ["freeu", "analyze"])
    parts = tmp_path / "parts"
    code, _, err = run(*words, "--output", parts)
    assert code == 130
    assert f"go on with: freeu analyze --output {parts}" in err
    assert not (parts / "results.json").exists()
    damaged = next(parts.rglob("*.npz"))
    damaged.write_bytes(b"half")
    calls[:] = ["none"] * 6
    assert run(*words, "--output", parts)[0] == 0
    # Two ways are traced, a third generated, of two prompts each. Five of the six were there, one of them damaged.
    assert len(calls) - 6 == 1 + 1
    for name in ("results.json", "table.md", "report.html"):
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for path in (tmp_path / "whole" / "figures").iterdir():
        assert path.read_bytes() == (parts / "figures" / path.name).read_bytes(), path.name

    code, _, err = run(*words, "--form", "diagonal", "--output", parts)
    assert code == 2
    assert "holds another analysis (other form)" in err


def test_the_control_is_put_back(mini):
    import torch

    trained = mini.pipe.unet
    state = torch.get_rng_state()
    weights = next(iter(trained.state_dict().values())).clone()
    with random_unet(mini.pipe):
        fresh = mini.pipe.unet
        assert fresh is not trained
        assert fresh.config == trained.config
        assert not torch.equal(next(iter(fresh.state_dict().values())), weights)
        first = fresh.conv_in.weight.clone()
    assert mini.pipe.unet is trained
    assert torch.equal(torch.get_rng_state(), state)
    with random_unet(mini.pipe):
        assert torch.equal(mini.pipe.unet.conv_in.weight, first)


@pytest.mark.parametrize("extent", [LIGHT, FULL])
def test_every_variant_has_a_name_of_its_own(extent):
    plain, traced = needed(FIGURES, Variants(CONFIG, extent))
    configs = {}
    for way in (*plain, *traced):
        assert configs.setdefault(way.name, way.config) == way.config
        assert re.fullmatch(r"[\w.-]+", way.name)
    # What generates the same images is generated once.
    assert len({str(way.config) for way in plain}) == len(plain)
    assert {way.name for way in traced} == {"none", "freeu"}


def test_plain_sweeps_scale_everything():
    variants = Variants(CONFIG, LIGHT)
    backbone, skip = variants.plain_backbone(), variants.plain_skip()
    assert [way.config is None for way in backbone.variants] == [False, True, False]
    import torch

    h, s = torch.randn(1, 8, 8, 8, dtype=torch.float64), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    config = backbone.variants[0].config
    scaled = freeu.ops.scale_backbone(h, config.b[0], config.version, channels=config.channels)
    torch.testing.assert_close(scaled, 0.6 * h)
    config = skip.variants[0].config
    torch.testing.assert_close(
        freeu.ops.filter_skip(s, config.s[0], config.threshold, config.mask, high_gain=config.high_gain), 0.6 * s
    )
    with pytest.raises(FreeUValueError, match="backbone factor b other than 1"):
        Variants(freeu.FreeUConfig(s=(0.5, 0.5)), LIGHT)


def verdict(values, sign=1):
    return Verdict("c", "m", sign, tuple(values), tuple(range(len(values))))


@pytest.mark.parametrize(
    ("values", "sign", "answer"),
    [
        ((0.1, 0.2, 0.3, 0.2, 0.1), 1, "agrees"),
        ((0.1, 0.2, 0.3, 0.2, 0.1), -1, "disagrees"),
        ((-0.1, -0.2, -0.3, -0.2, -0.1), -1, "agrees"),
        ((-0.1, 0.2, 0.3, -0.2, 0.1), 1, "undecided"),
        ((0.1, 0.2, 0.3, 0.2), 1, "undecided"),  # too few prompts
        ((0.1,), 1, "undecided"),
    ],
)
def test_verdicts(values, sign, answer):
    assert verdict(values, sign).answer == answer


@pytest.mark.parametrize(
    ("values", "control", "sign", "beyond"),
    [
        ((0.5, 0.6, 0.7, 0.6, 0.5), (0.1, 0.2, 0.3, 0.2, 0.1), 1, "beyond noise"),
        ((0.5, 0.6, 0.7, 0.6, 0.5), (-0.1, -0.2, -0.3, -0.2, -0.1), 1, "beyond noise"),
        # Noise says as much, or more.
        ((0.1, 0.2, 0.3, 0.2, 0.1), (0.2, 0.1, 0.2, 0.3, 0.1), 1, "no evidence"),
        ((0.1, 0.2, 0.3, 0.2, 0.1), (0.5, 0.6, 0.7, 0.6, 0.5), 1, "no evidence"),
        # What speaks against the paper needs to be beyond noise too.
        ((0.5, 0.6, 0.7, 0.6, 0.5), (0.1, 0.2, 0.3, 0.2, 0.1), -1, "beyond noise"),
        ((-0.5, -0.6, -0.7, -0.6, -0.5), (0.1, 0.2, 0.3, 0.2, 0.1), 1, "beyond noise"),
        ((-0.1, 0.2, 0.3, -0.2, 0.1), (-0.5, -0.6, -0.7, -0.6, -0.5), 1, "undecided"),
    ],
)
def test_what_noise_says_too_is_no_evidence(values, control, sign, beyond):
    difference, answer = verdict(values, sign).beyond(verdict(control, sign))
    assert answer == beyond
    assert difference.value == pytest.approx(np.mean(values) - np.mean(control))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--figure", "2"), "--figure 2: available figures are 3, 4, 5"),
        (("--form", "square"), "--form must be one of radial, diagonal"),
        (("--steps", "1"), "--steps must be at least 2, got 1"),
        (("--b", "1,1", "--s", "0.5,0.5"), "backbone factor b other than 1"),
        (("--b", "1,1.2", "--s", "1,1", "--end", "0"), "end"),
        (("--prompts", "empty.txt"), "holds no prompt"),
        (("--preset", "sd99"), "sd99"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, monkeypatch, words, message):
    pytest.importorskip("freeu_zoo")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    (tmp_path / "prompts.txt").write_text(LINES[0])
    given = words if "--prompts" in words else ("--prompts", "prompts.txt", *words)
    code, _, err = run("analyze", *given, "--output", "out")
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_model_of_one_channel(run, prompts, tmp_path):
    """Latents and images of one channel; of a backbone's channels half are still scaled."""
    from diffusers import AutoencoderKL
    from tiny_pipelines import save_pipeline, tiny_unet

    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        latent_channels=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    folder = save_pipeline(tmp_path / "grey", vae=vae, unet=tiny_unet(in_channels=1, out_channels=1))
    numbers = [word for number in (3, 4, 8, 13, 16) for word in ("--figure", number)]
    words = ("analyze", folder, "--prompts", prompts, "--steps", "2", "--threads", "1", *numbers)
    code, _, err = run(*words, "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert all(np.isfinite(one["values"]).all() for one in results["verdicts"])
    assert any(one["value"] != 0.0 for one in results["verdicts"] if one["figure"] == 13)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"_class_name": "PixArtAlphaPipeline", "transformer": ["diffusers", "PixArtTransformer2DModel"]}, "(DiT)"),
        (
            {"_class_name": "SomethingPipeline", "prior": ["diffusers", "PriorTransformer"]},
            "a pipeline without a U-Net",
        ),
    ],
)
def test_a_model_without_skips(run, prompts, tmp_path, index, message):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps(index))
    code, _, err = run("analyze", folder, "--prompts", prompts, "--output", tmp_path / "out")
    assert code == 2
    assert message in err
    assert "no skip connections that meet a decoder" in err
    assert not (tmp_path / "out").exists()


def test_figures_from_python(mini):
    pipe = mini.pipe
    scheduler, bars = pipe.scheduler.config, dict(pipe._progress_bar_config)
    seen = []
    made = freeu.analysis.make_figures(pipe, LINES, (16, 4), steps=2, config=CONFIG, report=lambda: seen.append(1))
    assert [figure.number for figure in made] == [4, 16]
    assert len(seen) == 2 * 4  # none by spectral analysis, and three ways of Fig. 16
    with freeu.analysis.random_unet(pipe):
        noise = freeu.analysis.make_figures(pipe, LINES, (16, 4), steps=2, config=CONFIG)
    pairs = list(freeu.analysis.compare_verdicts(made, noise))
    assert [figure.number for figure, _, _ in pairs] == [4, 16]
    assert all(ours.measure == theirs.measure and ours.values != theirs.values for _, ours, theirs in pairs)
    assert (pipe.scheduler.config, dict(pipe._progress_bar_config)) == (scheduler, bars)
    assert not freeu.active(pipe)
    assert len(freeu.analysis.plotly_figure(made[0].content[0]).data) == 2
    for change, message in (
        ({"numbers": (2,)}, "--figure 2"),
        ({"steps": 1}, "at least 2"),
        ({"prompts": ()}, "prompts"),
    ):
        arguments = {"prompts": LINES, "numbers": (4,), "config": CONFIG} | change
        with pytest.raises(FreeUValueError, match=message):
            freeu.analysis.make_figures(pipe, **arguments)


def test_figure_numbers():
    assert check_numbers([7, 3, 7]) == (3, 7)
    for number, entry in FIGURES.items():
        assert entry.title, number


def test_colours_are_told_apart():
    from freeu.analysis.measurement.content import Panel, Series
    from freeu.analysis.plots import as_csv, line_colours

    lines = tuple(Series(str(i), (0.0, 1.0), (0.0, 1.0), shade=i / 4) for i in range(5))
    panel = Panel("t", "x", "y", lines)
    assert len(set(line_colours(panel))) == 5
    assert as_csv(panel).splitlines()[:2] == ["line,x,y,low,high", "0,0.0,0.0,,"]
    alone = Panel("t", "x", "y", tuple(Series(str(i), (0.0,), (0.0,)) for i in range(9)))
    assert len(set(line_colours(alone))) == 7


def test_bands_of_a_zooming_figure():
    from freeu.analysis import Panel, Series, plotly_figure

    line = Series("a", (0.0, 1.0), (2.0, 3.0), low=(1.0, 2.5), high=(3.0, 4.0))
    low, high, middle = plotly_figure(Panel("t", "x", "y", (line,))).data
    assert (low.y, high.y, middle.y) == (line.low, line.high, line.y)
    assert (high.fill, high.fillcolor) == ("tonexty", "rgba(0, 114, 178, 0.2)")
    assert [trace.showlegend for trace in (low, high, middle)] == [False, False, None]


def test_maps_span_the_colours():
    from freeu.analysis.report import _coloured

    assert len(np.unique(_coloured(np.linspace(0, 1, 256).reshape(16, 16)), axis=0)) > 10
    assert (_coloured(np.ones((4, 4))) == _coloured(np.zeros((4, 4)))).all()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_in_a_browser(run, prompts, tmp_path, watched, width):
    """Nothing covers anything: titles and legends stand outside the plots, and two prompts say what they lack."""
    folder = tmp_path / "out"
    words = ("analyze", "--prompts", prompts, "--steps", "2", "--threads", "1", "--output", folder)
    assert run(*words, "--figure", "7", "--figure", "15")[0] == 0
    page = watched.page
    page.set_viewport_size({"width": width, "height": 844})
    page.goto((folder / "report.html").as_uri())
    page.wait_for_selector(".plot .main-svg")
    assert watched.fits()
    assert page.locator("table.verdicts").get_by_text("2 prompts, and at least 5 decide").count() > 0
    figure = page.locator("figure.plot").first
    boxes = [figure.locator(part).bounding_box() for part in ("figcaption", "[data-plot]", ".legend")]
    for above, below in itertools.pairwise(boxes):
        assert above["y"] + above["height"] <= below["y"] + 1
    # Three images side by side are seen whole.
    assert page.locator("#figure-15 table.grid").first.locator("thead th").count() == 3
    assert page.locator("#figure-15 .scroll").first.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    # The toolbar, which a mouse brings up, covers neither axis nor curves.
    figure.hover()
    bar, curves = (figure.locator(part).first.bounding_box() for part in (".modebar-group", ".scatterlayer .trace"))
    assert bar["y"] + bar["height"] <= curves["y"] + 3
    # An entry of the legend hides its curve.
    entries = figure.locator(".legend button")
    assert entries.count() > 1
    shown = figure.locator(".scatterlayer .trace").count()
    entries.first.click()
    assert entries.first.get_attribute("aria-pressed") == "false"
    page.wait_for_timeout(300)
    assert figure.locator(".scatterlayer .trace").count() < shown
    watched.screenshot(f"analyze-{width}")
    assert not watched.errors
    assert not watched.outside

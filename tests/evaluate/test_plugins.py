"""Metrics by name, by entry point and by dotted name: what is scored, what is recorded, and what fails in one line."""

import json
import math
import sys
import warnings

import numpy as np
import pytest
import tolerances
import torch
from command_line import run_cli as run
from PIL import Image

from freeu.errors import FreeUValueError
from freeu.evaluate import CLIP, Judges, Metric, MetricPlugin, find_metric
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.results import as_markdown
from freeu.evaluate.experiment.scoring import Sample
from freeu.evaluate.experiment.summary import score_everything
from freeu.evaluate.metrics.plugins.adapters import ADAPTERS, QUALITY
from freeu.evaluate.metrics.plugins.metric import as_metric
from freeu.evaluate.metrics.plugins.registry import find_metrics, metric_plugins

PROMPTS = [Prompt("a red square"), Prompt("a blue square")]
MODULE = '''
from PIL import ImageDraw


def red(images, prompts):
    """The first channel of the first pixel, 0..1; draws on what it was given."""
    found = [image.getpixel((0, 0))[0] / 255 for image in images]
    for image in images:
        ImageDraw.Draw(image).point((0, 0), "white")
    return found


def letters(images, prompts):
    return [float(len(prompt)) for prompt in prompts]


def picky(images, prompts):
    if any(image.getpixel((0, 0)) == (0, 0, 255) for image in images):
        raise OSError("no\\nblue")
    return [1.0 if image.getpixel((0, 0))[1] == 0 else float("nan") for image in images]


def one(images, prompts):
    return [1.0]


class Judge:
    def __call__(self, images, prompts):
        return [0.0 for _ in images]


judge = Judge()
number = 3
'''


def images_of(folder, colours):
    folder.mkdir(parents=True)
    for number, colour in enumerate(colours):
        Image.new("RGB", (16, 16), colour).save(folder / f"{number}.png")
    return [Sample(folder / f"{number}.png", number) for number in range(len(colours))]


@pytest.fixture
def arms(tmp_path):
    return {"a": images_of(tmp_path / "a", ["red", "blue"]), "b": images_of(tmp_path / "b", ["lime", "red"])}


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "my_metrics.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield "my_metrics"
    sys.modules.pop("my_metrics", None)


def scored(arms, *metrics, **more):
    return score_everything(arms, PROMPTS, Judges(metrics=metrics), **more)


def test_any_callable_is_a_metric(arms, module):
    import my_metrics

    found = scored(arms, my_metrics.red, my_metrics.letters)
    assert [row["values"]["red"] for row in found["pictures"]] == [1, 0, 0, 1]  # untouched by what red draws
    assert [row["values"]["letters"] for row in found["pictures"]] == [12, 13, 12, 13]
    assert found["summary"]["a"]["red"]["value"] == 0.5
    assert found["summary"]["a"]["red"]["clusters"] == 2
    assert found["differences"]["b"]["letters"]["value"] == 0.0
    assert [metric["name"] for metric in found["metrics"]] == ["red", "letters"]
    assert found["failures"] == []


def test_what_a_metric_raises_costs_the_values_of_its_images_alone(arms, module):
    import my_metrics

    found = scored(arms, my_metrics.picky, my_metrics.letters)
    # The image before the blue one in the same batch has its value.
    assert [row["values"]["picky"] for row in found["pictures"]] == [1, None, None, 1]
    assert found["failures"] == [
        {"arm": "a", "file": "1.png", "metric": "picky", "error": "OSError: no blue"},
        {"arm": "b", "file": "0.png", "metric": "picky", "error": "it gave nan"},
    ]
    assert found["summary"]["a"]["picky"]["count"] == 1
    assert "picky" not in found["differences"]["b"]  # no pair is whole
    assert found["summary"]["b"]["letters"]["count"] == 2


def test_a_wrong_number_of_values_is_a_failure(arms, module):
    import my_metrics

    found = scored({"a": arms["a"]}, my_metrics.one)
    assert [row["values"]["one"] for row in found["pictures"]] == [1, 1]  # one by one it gives what it should

    def two(images, prompts):
        return [1.0, 2.0]

    found = scored({"a": arms["a"][:1]}, two)
    assert found["failures"][0]["error"] == "FreeUValueError: it gave 2 values for 1 image"
    assert "two" not in found["summary"]["a"]


def test_a_metric_that_compares_sees_the_matching_reference(arms, tmp_path):
    def same(images, prompts, references):
        return [float(a.tobytes() == b.tobytes()) for a, b in zip(images, references, strict=True)]

    metric = Metric("same", lambda: same, sees="image and reference")
    with pytest.raises(FreeUValueError, match="give --reference DIR and --reference-matches"):
        scored(arms, metric)
    real = [one.path for one in images_of(tmp_path / "real", ["red", "red"])]
    found = scored(arms, metric, reference=real, matches=True)
    assert [row["values"]["same"] for row in found["pictures"]] == [1, 0, 0, 1]
    assert "same" not in found["ceiling"]["summary"]

    def width(images, prompts):
        return [float(image.width) for image in images]

    found = scored(arms, width, reference=real, matches=True)
    assert found["ceiling"]["summary"]["width"]["value"] == 16.0
    with pytest.raises(FreeUValueError, match="these are videos"):
        scored(arms, width, videos=True)


def test_names():
    assert as_metric(math.hypot).name == "hypot"
    assert as_metric(MetricPlugin("near", lambda location, device: len, higher_is_better=False)).name == "near"
    for bad, message in ((3, "got a int"), (dict, "got a class"), (lambda images, prompts: [], "'<lambda>'")):
        with pytest.raises(FreeUValueError, match=message):
            as_metric(bad)

    def clip_score(images, prompts):
        return []

    with pytest.raises(FreeUValueError, match="'clip_score' has the name of another measure"):
        score_everything({"a": []}, PROMPTS, Judges(metrics=(clip_score,)))


# -- by name --------------------------------------------------------------------------------------------------------


def test_functions_by_dotted_name(module):
    assert find_metric("my_metrics:red").source == "my_metrics:red"
    assert find_metric("my_metrics:judge").name == "Judge"
    for text, message in (
        ("my_metrics:number", "must be a function (images, prompts) -> numbers"),
        ("my_metrics:nothing", "cannot be imported: AttributeError"),
        ("my_metric:red", "cannot be imported: ModuleNotFoundError: No module named 'my_metric'"),
        ("my_metrics.py", "unknown --metric 'my_metrics.py': installed are clip-iqa=PATH, clip-score=PATH, "),
        ("/tmp/my_metrics.py:red", "or name any function (images, prompts) -> numbers as package.module:function"),
        ("__import__('os'):red", "unknown --metric"),
    ):
        with pytest.raises(FreeUValueError) as caught:
            find_metric(text)
        assert message in str(caught.value)
    with pytest.raises(FreeUValueError, match="--metric red is given twice"):
        find_metrics(["my_metrics:red", "my_metrics:red"])


def test_entry_points(module, tmp_path):
    about = tmp_path / "site" / "my_metrics-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-metrics\nVersion: 1\n")
    lines = ["red = my_metrics:red", "broken = my_metrics:gone", "hpsv2 = my_metrics:red", "told = my_plugins:told"]
    (about / "entry_points.txt").write_text("\n".join(["[freeu.metrics]", *lines]))
    (tmp_path / "site" / "my_plugins.py").write_text(
        "from freeu.evaluate import MetricPlugin\n"
        "def load(location, device):\n    return lambda images, prompts: [len(location)] * len(images)\n"
        "told = MetricPlugin('told', load, sees='image', licence='mine', location='any file')\n"
    )
    assert {"red", "told"} <= metric_plugins().keys()
    assert metric_plugins()["hpsv2"] is ADAPTERS["hpsv2"]
    assert find_metric("red").source == "red (my_metrics:red)"
    with pytest.raises(FreeUValueError, match="--metric red takes no location, got 'x'"):
        find_metric("red=x")
    with pytest.raises(FreeUValueError, match=r"broken \(my_metrics:gone\) cannot be loaded: AttributeError"):
        find_metric("broken")
    with pytest.raises(FreeUValueError, match="told needs any file: give --metric told=PATH"):
        find_metric("told")
    metric = find_metric(f"told={about / 'METADATA'}")
    assert (metric.licence, metric.source) == ("mine", "told=METADATA")
    assert metric.open()([None], [""]) == [len(str(about / "METADATA"))]
    sys.modules.pop("my_plugins")


def test_what_is_missing_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(FreeUValueError, match="torchmetrics is not installed: pip install torchmetrics"):
        find_metric("ssim")
    with pytest.raises(FreeUValueError, match=r"not installed: .*ssim \(pip install torchmetrics\)"):
        find_metric("sim")
    with pytest.raises(FreeUValueError, match="pickscore needs the directory of PickScore_v1"):
        find_metric("pickscore")
    with pytest.raises(FreeUValueError, match="nowhere: no such path"):
        find_metric(f"pickscore={tmp_path / 'nowhere'}")
    with pytest.raises(FreeUValueError, match="holds no CLIP"):
        find_metric(f"pickscore={tmp_path}").open()
    plugin = MetricPlugin("one", lambda location, device: len)
    with pytest.raises(FreeUValueError, match="takes no location"):
        plugin.at("here")


def test_the_command(module, clip_dir, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red square\na blue square\n")
    images_of(tmp_path / "a", ["red", "blue"])
    images_of(tmp_path / "b", ["lime", "red"])
    words = ("--prompts", tmp_path / "prompts.txt", "--images", tmp_path / "a", "--images", tmp_path / "b")
    words += ("--judge", "none", "--threads", 1, "--output", tmp_path / "out")
    metrics = ("--metric", "my_metrics:picky", "--metric", f"pickscore={clip_dir}")
    code, out, err = run("evaluate", *words, *metrics)
    assert code == 0
    assert "picky" in out  # the head of the table
    assert err.splitlines() == [
        "freeu: picky gave no value for 1 of 2 images of a: a/1.png: OSError: no blue",
        "freeu: picky gave no value for 1 of 2 images of b: b/0.png: it gave nan",
    ]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [metric["source"] for metric in results["metrics"]] == ["my_metrics:picky", "pickscore=tiny-clip"]
    assert {name: results["metrics"][1][name] for name in ("name", "sees", "higher_is_better")} == {
        "name": "pickscore",
        "sees": "image and prompt",
        "higher_is_better": True,
    }
    assert len(results["failures"]) == 2
    table = (tmp_path / "out" / "table.md").read_text()
    assert "- picky gave no value for 1 of 2 images of a: see failures in results.json." in table
    assert "| arm | picky | pickscore |" in table
    assert "pickscore=tiny-clip; sees image and prompt; higher is better; weights under" in table
    assert "[" in table.split("## pickscore")[1]  # an interval
    older = {name: value for name, value in results.items() if name not in ("metrics", "failures")}
    assert "## pickscore" in as_markdown(older)


def test_a_metric_can_be_added_to_an_experiment_that_is_there(module, tmp_path):
    """Metrics decide nothing that is generated, and one that cannot be loaded must not lose what was."""
    pytest.importorskip("freeu_zoo")
    (tmp_path / "prompts.txt").write_text("a 3d fox on a blue background\n")
    words = ("--prompts", tmp_path / "prompts.txt", "--arms", "none", "--seeds", 0, "--steps", 1, "--threads", 1)
    words += ("--judge", "none", "--output", tmp_path / "out")
    assert run("evaluate", *words).code == 0
    (made,) = (tmp_path / "out").rglob("p000*.png")
    before = made.stat().st_mtime_ns
    code, _, err = run("evaluate", *words, "--metric", "my_metrics:letters")
    assert code == 0, err
    assert made.stat().st_mtime_ns == before
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["summary"]["none"]["letters"]["value"] == 29.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metric", "hps"), "unknown --metric 'hps'"),
        (("--metric", "pickscore"), "give --metric pickscore=PATH"),
        (("--metric", "math:hypot", "--metric", "math:hypot"), "hypot is given twice"),
    ],
)
def test_bad_metrics_are_one_line_and_write_nothing(words, message, tmp_path, monkeypatch):
    (tmp_path / "prompts.txt").write_text("a red square\n")
    images_of(tmp_path / "a", ["red"])
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    common = ("--prompts", tmp_path / "prompts.txt", "--judge", "none")
    for source in (("--images", tmp_path / "a"), ()):
        outcome = run("evaluate", *common, *source, *words)
        assert outcome.code == 2
        assert message in outcome.one_line()
    assert list(work.iterdir()) == []


# -- the adapters against what they are made of ---------------------------------------------------------------------


def noise(count, size=(40, 36)):
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)) for _ in range(count)]


def package(name):
    """A package that warns of what it uses itself when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def opened(text):
    return find_metric(text).open()


def test_pickscore_is_the_models_own_logit(clip_dir):
    """Against ``logits_per_image`` of the model, which is what the README of PickScore calculates by hand."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    images, prompts = noise(3), ["a fox", "a car", "two"]
    model = CLIPModel.from_pretrained(clip_dir).eval()
    tokens = CLIPTokenizer.from_pretrained(clip_dir)(prompts, padding=True, return_tensors="pt")
    inputs = CLIPImageProcessorPil.from_pretrained(clip_dir)(images=images, return_tensors="pt")
    with torch.no_grad():
        want = model(**inputs, **tokens).logits_per_image.diagonal()
    got = opened(f"pickscore={clip_dir}")(images, prompts)
    np.testing.assert_allclose(got, want.numpy(), rtol=tolerances.FEATURES)
    assert CLIP(clip_dir).logit_scale == pytest.approx(model.logit_scale.exp().item())


def test_clip_iqa_is_the_probability_of_the_good_photo(clip_dir):
    clip, images = CLIP(clip_dir), noise(3)
    cosines = 100.0 * clip.image_features(images) @ clip.text_features(QUALITY).T
    want = torch.softmax(torch.from_numpy(cosines), dim=1)[:, 0]
    np.testing.assert_allclose(opened(f"clip-iqa={clip_dir}")(images, [""] * 3), want, rtol=tolerances.INDEPENDENT)


def test_total_variation_and_ssim_by_hand():
    pytest.importorskip("torchmetrics")
    image = Image.new("RGB", (12, 12))
    image.paste((255, 255, 255), (6, 0, 12, 12))
    # One edge 12 pixels high in three channels, over 144 pixels.
    assert opened("total-variation")([image, image.rotate(90)], ["", ""]) == pytest.approx([0.25, 0.25])
    ssim = opened("ssim")
    images = noise(2)
    assert ssim(images, ["", ""], [images[0], images[0]])[0] == pytest.approx(1.0)
    assert ssim(images, ["", ""], [images[0], images[0]])[1] < 0.5
    assert ssim(images[:1], [""], [images[0].resize((80, 72))])[0] < 1.0


def test_hpsv2_equals_its_own_function(tmp_path, monkeypatch):
    """A narrow ViT with random weights in place of the ViT-H/14, scored by the package itself."""
    img_score = package("hpsv2.img_score")
    from hpsv2.src.open_clip import create_model_and_transforms, factory

    tiny = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-H-14", tiny)
    model, _, prepare = create_model_and_transforms("ViT-H-14", light_augmentation=True, output_dict=True)
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, tmp_path / "HPS_v2.pt")
    monkeypatch.setattr(img_score, "model_dict", {"model": model, "preprocess_val": prepare})
    monkeypatch.setattr(img_score, "device", "cpu")
    images, prompts = noise(2), ["a fox", "a car on a hill"]
    torch.manual_seed(1)  # other weights than those that were saved
    got = opened(f"hpsv2={tmp_path / 'HPS_v2.pt'}")(images, prompts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of autocast
        want = [
            img_score.score(image, prompt, cp=str(tmp_path / "HPS_v2.pt"))[0]
            for image, prompt in zip(images, prompts, strict=True)
        ]
    np.testing.assert_allclose(got, want, rtol=tolerances.FEATURES)


def test_musiq_equals_its_own_network(tmp_path):
    pyiqa = package("pyiqa")
    metric = pyiqa.create_metric("musiq", device="cpu", pretrained=False)
    torch.save(metric.net.state_dict(), tmp_path / "musiq.pth")
    image = noise(1, (96, 64))[0]
    values = torch.from_numpy(np.array(image, dtype=np.float32) / 255.0).permute(2, 0, 1)[None]
    got = opened(f"musiq={tmp_path / 'musiq.pth'}")([image], [""])
    assert got == pytest.approx([metric(values).item()], rel=tolerances.INDEPENDENT)


def test_weights_that_are_none_are_refused(tmp_path):
    package("pyiqa")
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(FreeUValueError, match="cannot load MUSIQ"):
        opened(f"musiq={tmp_path / 'bad.pth'}")

"""Results in trackers, read back by each tracker's own reader; and trackers that fail."""

import json
import struct
import sys
import warnings

import pytest
from command_line import run_cli as run
from PIL import Image

from freeu.errors import FreeURuntimeError
from freeu.evaluate.tracking.record import Record, Value, record_of, sheet_of
from freeu.evaluate.tracking.trackers import TRACKERS, Tracker, track

ARM = "a: b1=1.3"


@pytest.fixture
def record(tmp_path):
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (32, 24), (50 * number, 0, 0)).save(paths[-1])
    values = [Value(ARM, "clip_score", 25.5, 24.0, 27.0), Value("none", "difference/fid", -0.25, None, None)]
    settings, config = {"prompts": 3, "arms": f"{ARM}, none"}, {"plan": None, "arms": [{"name": ARM}]}
    out = tmp_path / "out"
    out.mkdir()
    return Record("out", "study", out, settings, config, values, "| arm |\n| --- |\n", {ARM: paths})


def test_tensorboard(record):
    pytest.importorskip("tensorboard")
    track(["tensorboard", "tensorboard"], record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(record.folder / "tensorboard" / "study"))
        events.Reload()
        assert len(list((record.folder / "tensorboard" / "study").iterdir())) == 1
        tags = events.Tags()
        scalars = {tag: events.Scalars(tag)[0].value for tag in tags["scalars"]}
        image = events.Images(tags["images"][0])[0]
        texts = {tag.partition("/")[0] for tag in tags["tensors"]}
    assert texts == {"settings", "table"}
    assert sorted(scalars.values()) == [-0.25, 24.0, 25.5, 27.0]
    assert "difference/fid/none/value" in scalars
    assert (image.width, image.height) == (128, 48)


def test_mlflow(record, monkeypatch):
    pytest.importorskip("mlflow")
    pytest.importorskip("alembic")  # of the whole mlflow, for its database
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track(["mlflow"], record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{record.folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("study")
        (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.tags["mlflow.runName"] == "out"
    assert found.data.params == {"prompts": "3", "arms": f"{ARM}, none"}
    assert found.data.metrics == {
        "a_ b1_1.3/clip_score/value": 25.5,
        "a_ b1_1.3/clip_score/low": 24.0,
        "a_ b1_1.3/clip_score/high": 27.0,
        "none/difference/fid/value": -0.25,
    }
    artifacts = record.folder / "mlartifacts" / found.info.run_id / "artifacts"
    assert json.loads((artifacts / "config.json").read_text()) == record.config
    assert (artifacts / "table.md").read_text() == record.table
    with Image.open(artifacts / "samples" / "a_ b1_1.3.png") as image:
        assert image.size == (128, 48)


def log_records(data):
    """The records of a log in the format of LevelDB, behind a header of 7 bytes; a long one is in several parts."""
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = (1 << 15) - place % (1 << 15)
        if left < 7:  # no header fits into the end of a block
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole of it, or the last part
            yield whole
            whole = b""


def test_wandb_offline(record, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    track(["wandb"], record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from wandb.proto import wandb_internal_pb2

    (path,) = (record.folder / "wandb").glob("offline-run-*/run-*.wandb")
    records = []
    for data in log_records(path.read_bytes()):
        records.append(wandb_internal_pb2.Record())
        records[-1].ParseFromString(data)
    started = next(one.run for one in records if one.HasField("run"))
    assert (started.project, started.display_name) == ("study", "out")
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert config["prompts"] == 3
    summary = {}
    for one in records:
        for item in one.summary.update if one.HasField("summary") else ():
            summary["/".join([*item.nested_key]) or item.key] = json.loads(item.value_json)
    assert summary[f"{ARM}/clip_score/low"] == 24.0
    assert summary["none/difference/fid/value"] == -0.25
    assert len(list((record.folder / "wandb").glob("offline-run-*/files/media/images/samples/*.png"))) == 1


def test_a_tracker_that_fails_does_not_keep_the_others(record, monkeypatch):
    sent = []
    monkeypatch.setitem(TRACKERS, "wandb", Tracker("json", "json", lambda _: 1 / 0))
    monkeypatch.setitem(TRACKERS, "mlflow", Tracker("json", "json", sent.append))
    with pytest.raises(FreeURuntimeError) as caught:
        track(["wandb", "mlflow"], record)
    assert str(caught.value) == (
        f"the results are in {record.folder}, but wandb failed (ZeroDivisionError: division by zero)"
    )
    assert sent == [record]


def images_of(folder, count):
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(folder / f"{number}.png")


@pytest.fixture
def words(tmp_path):
    (tmp_path / "prompts.txt").write_text("a fox\na car\n")
    for name in ("first", "second"):
        images_of(tmp_path / name, 2)
    found = ["evaluate", "--prompts", tmp_path / "prompts.txt", "--judge", "none", "--threads", 1]
    return [*found, "--images", tmp_path / "first", "--images", tmp_path / "second"]


def test_the_command_sends_what_it_has_written(words, tmp_path, monkeypatch):
    sent = []
    monkeypatch.setitem(TRACKERS, "mlflow", Tracker("json", "json", sent.append))
    out = tmp_path / "out"
    outcome = run(*words, "--track", "mlflow", "--track-project", "mine", "--output", out)
    assert outcome.code == 0, outcome.err
    (found,) = sent
    assert (found.name, found.project, found.folder) == ("out", "mine", out)
    assert found.table == (out / "table.md").read_text()
    assert found.settings == {"prompts": 2, "arms": "first, second", "images": 4}
    assert found.images["second"] == [tmp_path / "second" / f"{number}.png" for number in range(2)]
    assert Value("second", "difference/contrast", 0.0, 0.0, 0.0) in found.values
    json.dumps(found.config)


def test_a_failure_comes_after_the_results(words, tmp_path, monkeypatch):
    monkeypatch.setitem(TRACKERS, "mlflow", Tracker("json", "json", lambda _: 1 / 0))
    out = tmp_path / "out"
    outcome = run(*words, "--track", "mlflow", "--output", out)
    assert outcome.code == 2
    assert outcome.one_line().startswith(f"freeu: the results are in {out}, but mlflow failed")
    assert "wrote" in outcome.out
    assert {"results.json", "table.md"} <= {path.name for path in out.iterdir()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wand", "unknown --track 'wand': did you mean wandb? known: mlflow, tensorboard, wandb"),
        ("wandb", "wandb is not installed: pip install wandb"),
        ("tensorboard", "tensorboard is not installed: pip install tensorboard"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_done(name, message, words, tmp_path, monkeypatch):
    for module in ("wandb", "tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, module, None)
    outcome = run(*words, "--track", name, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.one_line()
    assert not (tmp_path / "out").exists()


def test_sheets(tmp_path):
    paths = []
    for number in range(40):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (512, 256) if number else (10, 10), (6 * number, 0, 0)).save(paths[-1])
    sheet = sheet_of(paths)
    assert sheet.size == (4 * 256, 4 * 128)  # 16 of 40, each at most 256 pixels wide
    assert sheet.getpixel((128, 64)) == (0, 0, 0)  # the small one, in the middle of its cell
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    assert sheet.getpixel((300, 64)) == (6 * 2, 0, 0)
    assert sheet_of(paths[1:3]).size == (512, 128)


def test_the_record_leaves_the_prompts_out(tmp_path):
    """A plan holds every prompt; trackers get their number."""
    means = {"clip_score": {"value": 1.0, "low": None, "high": None}}
    results = {
        "plan": {"model": {"name": "m"}, "steps": 3, "seeds": [0, 1], "prompts": ["a", "b"]},
        "prompts": [{}, {}],
        "arms": [{"name": "none"}],
        "summary": {"none": means},
        "differences": {"none": {}},
        "pictures": [{}] * 4,
    }
    rest = ("judges", "metrics", "guidance", "calibration", "reference", "reference_matches", "environment")
    found = record_of(results | dict.fromkeys(rest), "", tmp_path, "p", {})
    assert found.config["plan"]["prompts"] == 2
    assert found.settings == {"prompts": 2, "arms": "none", "images": 4, "model": "m", "steps": 3, "seeds": 2}
    assert found.values == [Value("none", "clip_score", 1.0, None, None)]

"""An interrupted training is the same training; checkpoints are whole, of one identity, and run no code."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.personalize import Checkpoint, TrainingState
from freeu.personalize.training.training import OptimizerSettings, Training, batch_rows, generator_of, mean_losses
from freeu.pipelines.io.output import OutputFolder

SETTINGS = OptimizerSettings(steps=12, learning_rate=1e-2, warmup=3, checkpoint_steps=5)


def training(
    folder: Path, settings: OptimizerSettings = SETTINGS, seed: int = 0, **changes: object
) -> tuple[Training, nn.Module]:
    """A small network with dropout that learns a random map from what ``batch_rows`` and the generators give."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    inputs, targets = torch.randn(5, 4), torch.randn(5, 2)

    def losses_of(step: int) -> Mapping[str, Tensor]:
        rows = batch_rows(seed, 5, 3, step)
        noise = torch.randn(3, 4, generator=generator_of(seed, "noise", step))
        error = (model(inputs[rows] + 0.1 * noise) - targets[rows]).square().mean()
        return {"error": error, "size": 1e-3 * model[0].weight.square().sum()}

    identity = {"data": "abc", "rank": 4, **changes}
    return Training(dict(model.named_parameters()), losses_of, settings, folder, identity, seed=seed), model


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def stopping_at(step: int) -> Callable[[int, Mapping[str, float]], None]:
    def at_step(now: int, losses: Mapping[str, float]) -> None:
        if now == step:
            signal.raise_signal(signal.SIGINT)

    return at_step


@pytest.mark.parametrize("cosine", [False, True])
def test_an_interrupted_training_is_the_same_training(tmp_path: Path, cosine: bool) -> None:
    settings = OptimizerSettings(steps=12, learning_rate=1e-2, warmup=3, cosine=cosine, checkpoint_steps=5)
    whole, model = training(tmp_path / "whole", settings)
    whole.train()
    for step in (1, 7):
        part, _ = training(tmp_path / "part", settings)
        part.resume()
        with pytest.raises(KeyboardInterrupt):
            part.train(stopping_at(step))
        assert part.step == step
    rest, other = training(tmp_path / "part", settings)
    assert rest.resume()
    rest.train()
    assert torch.equal(weights(model), weights(other))
    assert rest.losses == whole.losses
    assert len(whole.losses["error"]) == 12


def test_a_killed_process_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """SIGTERM and, for a machine that fails, SIGKILL: real processes, at whatever step they are."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "import torch; torch.set_num_threads(1)\n"
        "from test_training import training, OptimizerSettings\n"
        "run, _ = training(Path(sys.argv[1]), OptimizerSettings(steps=400, learning_rate=1e-2, checkpoint_steps=20))\n"
        "run.resume(); print('at', run.step, flush=True)\n"
        "run.train(lambda step, losses: (time.sleep(0.005), print(step, flush=True)))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "part"), str(Path(__file__).parent)]
    for number, wait in ((signal.SIGTERM, 65), (signal.SIGKILL, 150)):
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == str(wait):
                    process.send_signal(number)
                    break
            process.communicate()
        assert process.returncode not in (0, None)
        if number == signal.SIGTERM:
            step = json.loads((tmp_path / "part/checkpoint/state.json").read_text())["step"]
            assert wait <= step < 400  # saved where it stopped: the checkpoint before was at step 60
    settings = OptimizerSettings(steps=400, learning_rate=1e-2, checkpoint_steps=20)
    rest, resumed = training(tmp_path / "part", settings)
    assert rest.resume()
    assert 0 < rest.step < 400
    rest.train()
    whole, model = training(tmp_path / "whole", settings)
    whole.train()
    assert torch.equal(weights(model), weights(resumed))


def test_a_constant_rate_can_go_on_for_longer(tmp_path: Path) -> None:
    short, _ = training(tmp_path / "one")
    short.train()
    longer, model = training(
        tmp_path / "one", OptimizerSettings(steps=20, learning_rate=1e-2, warmup=3, checkpoint_steps=5)
    )
    assert longer.resume()
    longer.train()
    whole, other = training(
        tmp_path / "two", OptimizerSettings(steps=20, learning_rate=1e-2, warmup=3, checkpoint_steps=7)
    )
    whole.train()
    assert torch.equal(weights(model), weights(other))


def test_each_round_shows_everything_once() -> None:
    batches = [batch_rows(3, 5, 3, step) for step in range(10)]
    flat = [row for batch in batches for row in batch]
    rounds = [flat[start : start + 5] for start in range(0, 30, 5)]
    assert all(sorted(one) == list(range(5)) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert batches != [batch_rows(4, 5, 3, step) for step in range(10)]
    assert len(batch_rows(0, 2, 7, 0)) == 7


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"rank": 8}, "rank: 4 there, 8 now"), ({"data": "abd"}, "data: abc there, abd now"), ({"new": 1}, "new: null")],
)
def test_another_training_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    run, _ = training(tmp_path)
    run.train()
    other, _ = training(tmp_path, **changes)
    with pytest.raises(FreeUValueError, match=words) as caught:
        other.resume()
    assert "name a folder" in str(caught.value)


def test_another_seed_or_rate_is_refused(tmp_path: Path) -> None:
    run, _ = training(tmp_path)
    run.train()
    other, _ = training(tmp_path, seed=1)
    with pytest.raises(FreeUValueError, match="seed: 0 there, 1 now"):
        other.resume()
    other, _ = training(tmp_path, OptimizerSettings(steps=12, learning_rate=1e-3, warmup=3))
    with pytest.raises(FreeUValueError, match="learning rate"):
        other.resume()


class _Planted:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch planted",)


@pytest.mark.parametrize("file", ["state.json", "step-000012.safetensors"])
def test_a_damaged_or_planted_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.chdir(tmp_path)
    run, _ = training(tmp_path / "run")
    run.train()
    path = tmp_path / "run/checkpoint" / file
    good = path.read_bytes()
    for bad in (pickle.dumps(_Planted()), good[: len(good) // 2], b""):
        path.write_bytes(bad)
        other, _ = training(tmp_path / "run")
        with pytest.raises(FreeUValueError, match=r"damaged|cannot load"):
            other.resume()
    assert not (tmp_path / "planted").exists()


def test_a_checkpoint_names_no_file_outside(tmp_path: Path) -> None:
    run, _ = training(tmp_path)
    run.train()
    path = tmp_path / "checkpoint/state.json"
    path.write_text(path.read_text().replace("step-000012.safetensors", "../../step-000012.safetensors"))
    other, _ = training(tmp_path)
    with pytest.raises(FreeUValueError, match="damaged"):
        other.resume()


def test_only_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    run, _ = training(tmp_path)
    run.train()
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == [
        "state.json",
        "step-000012.safetensors",
    ]
    begun = time.time()
    again, _ = training(tmp_path)
    assert again.resume()
    assert again.finished
    again.train()
    assert again.losses == run.losses
    assert time.time() - begun < 5


@pytest.mark.parametrize("broken", ["tensors", "state"])
@pytest.mark.parametrize("step", [3, 4])
def test_a_write_that_fails_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, broken: str
) -> None:
    """Also one of the same step with other tensors; what it left is cleared by the next write."""
    checkpoint = Checkpoint(tmp_path, {"rank": 4})
    old = TrainingState(3, {"weights": torch.zeros(3)}, {"loss": [0.5]}, 1.23456789)
    checkpoint.write(old)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / ".step-000002.safetensors.1.part").write_bytes(b"begun")
    new = TrainingState(step, {"weights": torch.ones(3)}, {"loss": [0.25]}, 2.0)
    with monkeypatch.context() as patch:
        patch.setattr(*{"tensors": (safetensors.torch, "save_file"), "state": (OutputFolder, "write")}[broken], killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.write(new)
    for state in (old, new):
        found = checkpoint.read()
        assert found is not None
        assert (found.step, found.series, found.seconds) == (state.step, state.series, state.seconds)
        assert torch.equal(found.tensors["weights"], state.tensors["weights"])
        checkpoint.write(new)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_state_of_version_0_1_is_read(tmp_path: Path) -> None:
    run, _ = training(tmp_path)
    run.train()
    path = tmp_path / "checkpoint/state.json"
    path.write_text(path.read_text().replace('"series"', '"losses"'))
    other, _ = training(tmp_path)
    assert other.resume()
    assert other.losses == run.losses


@pytest.mark.parametrize("series", [None, [1.0], {"loss": 1.0}, {"loss": ["1"]}])
def test_a_state_without_series_is_damaged(tmp_path: Path, series: object) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    checkpoint.write(TrainingState(1, {"weights": torch.zeros(3)}))
    path = tmp_path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"series": series}))
    with pytest.raises(FreeUValueError, match=r"damaged .*delete it to begin anew"):
        checkpoint.read()


def test_a_state_whose_tensors_are_gone_is_damaged(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    checkpoint.write(TrainingState(1, {"weights": torch.zeros(3)}))
    (tmp_path / "step-000001.safetensors").unlink()
    with pytest.raises(FreeUValueError, match=r"damaged \(step-000001.safetensors is missing\)"):
        checkpoint.read()


def test_a_nested_setting_that_differs_is_named(tmp_path: Path) -> None:
    Checkpoint(tmp_path, {"unet": {"widths": (16, 32), "heads": 4}}).write(TrainingState(1, {"a": torch.zeros(1)}))
    with pytest.raises(FreeUValueError, match=r"\(unet: widths: \[16, 32\] there, \[16, 64\] now\)"):
        Checkpoint(tmp_path, {"unet": {"widths": (16, 64), "heads": 4}}).read()


def test_a_folder_that_cannot_be_written_is_told_without_an_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FreeURuntimeError, match=r"cannot write .*: name another folder"):
        Checkpoint(tmp_path / "file" / "checkpoint", {}).write(TrainingState(1, {"a": torch.zeros(1)}))


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    run, model = training(tmp_path)

    def spoil(step: int, losses: Mapping[str, float]) -> None:
        if step == 8:
            with torch.no_grad():
                model[0].weight.fill_(torch.nan)

    with pytest.raises(FreeURuntimeError, match=r"error loss is nan at step 8.*the checkpoint of step 5 is kept"):
        run.train(spoil)
    other, _ = training(tmp_path)
    other.resume()
    assert other.step == 5


def test_mean_losses() -> None:
    rows = mean_losses({"a": [1.0, 3.0, 5.0, 7.0, 9.0]}, points=3)
    assert rows == [{"step": 2, "a": 2.0}, {"step": 4, "a": 6.0}, {"step": 5, "a": 9.0}]
    assert mean_losses({}) == []

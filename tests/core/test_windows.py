"""Windows in time of b and of the skip: against settings that are changed by hand at every step."""

import pytest
import torch
from diffusers import DDIMScheduler
from tolerances import UNET, relative_error

import freeu
from conftest import tiny_inputs, tiny_unet
from freeu.config import FreeUConfig
from freeu.core.schedule import tensor_weights
from freeu.errors import FreeURuntimeError
from freeu.pipelines.runs.interval import acts, idle_windows

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
STEPS = 5


def latents(pipe, **others):
    return pipe(
        "a 3d fox on a blue background",
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        **others,
    ).images


@pytest.fixture
def pipe(mini):
    before = mini.pipe.scheduler
    mini.pipe.scheduler = DDIMScheduler.from_config(before.config)
    yield mini.pipe
    mini.pipe.scheduler = before


@pytest.mark.parametrize(
    "fields",
    [
        {"b_window": (0.0, 0.4), "s_window": (0.6, 1.0)},
        {"b_window": (0.3, 0.9), "ramp": 0.3, "skip_gain": 0.9, "dc": "keep", "start": 0.1, "end": 0.9},
        {"s_window": (0.0, 0.5), "skip_gain_ends": (0.7, 1.0), "high_gain": 1.05},
    ],
)
def test_a_pipeline_against_every_step_by_hand(pipe, fields):
    config = FreeUConfig(**FACTORS, **fields)
    with freeu.enabled(pipe, config) as handle:
        got = latents(pipe)
        handle.verify()

    def at(step):
        """The factors of one step, as a configuration without any time in it."""
        b, skip = config.weights(step / STEPS)

        def toward(values, weight):
            return tuple(1.0 + weight * (value - 1.0) for value in values)

        gain = {"skip_gain": toward([config.skip_gain], skip)[0]}
        if config.skip_gain_ends:
            gain = {"skip_gain_ends": toward(config.skip_gain_ends, skip)}
        return FreeUConfig(
            b=toward(config.b, b),
            s=toward(config.s, skip),
            high_gain=toward([config.high_gain], skip)[0],
            dc=config.dc,
            **gain,
        )

    with freeu.enabled(pipe, at(0)) as handle:

        def next_step(_pipe, step, _t, arguments):
            handle.update(at(step + 1))
            return arguments

        want = latents(pipe, callback_on_step_end=next_step)
    assert relative_error(got, want) <= 1e2 * UNET  # rounding of the factors, over the steps
    plain = latents(pipe)
    assert relative_error(got, plain) > 1e-3


@pytest.mark.parametrize("unit", ["fraction", "timestep"])
def test_outside_of_a_window_its_half_is_the_identity(unet, run, unit):
    start, end = {"fraction": (0.0, 0.3), "timestep": (1000, 700)}[unit]
    later = {"fraction": (0.3, 1.0), "timestep": (700, 1)}[unit]
    bounds = {"fraction": {}, "timestep": {"start": 1000, "end": 1}}[unit]
    with freeu.enabled(unet, **FACTORS, unit=unit, **bounds, b_window=(start, end), s_window=later):
        early, late = run(unet, 800), run(unet, 200)
    with freeu.enabled(unet, b=FACTORS["b"]):
        assert torch.equal(run(unet, 800), early)
    with freeu.enabled(unet, s=FACTORS["s"]):
        assert torch.equal(run(unet, 200), late)


def test_weights_as_tensors_are_those_of_numbers():
    config = FreeUConfig(**FACTORS, start=0.1, end=0.9, ramp=0.1, b_window=(0.0, 0.5), s_window=(0.4, 1.0))
    for place in range(21):
        position = torch.tensor(place / 20, dtype=torch.float64)
        got = [weight.item() for weight in tensor_weights(config.schedules, position)]
        assert got == pytest.approx(config.weights(place / 20))
    weights = tensor_weights(config.replace(b_window=(0, 1), s_window=(0, 1)).schedules, torch.tensor(0.5))
    assert weights.b is weights.skip


def test_verify_tells_which_window_no_step_fell_in(unet, run):
    with freeu.enabled(unet, **FACTORS, unit="timestep", start=1000, end=0, b_window=(900, 800)) as handle:
        run(unet, 500)
        with pytest.raises(FreeURuntimeError, match="no step of 1 call fell in b_window from 900 to 800"):
            handle.verify()
        run(unet, 850)
        assert set(handle.verify().values()) == {2}
    with freeu.enabled(unet, b=FACTORS["b"], s_window=(0.0, 0.1)) as handle:
        run(unet, 500)
        handle.verify()  # nothing of the skip was to act
    with freeu.enabled(unet, s=FACTORS["s"], s_window=(0.0, 0.1)) as handle:
        run(unet, 500)
        with pytest.raises(FreeURuntimeError, match=r"no step fell in the interval from 0 to 1 .* and s_window"):
            handle.verify()


def test_whether_a_step_falls_in():
    config = FreeUConfig(**FACTORS, b_window=(0.0, 0.4), s_window=(0.6, 0.7))
    assert acts(config, 4)
    assert idle_windows(config, 4) == ["s_window"]
    assert idle_windows(config, 10) == []
    assert idle_windows(config, 10, 0.5) == ["b_window"]
    assert not acts(config.replace(b=(1, 1)), 4)
    assert idle_windows(config.replace(s=(1, 1)), 4) == [], "nothing was to act there"
    assert idle_windows(config.replace(s=(1, 1), skip_gain=0.8), 4) == ["s_window"]
    assert idle_windows(config.replace(unit="timestep", start=900, end=0, b_window=(9, 8), s_window=(9, 8)), 4) == []


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_one_compiled_graph_serves_every_window_and_gain():
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    small = tiny_unet((8, 16), layers_per_block=1)
    sample, _, text = tiny_inputs()

    def call(model, t):
        with torch.no_grad():
            return model(sample, torch.tensor(t), text, return_dict=False)[0]

    fields = {**FACTORS, "b_window": (0.0, 0.5), "s_window": (0.3, 1.0), "skip_gain": 0.8, "dc": "keep"}
    changed = {"b": (1.1, 1.2), "s": (0.5, 0.4), "skip_gain": 0.6}
    times = (900, 600, 100)
    want = []
    for more in ({}, changed):
        with freeu.enabled(small, **{**fields, **more}):
            want.append([call(small, t) for t in times])
    counter = CompileCounterWithBackend("aot_eager")
    with freeu.enabled(small, **fields) as handle:
        compiled = torch.compile(small, backend=counter, fullgraph=True)
        for t, one in zip(times, want[0], strict=True):
            assert relative_error(call(compiled, t), one) <= UNET
        graphs = counter.frame_count
        handle.update(**changed)
        for t, one in zip(times, want[1], strict=True):
            assert relative_error(call(compiled, t), one) <= UNET
        assert counter.frame_count == graphs, "something was compiled again"
        handle.verify()
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_blocks_compiled_one_by_one():
    torch._dynamo.reset()
    small = tiny_unet((8, 16), layers_per_block=1)
    sample, _, text = tiny_inputs()
    fields = {**FACTORS, "b_window": (0.0, 0.5), "skip_gain": 0.8}
    with torch.no_grad(), freeu.enabled(small, **fields):
        want = [small(sample, torch.tensor(t), text).sample for t in (900, 100)]
        for block in small.up_blocks:
            block.compile(backend="eager")
        for t, one in zip((900, 100), want, strict=True):
            assert relative_error(small(sample, torch.tensor(t), text).sample, one) <= UNET
    torch._dynamo.reset()

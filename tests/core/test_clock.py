"""Which scheduler a schedule goes by when pipelines are copied, pickled, taken apart or collected."""

import copy
import gc
import pickle
import threading
import weakref

import pytest
import torch

import freeu
from conftest import tiny_unet
from freeu.errors import FreeURuntimeError

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}


class Pipeline:
    """What a pipeline is to FreeU: a U-Net, and a scheduler that is set when it is called."""

    def __init__(self, unet, scheduler):
        self.unet = unet
        self.scheduler = scheduler

    def __call__(self, steps=10, seed=0):
        self.scheduler.set_timesteps(steps)
        generator = torch.Generator().manual_seed(seed)
        x, text = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 5, 8, generator=generator)
        with torch.no_grad():
            for t in self.scheduler.timesteps:
                x = self.scheduler.step(self.unet(x, t, text).sample, t, x).prev_sample
        return x


def scheduler(**options):
    from diffusers import DDIMScheduler

    return DDIMScheduler(**options)


def pipeline(**options):
    """With ``steps_offset=1`` it runs at t = 901, 801 ..., where 1 - t / 1000 is not the share of the steps done."""
    return Pipeline(tiny_unet((8, 16), layers_per_block=1), scheduler(**options))


@pytest.fixture
def pipe():
    return pipeline(steps_offset=1)


UNITS = [{"end": 0.3}, {"start": 20.0, "end": 2.0, "unit": "sigma"}]


@pytest.mark.parametrize("when", UNITS)
@pytest.mark.parametrize("ran", [False, True])
def test_a_pipeline_made_of_the_same_components_goes_on(when, ran):
    pipe = pipeline(steps_offset=1)
    with freeu.enabled(pipe, **FACTORS, **when):
        want = pipe()
    plain = pipe()
    freeu.apply(pipe, **FACTORS, **when)
    if ran:
        pipe(7)
    other = Pipeline(pipe.unet, pipe.scheduler)
    alive = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert alive() is None
    assert torch.equal(other(), want)
    freeu.remove_all(other)
    assert torch.equal(other(), plain)


@pytest.mark.parametrize("when", UNITS)
def test_a_pickled_pipeline_goes_on(pipe, when):
    freeu.apply(pipe, **FACTORS, **when)
    want = pipe()
    other = pickle.loads(pickle.dumps(pipe))
    assert torch.equal(other(), want)
    other.scheduler.set_timesteps(3)
    assert torch.equal(other(), want)
    freeu.remove_all(other)
    freeu.remove_all(pipe)
    assert torch.equal(other(), pipe())


@pytest.mark.parametrize("when", UNITS)
def test_a_copied_pipeline_goes_on_by_itself(when):
    pipe = pipeline(steps_offset=1)
    freeu.apply(pipe, **FACTORS, **when)
    want = pipe()
    twin = copy.deepcopy(pipe)
    pipe.scheduler.set_timesteps(3)
    assert torch.equal(twin(), want)
    alive = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert alive() is None
    assert torch.equal(twin(), want)


def test_an_exchanged_scheduler_is_seen_and_kept():
    pipe = pipeline(steps_offset=1)
    freeu.apply(pipe, **FACTORS, end=0.3)
    want = pipe()
    freeu.remove_all(pipe)
    pipe.scheduler, exchanged = scheduler(), pipe.scheduler
    freeu.apply(pipe, **FACTORS, end=0.3)
    pipe()
    pipe.scheduler = exchanged
    assert torch.equal(pipe(), want)
    other = Pipeline(pipe.unet, exchanged)
    alive = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert alive() is None
    assert torch.equal(other(), want)


def test_another_scheduler_is_refused():
    pipe = pipeline(steps_offset=1)
    freeu.apply(pipe, **FACTORS, end=0.3)
    other = Pipeline(pipe.unet, scheduler(timestep_spacing="trailing"))
    with pytest.raises(FreeURuntimeError, match="apply FreeU to the pipeline that runs"):
        other()  # that of the pipeline has not been set
    pipe()
    with pytest.raises(FreeURuntimeError, match="timestep 999 is none of the timesteps of the DDIMScheduler"):
        other()
    alive = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert alive() is None
    with pytest.raises(FreeURuntimeError, match="timestep 999 is none of the timesteps of the DDIMScheduler"):
        other()


def test_a_copy_without_its_pipeline_is_refused():
    pipe = pipeline(steps_offset=1)
    freeu.apply(pipe, **FACTORS, end=0.3)
    unet = pipe.unet
    alive = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert alive() is None
    twin = copy.deepcopy(unet)
    with pytest.raises(FreeURuntimeError, match="the pipeline that FreeU was applied to is gone"):
        twin(torch.randn(1, 4, 8, 8), 901, torch.randn(1, 5, 8))
    freeu.remove_all(twin)
    twin(torch.randn(1, 4, 8, 8), 901, torch.randn(1, 5, 8))


class Bare:
    """Something that has a U-Net and no scheduler, and that nothing can refer to weakly."""

    __slots__ = ("unet",)

    def __init__(self, unet):
        self.unet = unet


@pytest.mark.parametrize("when", UNITS)
def test_a_scheduler_that_is_given_counts(pipe, when):
    with freeu.enabled(pipe, **FACTORS, **when):
        want = pipe()
    for model in (pipe.unet, Bare(pipe.unet), Pipeline(pipe.unet, scheduler(num_train_timesteps=10))):
        with freeu.enabled(model, **FACTORS, **when, scheduler=pipe.scheduler):
            assert torch.equal(pipe(), want)


def test_half_precision_timesteps_are_known(pipe):
    freeu.apply(pipe, **FACTORS, end=0.3)
    pipe()
    for t in pipe.scheduler.timesteps:
        for dtype in (torch.float16, torch.bfloat16):
            with torch.no_grad():
                pipe.unet(torch.randn(1, 4, 8, 8), t.to(dtype), torch.randn(1, 5, 8))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_compiled_code_refuses_another_scheduler_too(pipe):
    pipe.scheduler.set_timesteps(10)
    inputs = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 8)
    torch._dynamo.reset()
    with freeu.enabled(pipe, **FACTORS, end=0.3), torch.no_grad():
        compiled = torch.compile(pipe.unet, backend="aot_eager", fullgraph=True)
        compiled(inputs[0], torch.tensor(901), inputs[1])
        with pytest.raises(RuntimeError, match="none of the timesteps"):
            compiled(inputs[0], torch.tensor(950), inputs[1])
    torch._dynamo.reset()


def test_pipelines_in_two_threads_over_one_unet(pipe):
    """As in from_pipe with a scheduler of its own for each: call states and positions do not mix."""
    freeu.apply(pipe, **FACTORS, end=0.5)
    want = [pipe(seed=seed) for seed in range(2)]
    other = Pipeline(pipe.unet, scheduler(steps_offset=1))
    got = {}

    def work(which, seed):
        got[seed] = [which(seed=seed) for _ in range(6)]

    threads = [threading.Thread(target=work, args=pair) for pair in ((pipe, 0), (other, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(2):
        assert all(torch.equal(image, want[seed]) for image in got[seed])

"""Random sequences of everything that can happen to a handle, against a model that was never touched.

After every step the U-Net gives, bit for bit, what a fresh one with the same configuration gives, or refuses with a
``FreeUError`` what cannot be known. ``FREEU_STATES=8 pytest tests/core/test_handle_states.py`` runs 8 seeds at length.
"""

import contextlib
import copy
import functools
import gc
import os
import pickle
import threading
import weakref

import pytest
import torch
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import freeu
from conftest import tiny_unet
from freeu.errors import FreeURuntimeError

FACTORS = {"b": (1.3, 1.4), "s": (0.9, 0.2)}
CONFIGS = (
    FACTORS,
    {"b": (1.1, 1.2), "version": 1},
    {"b": (1.0, 1.0)},
    {"b": {"up_blocks.1.resnets.1": 1.5}},
    {**FACTORS, "end": 0.5},
    {**FACTORS, "start": 0.3, "ramp": 0.2},
    {**FACTORS, "start": 700, "end": 300, "unit": "timestep"},
    {**FACTORS, "start": 20, "end": 2, "unit": "sigma"},
    {**FACTORS, "control": "before"},
)
BY_SCHEDULER = (4, 5, 7)
configs = st.integers(0, len(CONFIGS) - 1)
modes = st.sampled_from([contextlib.nullcontext, torch.no_grad, torch.inference_mode])
steps = st.integers(0, 9)


class Pipeline:
    def __init__(self, unet, scheduler):
        self.unet = unet
        self.scheduler = scheduler


def new_pipeline():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(steps_offset=1)
    scheduler.set_timesteps(10)
    return Pipeline(tiny_unet((8, 16), layers_per_block=1), scheduler)


@functools.cache
def inputs():
    generator = torch.Generator().manual_seed(3)
    down = [
        torch.randn(shape, generator=generator) for shape in ((2, 8, 8, 8), (2, 8, 8, 8), (2, 8, 4, 4), (2, 16, 4, 4))
    ]
    return torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 8, generator=generator), down


def call(pipe, step):
    sample, text, down = inputs()
    frozen = any(parameter.is_inference() for parameter in pipe.unet.parameters())
    with torch.inference_mode() if frozen else torch.no_grad():
        return pipe.unet(
            sample,
            pipe.scheduler.timesteps[step],
            text,
            down_block_additional_residuals=list(down),
            mid_block_additional_residual=torch.zeros(()),
        ).sample.clone()


@functools.cache
def wanted(config, step):
    """Of a fresh model; ``config`` None is without FreeU."""
    pipe = new_pipeline()
    with contextlib.nullcontext() if config is None else freeu.enabled(pipe, **CONFIGS[config]):
        return call(pipe, step)


def in_thread(function):
    found = []

    def work():
        try:
            found.append(function())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


class Live:
    """What is to be true of a handle."""

    def __init__(self, handle, config, block=False):
        self.handle, self.config, self.block = handle, config, block
        self.lost = self.forgotten = False


class Handles(RuleBasedStateMachine):
    made = 0  # steps, of all runs

    def __init__(self):
        super().__init__()
        self.pipe = new_pipeline()
        self.live = []
        self.removed = []
        self.step = 0

    def drop(self, count):
        """The innermost handles are gone."""
        self.removed = [one.handle for one in self.live[len(self.live) - count :]]
        del self.live[len(self.live) - count :]

    # -- handles come, change and go

    @precondition(lambda self: len(self.live) < 4)
    @rule(config=configs, mode=modes, block=st.booleans())
    def apply(self, config, mode, block):
        with mode():
            handle = (freeu.enabled if block else freeu.apply)(self.pipe, **CONFIGS[config])
            if block:
                handle.__enter__()
        self.live.append(Live(handle, config, block))

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 3), config=configs, mode=modes)
    def update(self, which, config, mode):
        one = self.live[which % len(self.live)]
        refused = one.forgotten and CONFIGS[config].get("unit") == "sigma"
        with mode(), pytest.raises(FreeURuntimeError) if refused else contextlib.nullcontext():
            one.handle.update(freeu.FreeUConfig(**CONFIGS[config]))
            one.config = config

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 3), mode=modes)
    def remove(self, which, mode):
        one = self.live[which % len(self.live)]
        with mode():
            if one is self.live[-1]:
                one.handle.remove()
                self.drop(1)
            else:
                with pytest.raises(FreeURuntimeError, match="last in, first out"):
                    one.handle.remove()

    @precondition(lambda self: any(one.block for one in self.live))
    @rule(which=st.integers(0, 3), mode=modes, fails=st.booleans())
    def end_block(self, which, mode, fails):
        blocks = [one for one in self.live if one.block]
        one = blocks[which % len(blocks)]
        inner = self.live[::-1].index(one)
        error = (ZeroDivisionError, ZeroDivisionError(), None) if fails else (None, None, None)
        refused = inner and not fails
        with mode(), pytest.raises(FreeURuntimeError) if refused else contextlib.nullcontext():
            one.handle.__exit__(*error)
        self.drop(inner + 1)

    @rule(outer=configs, inner=configs, mode=modes)
    def fail_in_a_block(self, outer, inner, mode):
        def fail():
            with freeu.enabled(self.pipe, **CONFIGS[outer]):
                freeu.apply(self.pipe, **CONFIGS[inner])
                raise ZeroDivisionError

        with mode(), pytest.raises(ZeroDivisionError):
            fail()

    @rule(mode=modes)
    def remove_all(self, mode):
        with mode():
            freeu.remove_all(self.pipe)
        self.drop(len(self.live))

    @precondition(lambda self: self.removed)
    @rule(config=configs)
    def use_a_removed_one(self, config):
        for handle in self.removed:
            handle.remove()
            with pytest.raises(FreeURuntimeError, match="was removed"):
                handle.__enter__()
            with pytest.raises(FreeURuntimeError, match="was removed"):
                handle.update(freeu.FreeUConfig(**CONFIGS[config]))

    @precondition(lambda self: self.live)
    @rule()
    def wrong_values_change_nothing(self):
        handle = self.live[-1].handle
        for changes in ({"strength": 2.0}, {"b": {"nowhere": 1.2}}):
            with pytest.raises(freeu.FreeUValueError):
                handle.update(**changes)
            with pytest.raises(freeu.FreeUValueError):
                freeu.apply(self.pipe, **{**FACTORS, **changes})

    # -- the model and its pipeline are copied, moved, called

    @rule(way=st.sampled_from(["copy", "pickle"]), mode=modes)
    def go_on_with_a_copy(self, way, mode):
        with mode():
            twin = copy.deepcopy(self.pipe) if way == "copy" else pickle.loads(pickle.dumps(self.pipe))
        freeu.remove_all(self.pipe)
        assert torch.equal(call(self.pipe, self.step), wanted(None, self.step))
        self.pipe = twin
        for one, handle in zip(self.live, freeu.active(twin), strict=True):
            one.handle, one.block = handle, False
            one.forgotten = one.forgotten or (way == "copy" and one.lost)
            one.lost = one.lost or way == "pickle"

    @rule()
    def collect_the_pipeline(self):
        alive = weakref.ref(self.pipe)
        self.pipe = Pipeline(self.pipe.unet, self.pipe.scheduler)
        gc.collect()  # an error that a thread handed over holds the frames it came through, and they hold the error
        assert alive() is None
        for one in self.live:
            one.lost = True

    @rule(step=steps)
    def call_from_another_thread(self, step):
        self.check(step, lambda: in_thread(lambda: call(self.pipe, step)))

    @rule(config=configs)
    def block_of_another_thread(self, config):
        def block():
            with freeu.enabled(self.pipe, **CONFIGS[config]):
                return call(self.pipe, self.step)

        got = in_thread(block)
        if any(one.block for one in self.live):
            assert isinstance(got, FreeURuntimeError)
            assert "another thread" in str(got)
        else:
            assert torch.equal(got, wanted(config, self.step))

    @rule(step=steps)
    def a_call_within_a_call(self, step):
        """Another thread's, at another step."""
        others, begun = [], []

        def interfere(_module, _args):
            if not begun:  # not in the other call too
                begun.append(True)
                others.append(in_thread(lambda: call(self.pipe, step)))

        hook = self.pipe.unet.mid_block.register_forward_pre_hook(interfere)
        try:
            self.agree()
        finally:
            hook.remove()
        if others:
            self.check(step, lambda: others[0])

    @rule(step=steps)
    def fail_in_a_call(self, step):
        def fail(_module, _args):
            raise ZeroDivisionError

        hook = self.pipe.unet.up_blocks[1].register_forward_pre_hook(fail)
        with pytest.raises((ZeroDivisionError, FreeURuntimeError)):
            call(self.pipe, step)
        hook.remove()

    @rule(step=steps)
    def go_to(self, step):
        self.step = step

    def check(self, step, run):
        """What a run at a step gives, or raises."""
        top = self.live[-1] if self.live else None
        if top is not None and top.forgotten and top.config in BY_SCHEDULER:
            try:
                got = run()
            except FreeURuntimeError as error:
                got = error
            assert isinstance(got, FreeURuntimeError)
            assert "is gone" in str(got)
            return
        got = run()
        assert torch.equal(got, wanted(top.config if top else None, step)), got

    @invariant()
    def agree(self):
        Handles.made += 1
        assert freeu.active(self.pipe) == tuple(one.handle for one in self.live)
        self.check(self.step, lambda: call(self.pipe, self.step))

    def teardown(self):
        freeu.remove_all(self.pipe)
        assert torch.equal(call(self.pipe, 3), wanted(None, 3))
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in self.pipe.unet.modules())


QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def test_any_sequence():
    run_state_machine_as_test(
        Handles, settings=settings(max_examples=5, stateful_step_count=14, derandomize=True, **QUIET)
    )


@pytest.mark.skipif("FREEU_STATES" not in os.environ, reason="long: set FREEU_STATES to a number of seeds")
@pytest.mark.parametrize("number", range(int(os.environ.get("FREEU_STATES", 1))))
def test_long_sequences(number):
    class Seeded(Handles):
        pass

    before = Handles.made
    run_state_machine_as_test(seed(number)(Seeded), settings=settings(max_examples=14, stateful_step_count=50, **QUIET))
    print(f"seed {number}: {Handles.made - before} steps")

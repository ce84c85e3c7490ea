"""Validate FreeU on the user's model and machine: sites, parity on real features, bit-identical removal, overhead.

Nobody can try every model; whoever owns one can run this in one command and pass the report on.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUError, FreeURuntimeError
from freeu.pipelines.models.loading import Loaded
from freeu.profiles import PROFILES
from freeu.schedule import NO_WINDOW
from freeu.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

    from freeu.core.site import Site
    from freeu.schedule import Stage

# Largest error at a site, relative to the largest value there, against the published form in float64: rounding of
# float32 sums, and half a unit in the last place of the half-precision formats (with headroom for a second rounding).
TOLERANCES = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}
# The overhead fails only if both measures show it: the hooks alone take more than this share of a step, and the whole
# step is slower than this ratio with a confidence of 97.5 %. Either alone can be fooled: on an accelerator the first
# counts launches that hide behind the model's own work, and on a busy machine the second is mostly noise.
MAX_SHARE = 0.015
MAX_RATIO = 1.03
TIME_LIMIT = 300.0  # seconds that the timing may take; slow models are timed in fewer pairs


@dataclass(frozen=True)
class Verdict:
    """One checked property: what was found, in words and as data."""

    name: str
    passed: bool
    text: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One call of the U-Net during real denoising: its arguments, copied."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    number: int
    of: int


class _CapturedError(Exception):
    """Ends a pipeline call as soon as the wanted step was seen."""


def check_model(
    loaded: Loaded, config: FreeUConfig, prompt: str, pairs: int, report: Callable[[Verdict], None]
) -> tuple[Step, list[Verdict]]:
    """Run every check.

    Args:
        loaded: a text-to-image pipeline.
        config: what to check; its schedule, and what it does to the rows of guidance, are left aside.
        prompt: for the denoising run whose features are used.
        pairs: timed pairs of steps, fewer if they would take more than five minutes.
        report: told each verdict as it falls.

    Returns:
        the captured step and all verdicts. A check that raises counts as failed.
    """
    import torch

    from freeu.adapters.finding import unet_of

    unet = unet_of(loaded.pipe)
    config = config.replace(
        start=0.0,
        end=1.0,
        ramp=0.0,
        unit="fraction",
        b_window=NO_WINDOW,
        s_window=NO_WINDOW,
        share="none",
        guidance="both",
    )
    step = capture_step(loaded, prompt)
    verdicts: list[Verdict] = []

    def run(name: str, check: Callable[[], Verdict]) -> None:
        try:
            verdict = check()
        except (FreeUError, RuntimeError) as error:
            verdict = Verdict(name, False, " ".join(f"{type(error).__name__}: {error}".split()))
        verdicts.append(verdict)
        report(verdict)

    with torch.no_grad():
        run("sites", lambda: check_sites(unet, config))
        run("parity", lambda: check_parity(unet, config, step))
        run("restore", lambda: check_restore(unet, config, step))
        run("overhead", lambda: check_overhead(unet, config, step, pairs))
    return step, verdicts


def capture_step(loaded: Loaded, prompt: str, steps: int = 4) -> Step:
    """Run the pipeline up to the middle of a short denoising and copy what its U-Net is called with."""
    import torch

    from freeu.adapters.finding import unet_of
    from freeu.pipelines.models.schedulers import fresh_scheduler

    pipe = loaded.pipe
    calls = 0
    caught: list[Step] = []

    def watch(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        if calls > steps // 2:
            caught.append(Step(_copied(args), _copied(kwargs), calls, steps))
            raise _CapturedError

    fresh_scheduler(pipe)
    known = inspect.signature(pipe.__call__).parameters
    arguments = {"guidance_scale": loaded.guidance, "generator": torch.Generator("cpu").manual_seed(0)}
    hook = unet_of(pipe).register_forward_pre_hook(watch, with_kwargs=True)
    try:
        with contextlib.suppress(_CapturedError):
            pipe(prompt, num_inference_steps=steps, **{n: v for n, v in arguments.items() if n in known})
    finally:
        hook.remove()
    if not caught:
        raise FreeURuntimeError(
            f"{loaded.source.label} called its U-Net {calls} times in {steps} steps: cannot check it"
        )
    return caught[0]


def _copied(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value


def _forward(unet: Any, step: Step) -> Tensor:
    output = unet(*step.args, **step.kwargs)
    tensor: Tensor = output[0] if isinstance(output, tuple) else output.sample
    return tensor


def check_sites(unet: Any, config: FreeUConfig) -> Verdict:
    """The concatenations of the decoder, and how many each profile touches."""
    import freeu

    found = freeu.inspect(unet)
    counts = {name: len(found.touched(config=config.replace(profile=name))) for name in PROFILES}
    touched = found.touched(config=config)
    rows = [
        {
            "path": site.path,
            "block": site.block_type,
            "backbone_channels": site.backbone_channels,
            "skip_channels": site.skip_channels,
            "stage": site.stage_in(config.profile),
            "touched": site in touched,
        }
        for site in found.sites
    ]
    text = f"{len(found.sites)} concatenations; touched: " + ", ".join(f"{n} {c}" for n, c in counts.items())
    return Verdict("sites", bool(touched), text, {"sites": rows, "touched": counts})


def check_parity(unet: Any, config: FreeUConfig, step: Step) -> Verdict:
    """At every touched site, what the model receives against the published form of what was concatenated there."""
    import freeu
    from freeu.core.site import factors_at

    found = freeu.inspect(unet)
    errors: dict[str, float] = {}
    before: dict[str, Tensor] = {}
    with freeu.enabled(unet, config) as handle, contextlib.ExitStack() as stack:
        gains = {site.path: at for site, at in zip(found.sites, factors_at(found.sites, config), strict=True)}
        for site in handle.sites:

            def keep(_module: Any, args: tuple[Any, ...], site: Site = site) -> None:
                before[site.path] = args[0].detach().cpu().double()

            def compare(_module: Any, args: tuple[Any, ...], site: Site = site) -> None:
                expected = _published(site, before.pop(site.path), config, *gains[site.path])
                error = (args[0].detach().cpu().double() - expected).abs().max() / expected.abs().max()
                errors[site.path] = float(error)

            stack.callback(site.module.register_forward_pre_hook(keep, prepend=True).remove)
            stack.callback(site.module.register_forward_pre_hook(compare).remove)
        _forward(unet, step)
        handle.verify()
        dtype = str(next(unet.parameters()).dtype).removeprefix("torch.")
        expected_sites = len(handle.sites)
    worst = max(errors.values(), default=float("nan"))
    limit = TOLERANCES[dtype]
    passed = len(errors) == expected_sites and worst <= limit
    text = f"{len(errors)} of {counted(expected_sites, 'site')}, worst relative error {worst:.1e} "
    text += f"(limit {limit:.0e} in {dtype})"
    return Verdict("parity", passed, text, {"errors": errors, "worst": worst, "limit": limit, "dtype": dtype})


def _published(site: Site, x: Tensor, config: FreeUConfig, factors: Stage, high_gain: float) -> Tensor:
    """The published form of one site's concatenated features, in the arithmetic of ``x``."""
    import torch

    from freeu.ops import reference

    assert config.channels is not None, "a checked configuration names its channels"
    h, skip = site.split(x)
    h = reference.scale_backbone(h, factors.b, config.version, config.channels)
    skip = reference.filter_skip(skip, factors.s, config.threshold, config.mask, high_gain, config.dc) * factors.g
    return torch.cat([h, skip], dim=1)


def check_restore(unet: Any, config: FreeUConfig, step: Step) -> Verdict:
    """The U-Net's output after ``remove`` is bit-identical to that before ``apply``, and differs in between."""
    import torch

    import freeu

    first, again = _forward(unet, step), _forward(unet, step)
    handle = freeu.apply(unet, config)
    try:
        during = _forward(unet, step)
        handle.verify()
    finally:
        handle.remove()
    after = _forward(unet, step)
    steady = torch.equal(first, again)
    equal = torch.equal(first, after)
    change = float((during.double() - first.double()).norm() / first.double().norm())
    data = {"restored": equal, "deterministic": steady, "relative_change": change}
    if not steady:
        spread = float((again.double() - first.double()).abs().max())
        off = float((after.double() - first.double()).abs().max())
        text = f"the model itself differs from call to call here (by {spread:.1e}); after removal by {off:.1e}"
        return Verdict("restore", off <= 2 * spread and change > 0.0, text, data)
    words = "bit-identical after removal" if equal else "NOT equal after removal"
    text = f"{words}; FreeU changed the step's output by {change:.1%}"
    return Verdict("restore", equal and change > 0.0, text, data)


def check_overhead(unet: Any, config: FreeUConfig, step: Step, pairs: int) -> Verdict:
    """Time of a step with FreeU over one without (interleaved pairs), and of the hooks alone over a step."""
    import freeu

    device = next(unet.parameters()).device
    _forward(unet, step)  # warm
    plain = _seconds(lambda: _forward(unet, step), device)
    pairs = max(3, min(pairs, int(TIME_LIMIT / (2.5 * max(plain, 1e-6)))))

    clock = _Clock(device)
    without: list[float] = []
    with_it: list[float] = []
    steps: list[float] = []
    hooks: dict[str, list[float]] = {}
    shares: list[float] = []
    total = 0.0
    for number in range(pairs):
        for kind in ("with", "without") if number % 2 else ("without", "with"):
            if kind == "without":
                without.append(_seconds(lambda: _forward(unet, step), device))
                continue
            with freeu.enabled(unet, config):
                with_it.append(_seconds(lambda: _forward(unet, step), device))
        with freeu.enabled(unet, config) as handle, _hook_clock(handle.sites, clock, hooks):
            began = clock()
            _forward(unet, step)
            steps.append(clock() - began)
        spent = sum(map(sum, hooks.values())) - total
        total += spent
        shares.append(spent / (steps[-1] - spent))

    ratios = [a / b for a, b in zip(with_it, without, strict=True)]
    low, high = bootstrap_interval(ratios)
    least, most = bootstrap_interval(shares)
    covers = coverage(pairs)
    sites = len(hooks)
    alone = sum(map(statistics.median, hooks.values()))
    share = alone / (statistics.median(steps) - alone)
    each = alone / max(sites, 1) / clock.threads
    text = (
        f"hooks alone {share:.2%} [{least:.2%}, {most:.2%}] of a step ({each * 1e6:.0f} us at each of {sites} sites), "
        f"whole step with over without {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}] in {pairs} pairs, whose "
        f"intervals cover {covers:.0%}; fails above both {MAX_SHARE:.1%} and {MAX_RATIO:g}"
    )
    data = {
        "pairs": pairs,
        "ratio": statistics.median(ratios),
        "ratio_interval_95": [low, high],
        "hooks_share": share,
        "hooks_share_interval": [least, most],
        "interval_coverage": covers,
        "hooks_clock": clock.name,
        "hooks_seconds": alone,
        "step_seconds": statistics.median(without),
        "seconds_without": without,
        "seconds_with": with_it,
    }
    return Verdict("overhead", share <= MAX_SHARE or low <= MAX_RATIO, text, data)


class _Clock:
    """Seconds that other programs cannot stretch: of the processor, all threads together; on an accelerator, wall.

    Args:
        device: where the model runs.

    Attributes:
        name: what is counted.
        threads: by how many the seconds of one thread are multiplied (idle threads of torch spin).
    """

    def __init__(self, device: Any) -> None:
        import torch

        self.device = device
        self.read = time.process_time if device.type == "cpu" else time.perf_counter
        self.name = "processor time" if device.type == "cpu" else "wall time"
        self.threads = torch.get_num_threads() if device.type == "cpu" else 1

    def __call__(self) -> float:
        _wait(self.device)
        return self.read()


@contextlib.contextmanager
def _hook_clock(sites: tuple[Site, ...], clock: _Clock, spent: dict[str, list[float]]) -> Iterator[None]:
    """Add the seconds between entering FreeU's hook of each site and leaving it to ``spent``, by the site's path."""
    began = 0.0

    def enter(_module: Any, _args: Any) -> None:
        nonlocal began
        began = clock()

    with contextlib.ExitStack() as stack:
        for site in sites:

            def leave(_module: Any, _args: Any, path: str = site.path) -> None:
                spent.setdefault(path, []).append(clock() - began)

            stack.callback(site.module.register_forward_pre_hook(enter, prepend=True).remove)
            stack.callback(site.module.register_forward_pre_hook(leave).remove)
        yield


def _seconds(act: Callable[[], Any], device: Any) -> float:
    _wait(device)
    began = time.perf_counter()
    act()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: Any) -> None:
    """Wait for the accelerator; a processor has nothing to wait for."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def coverage(count: int, level: float = 0.95) -> float:
    """How often an interval of ``bootstrap_interval`` covers the median.

    The range of n values misses it only if all lie on one side: with a chance of 2^(1 - n), so 95 % takes 6 of them.

    >>> coverage(3), coverage(20)
    (0.75, 0.95)
    """
    return min(level, 1.0 - 2.0 ** (1 - count))


def bootstrap_interval(
    values: list[float], draws: int = 2_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the median; of few values from the smallest to the largest (see ``coverage``).

    Args:
        values: at least one.
        draws: resamples.
        level: coverage.
        seed: of the resampling, so that the same values give the same interval.
    """
    if coverage(len(values), level) < level:
        return min(values), max(values)
    generator = random.Random(seed)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(draws))
    tail = (1.0 - level) / 2.0
    return medians[int(tail * draws)], medians[min(draws - 1, int((1.0 - tail) * draws))]

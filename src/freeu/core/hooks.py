"""The hooks that FreeU consists of: one at each site, one at the U-Net that reads the timestep.

No forward of a host is copied: a forward-pre-hook on the module behind each concatenation changes the two slices of its
input and lets it run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from freeu.config import FreeUConfig
from freeu.core.calls import Call, Calls, Weights, factors_tensor, permanent, writable
from freeu.core.guidance import kind_of, layout_of, needs_rows
from freeu.core.schedule import Clock, one_timestep, tensor_weights
from freeu.core.site import Site
from freeu.errors import FreeURuntimeError
from freeu.ops._checks import exporting, recording, untraced
from freeu.ops._over_time import frame_weights
from freeu.ops.backbone import scale_backbone
from freeu.ops.skip import filter_skip
from freeu.schedule import Stage

Residuals = Callable[[tuple[Any, ...], dict[str, Any]], Sequence[Tensor]]
"""Finds, in the arguments of a call, what a ControlNet adds to the encoder's outputs, in the encoder's order."""


def no_residuals(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Sequence[Tensor]:
    """Of U-Nets that no ControlNet adds to."""
    return ()


class Host:
    """What an adapter knows about calls of its family; the defaults fit U-Nets called as (sample, timestep, ...).

    Attributes:
        continuous: whether timesteps are not steps of a schedule but a function of the noise level.
        stacked: whether the two halves of classifier-free guidance come in one batch.
        centred: whether the backbone's mean over channels is 0 at every site, so that there is no structure map.
    """

    continuous = False
    stacked = True
    centred = False

    def sample(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The noisy input, shape (B, ...)."""
        value: Tensor = args[0] if args else kwargs["sample"]
        return value

    def timestep(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The timestep argument: a number or a tensor, or None if there is none."""
        return args[1] if len(args) > 1 else kwargs.get("timestep")

    def frames(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Frames of each video in the batch, which the sites see as samples in a row; 1 for still images."""
        return 1

    def residuals(self, model: nn.Module) -> Residuals:
        """How to find a ControlNet's residuals in calls of this U-Net."""
        return no_residuals

    def conflict(self, model: nn.Module) -> str | None:
        """A message if something else already applies FreeU to the model."""
        return None


class Gains(NamedTuple):
    """Factors of one site in one call: of the backbone, of the skip's low band, of the rest of the skip. Those of the
    skip have the gain of the whole skip in them."""

    b: float | Tensor
    s: float | Tensor
    high: float | Tensor


class Counts(NamedTuple):
    """How often a site was reached, how often it was changed there, and of these the backbone and the skip."""

    reached: int
    changes: int
    b: int
    skip: int


class SiteHook:
    """Forward-pre-hook of one site."""

    def __init__(self, site: Site, calls: Calls, device: torch.device) -> None:
        self.site = site
        self.calls = calls
        self._eager = [0, 0, 0, 0]
        # The same of compiled code.
        self.counts = permanent(lambda: torch.zeros(4, dtype=torch.int64, device=device))
        self.factors_tensor = factors_tensor(device)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(writable(state))

    def set(self, config: FreeUConfig, stage: Stage, high_gain: float) -> None:
        self.config = config
        self.stage = stage
        self.high_gain = high_gain
        self.factors_tensor.copy_(
            torch.tensor([stage.b, stage.s, high_gain, stage.g], dtype=torch.float32, device="cpu")
        )

    @property
    def counted(self) -> Counts:
        """What happened at the site so far."""
        return Counts(*map(sum, zip(self._eager, self.counts.tolist(), strict=True)))

    def _count(self, b: bool, skip: bool) -> None:
        for place, happened in enumerate((True, b or skip, b, skip)):
            self._eager[place] += happened

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        # Maps of one dimension, (B, C, L), are planes of one row.
        x = args[0].unsqueeze(2) if args[0].dim() == 3 else args[0]
        recorded = recording()
        call = self.calls.traced if recorded else self.calls.current()
        gains = self._compiled_gains(x.device, call) if recorded and not exporting() else self._gains(call)
        if gains is None:
            return None
        # The concatenated tensor is fresh and private, so in inference its slices are changed where they lie.
        inplace = not recorded and not torch.is_grad_enabled() and not x.requires_grad
        residual = self._residual(x, call) if recorded or gains.s != 1.0 or gains.high != 1.0 else None
        if self.config.guidance == "conditional" and call.layout is not None:
            rows = call.layout.conditional(untraced(x.shape[0]))
            within = None if residual is None else residual[rows]
            changed = self._change(x[rows], call, within, gains, inplace)
            changed = changed if inplace else _with_rows(x, rows, changed)
        else:
            changed = self._change(x, call, residual, gains, inplace)
        return None if inplace else (changed.view(args[0].shape), *args[1:])

    def _gains(self, call: Call) -> Gains | None:
        """Those of this call as numbers (of a schedule that is exported, as tensors); None where they are
        all 1 and there is nothing to do."""
        weight, skip_weight = call.weights
        if isinstance(weight, Tensor) or isinstance(skip_weight, Tensor):
            self._count(True, True)
            b = 1.0 + weight * (self.stage.b - 1.0)
            s, high = (1.0 + skip_weight * (factor - 1.0) for factor in (self.stage.s, self.high_gain))
            if self.stage.g != 1.0:
                g = 1.0 + skip_weight * (self.stage.g - 1.0)
                s, high = s * g, high * g
            return Gains(b, s, high)
        stage = self.stage.toward_identity(weight, skip_weight)
        high = 1.0 + skip_weight * (self.high_gain - 1.0)
        idle = self._weightless(call)
        b, skip = stage.b != 1.0 and not idle, not (stage.s == stage.g == high == 1.0 or idle)
        self._count(b, skip)
        if not (b or skip):
            return None
        return Gains(stage.b, stage.s * stage.g, high * stage.g)

    def _weightless(self, call: Call) -> bool:
        """Whether every frame of the video has strength 0."""
        strengths = self.config.frame_strength
        return call.frames > 1 and bool(strengths) and not any(strengths)

    def _compiled_gains(self, device: torch.device, call: Call) -> Gains:
        """Those of every call of compiled code, as tensors that it reads anew each time."""
        self.calls.compiled = True
        gains = 1.0 + self.calls.weights_tensor.to(device) * (self.factors_tensor.to(device) - 1.0)
        acts = (gains != 1.0) & (not self._weightless(call))
        happened = [torch.ones_like(acts[0]), acts.any(), acts[0], acts[1:].any()]
        self.counts.add_(torch.stack(happened).to(self.counts.device))
        b, s, high, g = gains.unbind()
        return Gains(b, s * g, high * g)

    def _residual(self, x: Tensor, call: Call) -> Tensor | None:
        """What was added to this site's skip and is not to be filtered, in the skip's shape."""
        number = self.site.skip_number
        if number is None or not call.residuals:
            return None
        residual = call.residuals[-1 - number].to(x.dtype)
        return residual.expand(x.shape[0], self.site.skip_channels, *x.shape[2:])

    def _change(self, x: Tensor, call: Call, residual: Tensor | None, gains: Gains, inplace: bool) -> Tensor:
        """The concatenated features as FreeU leaves them; with ``inplace`` that is ``x``, changed."""
        if self.config.frame_strength and call.frames > 1:
            changed = self._weaken_by_frame(x, call, self._transform(x, call, residual, gains, False))
            return x.copy_(changed) if inplace else changed
        return self._transform(x, call, residual, gains, inplace)

    def _transform(self, x: Tensor, call: Call, residual: Tensor | None, gains: Gains, inplace: bool) -> Tensor:
        """Both operators, each on its part of the concatenation."""
        h, skip = self.site.split(x)
        h = self._scale(h, call, gains.b, inplace)
        skip = self._filter(skip, call, gains.s, gains.high, inplace)
        if residual is not None:
            skip = self._restore(skip, call, residual, gains, inplace)
        return x if inplace else self.site.join(h, skip)

    def _scale(self, h: Tensor, call: Call, b: float | Tensor, inplace: bool) -> Tensor:
        """The backbone, amplified."""
        config, frames = self.config, call.frames
        assert config.channels is not None, "a checked configuration names its channels"
        return scale_backbone(
            h,
            b,
            config.version,
            channels=config.channels,
            share=call.layout.share if config.share == "guidance" and call.layout is not None else "none",
            frames=frames,
            over_time=config.over_time if frames > 1 else "frame",
            inplace=inplace,
        )

    def _filter(self, skip: Tensor, call: Call, s: float | Tensor, high: float | Tensor, inplace: bool) -> Tensor:
        """Features of the skip's shape, filtered."""
        config = self.config
        return filter_skip(
            skip,
            s,
            config.threshold,
            config.mask,
            dc=config.dc,
            high_gain=high,
            frames=call.frames,
            time_threshold=config.time_threshold,
            inplace=inplace,
        )

    def _restore(self, filtered: Tensor, call: Call, residual: Tensor, gains: Gains, inplace: bool) -> Tensor:
        """The filtered skip with a ControlNet's residual as it was before the filter.

        The filter F is linear: F(skip) + r = F(skip + r) + (r - F(r)), and r - F(r) is a filter of its own, with the
        gains 1 - s and 1 - high.
        """
        correction = self._filter(residual, call, 1.0 - gains.s, 1.0 - gains.high, False)
        return filtered.add_(correction) if inplace else filtered + correction

    def _weaken_by_frame(self, x: Tensor, call: Call, changed: Tensor) -> Tensor:
        """Each frame as far from ``x`` to ``changed`` as its strength says: both operators are linear in the distance
        of their gains from 1 (that of the skip has ``skip_gain`` in it as a factor)."""
        frames = call.frames
        weights = frame_weights(self.config.frame_strength, frames, x).repeat(x.shape[0] // frames)
        return torch.lerp(x, changed, weights.view(-1, 1, 1, 1))


def _with_rows(x: Tensor, rows: slice, changed: Tensor) -> Tensor:
    """A copy of features with some of the rows replaced."""
    if rows.step in (None, 1):
        return torch.cat([x[: rows.start], changed, x[rows.stop :]])
    out = x.clone()
    out[rows] = changed
    return out


def _needs_frames(config: FreeUConfig) -> bool:
    return bool(config.over_time != "frame" or config.frame_strength or config.time_threshold)


def calls_differ(config: FreeUConfig) -> bool:
    """Whether calls of the U-Net differ in anything that the sites need to know."""
    return config.timed or needs_rows(config) or _needs_frames(config) or config.control == "before"


class RootHook:
    """Hooks of the U-Net: what a call is like is found before it, and forgotten after it.

    Found are the weight under the schedule, which rows of the batch guidance stacked, and a ControlNet's residuals.
    """

    def __init__(self, config: FreeUConfig, clock: Clock, calls: Calls, host: Host, residuals: Residuals) -> None:
        self.clock = clock
        self.calls = calls
        self.host = host
        self.residuals = residuals
        self.set(config)

    def set(self, config: FreeUConfig) -> None:
        self.schedules, self.timed, self.unit = config.schedules, config.timed, config.unit
        # That of a pipeline that is gone is told apart from none at the next call, which is then refused.
        self.rows_kind = (kind_of(self.clock.pipe()) or "halves") if needs_rows(config) else None
        self.needs_frames = _needs_frames(config)
        self.needs_residuals = config.control == "before"

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        conflict = self.host.conflict(module)
        if conflict:
            raise FreeURuntimeError(conflict)
        if not self.calls.differ:
            return
        recorded = recording()
        call = self.calls.traced if recorded else Call()
        if self.timed:
            t = one_timestep(self.host.timestep(args, kwargs))
            if recorded:
                weights = tensor_weights(self.schedules, self.clock.position(t, self.unit))
                if exporting():
                    call.weights = weights
                else:
                    self.calls.set_weights(weights)
            else:
                position = float(self.clock.position(t.cpu(), self.unit))
                both, b, skip = (schedule.weight(position) for schedule in self.schedules)
                call.weights = Weights(both * b, both * skip)
        if self.rows_kind is not None:
            batch = untraced(self.host.sample(args, kwargs).shape[0])
            call.layout = layout_of(self.rows_kind, self.clock.pipe(), batch)
        if self.needs_frames:
            call.frames = untraced(self.host.frames(args, kwargs))
        if self.needs_residuals:
            call.residuals = self.residuals(args, kwargs)
        if not recorded:
            self.calls.begin(call)

    def end(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        """Forward-hook of the U-Net; after an exception it is called without an output."""
        if not self.calls.differ:
            return
        if not recording():
            self.calls.end(failed=output is None)
            return
        if exporting():
            self.calls.traced.weights = Weights()  # tensors of the graph's
        if not torch.is_grad_enabled():
            self.calls.traced.residuals = ()

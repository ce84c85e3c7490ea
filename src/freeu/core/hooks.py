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
from freeu.core.calls import Call, Calls, permanent, scalar, writable
from freeu.core.guidance import kind_of, layout_of, needs_rows
from freeu.core.schedule import Clock, one_timestep, tensor_weight
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
    """

    continuous = False
    stacked = True

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
    """Factors of one site in one call: of the backbone, of the skip's low band, of the rest of the skip."""

    b: float | Tensor
    s: float | Tensor
    high: float | Tensor


class SiteHook:
    """Forward-pre-hook of one site."""

    def __init__(self, site: Site, calls: Calls, device: torch.device) -> None:
        self.site = site
        self.calls = calls
        self.reached = 0
        self.changes = 0
        # The same of compiled code: how often the site was reached, and changed.
        self.counts = permanent(lambda: torch.zeros(2, dtype=torch.int64, device=device))
        self.b_tensor = scalar(1.0, device)
        self.s_tensor = scalar(1.0, device)
        self.high_tensor = scalar(1.0, device)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(writable(state))

    def set(self, config: FreeUConfig, stage: Stage, high_gain: float) -> None:
        self.config = config
        self.stage = stage
        self.high_gain = high_gain
        self.b_tensor.fill_(stage.b)
        self.s_tensor.fill_(stage.s)
        self.high_tensor.fill_(high_gain)

    @property
    def counted(self) -> tuple[int, int]:
        """How often the site was reached, and how often it was changed there."""
        reached, changes = self.counts.tolist()
        return self.reached + reached, self.changes + changes

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x = args[0]
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
            return None if inplace else (_with_rows(x, rows, changed), *args[1:])
        changed = self._change(x, call, residual, gains, inplace)
        return None if inplace else (changed, *args[1:])

    def _gains(self, call: Call) -> Gains | None:
        """Those of this call as numbers (of a schedule that is exported, as tensors); None where they are
        all 1 and there is nothing to do."""
        self.reached += 1
        weight = call.weight
        if isinstance(weight, Tensor):
            self.changes += 1
            stage, high = self.stage, self.high_gain
            return Gains(*[1.0 + weight * (factor - 1.0) for factor in (stage.b, stage.s, high)])
        stage = self.stage.toward_identity(weight)
        high = 1.0 + weight * (self.high_gain - 1.0)
        if (stage.identity and high == 1.0) or self._weightless(call):
            return None
        self.changes += 1
        return Gains(stage.b, stage.s, high)

    def _weightless(self, call: Call) -> bool:
        """Whether every frame of the video has strength 0."""
        strengths = self.config.frame_strength
        return call.frames > 1 and bool(strengths) and not any(strengths)

    def _compiled_gains(self, device: torch.device, call: Call) -> Gains:
        """Those of every call of compiled code, as tensors that it reads anew each time."""
        self.calls.compiled = True
        weight = self.calls.weight_tensor.to(device)
        factors = (self.b_tensor, self.s_tensor, self.high_tensor)
        b, s, high = (1.0 + weight * (factor.to(device) - 1.0) for factor in factors)
        changed = ((b != 1.0) | (s != 1.0) | (high != 1.0)) & (not self._weightless(call))
        self.counts.add_(torch.stack([torch.ones_like(changed), changed]).to(self.counts.device))
        return Gains(b, s, high)

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
        return x if inplace else torch.cat([h, skip], dim=1)

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
        """Each frame as far from ``x`` to ``changed`` as its strength says: both operators are linear in their
        factors' distance from 1."""
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
    return not config.schedule.whole or needs_rows(config) or _needs_frames(config) or config.control == "before"


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
        self.schedule = config.schedule
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
        if not self.schedule.whole:
            t = one_timestep(self.host.timestep(args, kwargs))
            if recorded:
                weight = tensor_weight(self.schedule, self.clock.position(t, self.schedule.unit))
                if exporting():
                    call.weight = weight
                else:
                    self.calls.weight_tensor.copy_(weight)
            else:
                call.weight = self.schedule.weight(float(self.clock.position(t.cpu(), self.schedule.unit)))
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
            self.calls.traced.weight = 1.0  # a tensor of the graph's
        if not torch.is_grad_enabled():
            self.calls.traced.residuals = ()

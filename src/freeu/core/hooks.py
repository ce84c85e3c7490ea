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
from freeu.core.calls import Call, Calls, scalar, writable
from freeu.core.schedule import Clock, one_timestep, tensor_weight
from freeu.core.site import Site
from freeu.errors import FreeURuntimeError
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
        self.fired = 0
        self.fired_tensor = scalar(0, device, torch.int64)
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
    def count(self) -> int:
        return self.fired + int(self.fired_tensor)

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x = args[0]
        compiling = torch.compiler.is_compiling()
        call = self.calls.traced if compiling else self.calls.current()
        gains = self._traced_gains(x.device) if compiling else self._gains(call)
        if gains is None:
            return None
        # The concatenated tensor is fresh and private, so in inference its slices are changed where they lie.
        inplace = not compiling and not torch.is_grad_enabled() and not x.requires_grad
        residual = self._residual(x, call) if compiling or gains.s != 1.0 or gains.high != 1.0 else None
        if self.config.guidance == "conditional" and call.halves == 2:
            rows = x.shape[0] // 2
            within = None if residual is None else residual[rows:]
            changed = self._change(x[rows:], call, within, gains, inplace)
            return None if inplace else (torch.cat([x[:rows], changed]), *args[1:])
        changed = self._change(x, call, residual, gains, inplace)
        return None if inplace else (changed, *args[1:])

    def _gains(self, call: Call) -> Gains | None:
        """Those of this call as numbers; None where they are all 1 and there is nothing to do."""
        self.fired += 1
        weight = call.weight
        stage = self.stage.toward_identity(weight)
        high = 1.0 + weight * (self.high_gain - 1.0)
        return None if stage.identity and high == 1.0 else Gains(stage.b, stage.s, high)

    def _traced_gains(self, device: torch.device) -> Gains:
        """Those of every call of compiled code, as tensors that it reads anew each time."""
        self.calls.compiled = True
        self.fired_tensor.add_(1)
        weight = self.calls.weight_tensor.to(device)
        factors = (self.b_tensor, self.s_tensor, self.high_tensor)
        return Gains(*[1.0 + weight * (factor.to(device) - 1.0) for factor in factors])

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
            share=config.share if call.halves == 2 else "none",
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


def _needs_halves(config: FreeUConfig) -> bool:
    return config.share == "guidance" or config.guidance == "conditional"


def _needs_frames(config: FreeUConfig) -> bool:
    return bool(config.over_time != "frame" or config.frame_strength or config.time_threshold)


def calls_differ(config: FreeUConfig) -> bool:
    """Whether calls of the U-Net differ in anything that the sites need to know."""
    return not config.schedule.whole or _needs_halves(config) or _needs_frames(config) or config.control == "before"


class RootHook:
    """Hooks of the U-Net: what a call is like is found before it, and forgotten after it.

    Found are the weight under the schedule, whether guidance is stacked in the batch, and a ControlNet's residuals.
    """

    def __init__(self, config: FreeUConfig, clock: Clock, calls: Calls, host: Host, residuals: Residuals) -> None:
        self.clock = clock
        self.calls = calls
        self.host = host
        self.residuals = residuals
        self.set(config)

    def set(self, config: FreeUConfig) -> None:
        self.schedule = config.schedule
        self.needs_halves = _needs_halves(config)
        self.needs_frames = _needs_frames(config)
        self.needs_residuals = config.control == "before"

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        conflict = self.host.conflict(module)
        if conflict:
            raise FreeURuntimeError(conflict)
        if not self.calls.differ:
            return
        compiling = torch.compiler.is_compiling()
        call = self.calls.traced if compiling else Call()
        if not self.schedule.whole:
            t = one_timestep(self.host.timestep(args, kwargs))
            if compiling:
                position = self.clock.position(t, self.schedule.unit)
                self.calls.weight_tensor.copy_(tensor_weight(self.schedule, position))
            else:
                position = self.clock.position(t.cpu(), self.schedule.unit)
                call.weight = self.schedule.weight(float(position))
        if self.needs_halves:
            call.halves = self._halves(args, kwargs)
        if self.needs_frames:
            call.frames = self.host.frames(args, kwargs)
        if self.needs_residuals:
            call.residuals = self.residuals(args, kwargs)
        if not compiling:
            self.calls.begin(call)

    def end(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        """Forward-hook of the U-Net; after an exception it is called without an output."""
        if not self.calls.differ:
            return
        if not torch.compiler.is_compiling():
            self.calls.end(failed=output is None)
        elif not torch.is_grad_enabled():
            self.calls.traced.residuals = ()

    def _halves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if not self.host.stacked:
            raise FreeURuntimeError(
                "share='guidance' and guidance='conditional' need both halves of guidance in one batch, and samplers "
                "of this family call the U-Net once for each: use the defaults"
            )
        sample = self.host.sample(args, kwargs)
        if self.clock.pipe.lost:
            raise FreeURuntimeError(
                "share='guidance' and guidance='conditional' ask the pipeline whether it runs with guidance, and the "
                "pipeline that FreeU was applied to is gone: apply FreeU to the new one"
            )
        pipe = self.clock.pipe()
        guided = getattr(pipe, "do_classifier_free_guidance", None)
        if guided is None:
            # A bare U-Net cannot tell; the convention [unconditional, conditional] is what the option asks for.
            guided = True
        if guided and sample.shape[0] % 2:
            raise FreeURuntimeError(
                "share='guidance' and guidance='conditional' need [unconditional, conditional] stacked in the batch, "
                f"got {sample.shape[0]} samples: run with guidance, or use the defaults"
            )
        return 2 if guided else 1

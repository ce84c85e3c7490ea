"""Putting FreeU into a model and taking it out: the only file that touches modules.

A forward-pre-hook on the module behind each concatenation changes the two slices of its input. No forward of a host is
copied, and removing the hooks gives the model back to the bit.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from freeu.config import FreeUConfig, Stage
from freeu.core.schedule import Clock, one_timestep, tensor_weight
from freeu.core.site import Site
from freeu.errors import FreeURuntimeError, NoEffectWarning, unknown_name
from freeu.ops.backbone import scale_backbone
from freeu.ops.skip import filter_skip

_STACK = "_freeu_handles"


class _Call:
    """What the sites need to know about the call of the U-Net that is under way.

    Numbers serve eager execution; the 0-d tensor ``weight_tensor`` serves compiled code, which would otherwise be
    rebuilt for every value.
    """

    def __init__(self, device: torch.device) -> None:
        self.weight = 1.0
        self.weight_tensor = torch.ones((), device=device)
        self.halves = 1  # 2: classifier-free guidance stacks [unconditional, conditional] in the batch


class _SiteHook:
    """Forward-pre-hook of one site."""

    def __init__(self, site: Site, config: FreeUConfig, stage: Stage, call: _Call, device: torch.device) -> None:
        self.site = site
        self.call = call
        self.fired = 0
        self.fired_tensor = torch.zeros((), dtype=torch.int64, device=device)
        self.b_tensor = torch.ones((), device=device)
        self.s_tensor = torch.ones((), device=device)
        self.high_tensor = torch.ones((), device=device)
        self.set(config, stage)

    def set(self, config: FreeUConfig, stage: Stage) -> None:
        self.config = config
        self.stage = stage
        self.high_gain = 1.0 + config.strength * (config.high_gain - 1.0)
        self.b_tensor.fill_(stage.b)
        self.s_tensor.fill_(stage.s)
        self.high_tensor.fill_(self.high_gain)

    def silence(self) -> None:
        """Make compiled code that still contains this hook the identity."""
        self.set(self.config, Stage())
        self.high_gain = 1.0
        self.high_tensor.fill_(1.0)

    @property
    def count(self) -> int:
        return self.fired + int(self.fired_tensor)

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x = args[0]
        compiling = torch.compiler.is_compiling()
        b: float | Tensor
        s: float | Tensor
        high: float | Tensor
        if compiling:
            self.fired_tensor.add_(1)
            weight = self.call.weight_tensor.to(x.device)
            b, s, high = (1.0 + weight * (f.to(x.device) - 1.0) for f in (self.b_tensor, self.s_tensor, self.high_tensor))
        else:
            self.fired += 1
            stage = self.stage.toward_identity(self.call.weight)
            b, s, high = stage.b, stage.s, 1.0 + self.call.weight * (self.high_gain - 1.0)
            if stage.identity and high == 1.0:
                return None
        # The concatenated tensor is fresh and private, so in inference its slices are changed where they lie.
        inplace = not compiling and not torch.is_grad_enabled() and not x.requires_grad
        if self.config.guidance == "conditional" and self.call.halves == 2:
            rows = x.shape[0] // 2
            changed = self._change(x[rows:], b, s, high, inplace)
            return None if inplace else (torch.cat([x[:rows], changed]), *args[1:])
        changed = self._change(x, b, s, high, inplace)
        return None if inplace else (changed, *args[1:])

    def _change(self, x: Tensor, b: float | Tensor, s: float | Tensor, high: float | Tensor, inplace: bool) -> Tensor:
        config = self.config
        share = config.share if self.call.halves == 2 else "none"
        h, skip = self.site.split(x)
        assert not isinstance(config.channels, type(None)), "a checked configuration names its channels"
        h = scale_backbone(h, b, config.version, channels=config.channels, share=share, inplace=inplace)
        skip = filter_skip(skip, s, config.threshold, config.mask, high_gain=high, inplace=inplace)
        return x if inplace else torch.cat([h, skip], dim=1)


class _RootHook:
    """Forward-pre-hook of the U-Net: reads the timestep and whether guidance is stacked in the batch."""

    def __init__(self, config: FreeUConfig, clock: Clock, call: _Call, host: Host) -> None:
        self.config = config
        self.clock = clock
        self.call = call
        self.host = host

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        conflict = self.host.conflict(module)
        if conflict:
            raise FreeURuntimeError(conflict)
        schedule = self.config.schedule
        if not schedule.whole:
            t = one_timestep(self.host.timestep(args, kwargs))
            position = self.clock.position(t, schedule.unit)
            if torch.compiler.is_compiling():
                self.call.weight_tensor.copy_(tensor_weight(schedule, position))
            else:
                self.call.weight = schedule.weight(float(position))
                self.call.weight_tensor.fill_(self.call.weight)
        if self.config.share == "guidance" or self.config.guidance == "conditional":
            self.call.halves = self._halves(args, kwargs)

    def _halves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        sample = self.host.sample(args, kwargs)
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


class Host:
    """What an adapter knows about calls of its family; the defaults fit U-Nets called as (sample, timestep, ...)."""

    def sample(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The noisy input, shape (B, ...)."""
        value: Tensor = args[0] if args else kwargs["sample"]
        return value

    def timestep(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The timestep argument: a number or a tensor, or None if there is none."""
        return args[1] if len(args) > 1 else kwargs.get("timestep")

    def conflict(self, model: nn.Module) -> str | None:
        """A message if something else already applies FreeU to the model."""
        return None


class Handle:
    """FreeU on one model, until ``remove()`` or the end of a ``with`` block.

    A handle that is applied while another lives on the same model replaces it until it is removed itself: last in,
    first out.
    """

    def __init__(
        self, model: nn.Module, sites: Sequence[Site], config: FreeUConfig, host: Host, clock: Clock | None = None
    ) -> None:
        self.model = model
        self._all_sites = tuple(sites)
        self._host = host
        self._clock = clock or Clock()
        self._hooks: dict[str, _SiteHook] = {}
        self._root: _RootHook | None = None
        self._registered: list[RemovableHandle] = []
        self._alive = False
        parameter = next(model.parameters(), None)
        self._device = parameter.device if parameter is not None else torch.device("cpu")
        self._call = _Call(self._device)
        conflict = host.conflict(model)
        if conflict:
            raise FreeURuntimeError(conflict)
        self._check(config)
        stages = self._stages(config)
        if stages:
            _refuse_compiled(model)
        elif not config.identity:
            warnings.warn(_no_effect(config, self._all_sites, model), NoEffectWarning, stacklevel=4)
        stack: list[Handle] = model.__dict__.setdefault(_STACK, [])
        if stack:
            stack[-1]._suspend()
        stack.append(self)
        self._alive = True
        self.config = config
        for path, stage in stages.items():
            self._hooks[path] = _SiteHook(self._by_path()[path], config, stage, self._call, self._device)
        self._resume()

    # -- state --------------------------------------------------------------------------------------------------

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that this handle touches, in the order of the decoder."""
        return tuple(site for site in self._all_sites if site.path in self._hooks)

    @property
    def active(self) -> bool:
        """True if this handle is the one in effect: alive, and no later one covers it."""
        stack = self.model.__dict__.get(_STACK, [])
        return bool(stack) and stack[-1] is self

    def factors(self, site: Site | str) -> Stage:
        """The factors in effect at a site, ``strength`` included and the schedule not."""
        path = site if isinstance(site, str) else site.path
        return self._hooks[path].stage if path in self._hooks else Stage()

    def verify(self) -> dict[str, int]:
        """Prove that FreeU acted: how often each touched site fired since ``apply`` or the last ``verify``.

        Returns:
            calls by site path; empty for a configuration that is the identity.

        Raises:
            FreeURuntimeError: a touched site never fired. Either the model was not run, or it ran compiled code that
                was made before FreeU was applied.
        """
        counts = {path: hook.count for path, hook in self._hooks.items()}
        silent = [path for path, count in counts.items() if count == 0]
        for hook in self._hooks.values():
            hook.fired = 0
            hook.fired_tensor.zero_()
        if silent:
            raise FreeURuntimeError(
                f"{len(silent)} of {len(counts)} sites never fired: {', '.join(silent)}. Run the model first; if it did "
                "run, it used compiled code made before freeu.apply: call torch._dynamo.reset() or compile afterwards"
            )
        return counts

    # -- changes ------------------------------------------------------------------------------------------------

    def update(self, config: FreeUConfig | None = None, **changes: Any) -> Handle:
        """Change the configuration in place; compiled code sees new factors without being rebuilt.

        Args:
            config: a whole configuration, or None to start from the present one.
            changes: fields of ``FreeUConfig`` to replace.

        Raises:
            FreeURuntimeError: the handle was removed; compiled code would miss a site that was untouched so far.
        """
        if not self._alive:
            raise FreeURuntimeError("this handle was removed: call freeu.apply again")
        new = (config or self.config).replace(**changes)
        self._check(new)
        stages = self._stages(new)
        added = stages.keys() - self._hooks.keys()
        if added:
            _refuse_compiled(self.model)
        if not stages and not new.identity:
            warnings.warn(_no_effect(new, self._all_sites, self.model), NoEffectWarning, stacklevel=2)
        active = self.active
        if active and added:
            self._suspend()
        for path, stage in stages.items():
            if path in self._hooks:
                self._hooks[path].set(new, stage)
            else:
                self._hooks[path] = _SiteHook(self._by_path()[path], new, stage, self._call, self._device)
        if not _is_compiled(self.model):
            # Compiled code keeps its hooks for later updates; elsewhere a site that does nothing has no hook at all.
            for path in self._hooks.keys() - stages.keys():
                del self._hooks[path]
            if active:
                self._suspend()
        for path in self._hooks.keys() - stages.keys():
            self._hooks[path].set(new, Stage())
        self.config = new
        self._call.weight = 1.0
        self._call.weight_tensor.fill_(1.0)
        self._call.halves = 1
        if self._root is not None:
            self._root.config = new
        if active and not self._registered:
            self._resume()
        return self

    def remove(self) -> None:
        """Take FreeU out again: outputs equal those before ``apply`` to the bit. A second call does nothing.

        Raises:
            FreeURuntimeError: a handle applied later is still there (last in, first out).
        """
        if not self._alive:
            return
        if not self.active:
            raise FreeURuntimeError(
                "handles are removed last in, first out: a later freeu.apply on this model is still in effect"
            )
        self._suspend()
        for hook in self._hooks.values():
            hook.silence()
        stack = self.model.__dict__[_STACK]
        stack.pop()
        self._alive = False
        if stack:
            stack[-1]._resume()
        else:
            del self.model.__dict__[_STACK]

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = "active" if self.active else "covered by a later one" if self._alive else "removed"
        return f"<freeu.Handle {state}: {len(self.sites)} of {len(self._all_sites)} sites, {self.config}>"

    # -- inside -------------------------------------------------------------------------------------------------

    def _by_path(self) -> dict[str, Site]:
        return {site.path: site for site in self._all_sites}

    def _check(self, config: FreeUConfig) -> None:
        known = self._by_path()
        for path, _ in config.sites:
            if path not in known:
                raise unknown_name("site", path, known)
        self._clock.check(config.schedule)

    def _stages(self, config: FreeUConfig) -> dict[str, Stage]:
        """Factors of each site that the configuration touches."""
        found = {}
        for site in self._all_sites:
            number = site.stage_in(config.profile)
            named = (number is not None and number <= len(config.stages)) or site.path in dict(config.sites)
            stage = config.factors(number, site.path)
            # A high-frequency gain acts wherever the configuration names the site, whatever its factors.
            if not stage.identity or (named and config.high_gain != 1.0 and config.strength > 0.0):
                found[site.path] = stage
        return found

    def _resume(self) -> None:
        if not self._hooks:
            return
        self._root = _RootHook(self.config, self._clock, self._call, self._host)
        self._registered = [self.model.register_forward_pre_hook(self._root, with_kwargs=True)]
        for hook in self._hooks.values():
            self._registered.append(hook.site.module.register_forward_pre_hook(hook))

    def _suspend(self) -> None:
        for registered in self._registered:
            registered.remove()
        self._registered = []
        self._root = None


def active_handles(model: nn.Module) -> tuple[Handle, ...]:
    """Handles that live on a U-Net, outermost first; the last one is in effect."""
    return tuple(model.__dict__.get(_STACK, ()))


@contextlib.contextmanager
def tap(sites: Sequence[Site], callback: Callable[[Site, Tensor, Tensor], None]) -> Iterator[None]:
    """Show the features at each site to a callback: callback(site, backbone, skip), views that must not be changed.

    Hooks run in the order of registration: a tap opened before ``apply`` sees the features before FreeU, one opened
    after it sees what FreeU made of them.
    """

    def hook_for(site: Site) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            callback(site, *site.split(args[0]))

        return hook

    registered = [site.module.register_forward_pre_hook(hook_for(site)) for site in sites]
    try:
        yield
    finally:
        for handle in registered:
            handle.remove()


def _no_effect(config: FreeUConfig, sites: Sequence[Site], model: nn.Module) -> str:
    widths = sorted({site.backbone_channels for site in sites}, reverse=True)
    base = sites[0].model_channels if sites else 0
    return (
        f"FreeU changes nothing on this {type(model).__name__}: profile {config.profile!r} gives its stages "
        f"{', '.join(str(i) for i in range(1, len(config.stages) + 1))} to no site with a factor other than 1 "
        f"(backbone widths {widths}, base width {base}); freeu.inspect(model) shows every site"
    )


def _is_compiled(model: nn.Module) -> bool:
    """True if calls of the model may run code compiled earlier, which never looks at new hooks."""
    if any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()):
        return True
    if "torch._dynamo.eval_frame" not in sys.modules:
        return False
    from torch._dynamo.eval_frame import OptimizedModule

    if isinstance(model, OptimizedModule):
        return True
    if hasattr(model.__dict__.get("forward"), "_torchdynamo_orig_callable"):
        return True
    if not _has_compiled_code(model):
        return False
    # torch.compile(model) leaves no mark on the model: look for the wrapper that holds it.
    return any(
        isinstance(holder, OptimizedModule) and holder.__dict__.get("_modules", {}).get("_orig_mod") is model
        for modules in gc.get_referrers(model)
        if isinstance(modules, dict)
        for holder in (*gc.get_referrers(modules), *_owners(modules))
    )


def _owners(modules: dict[str, Any]) -> Iterator[object]:
    """Objects whose instance dictionary holds this ``_modules`` dictionary (some Pythons hide the dictionary)."""
    for holder in gc.get_referrers(modules):
        if isinstance(holder, dict):
            yield from gc.get_referrers(holder)


def _has_compiled_code(model: nn.Module) -> bool:
    try:
        from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list as entries
    except ImportError:  # another torch: assume so and look closer
        return True
    code = getattr(inspect.unwrap(type(model).forward), "__code__", None)
    return code is None or bool(entries(code))


def _refuse_compiled(model: nn.Module) -> None:
    if _is_compiled(model):
        raise FreeURuntimeError(
            f"this {type(model).__name__} was compiled before: compiled code never looks at hooks added later. Apply "
            "FreeU first and compile then (handle.update changes factors without recompiling)"
        )

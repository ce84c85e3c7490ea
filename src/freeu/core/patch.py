"""Putting FreeU into a model and taking it out: the only file that touches modules.

A forward-pre-hook on the module behind each concatenation changes the two slices of its input. No forward of a host is
copied, and removing the hooks gives the model back to the bit.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        self.compiled = False  # True once a compiler traced a site: its code must stay right from then on


class _SiteHook:
    """Forward-pre-hook of one site."""

    def __init__(self, site: Site, call: _Call, device: torch.device) -> None:
        self.site = site
        self.call = call
        self.fired = 0
        self.fired_tensor = torch.zeros((), dtype=torch.int64, device=device)
        self.b_tensor = torch.ones((), device=device)
        self.s_tensor = torch.ones((), device=device)
        self.high_tensor = torch.ones((), device=device)

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
        b: float | Tensor
        s: float | Tensor
        high: float | Tensor
        if compiling:
            self.call.compiled = True
            self.fired_tensor.add_(1)
            weight = self.call.weight_tensor.to(x.device)
            factors = (self.b_tensor, self.s_tensor, self.high_tensor)
            b, s, high = (1.0 + weight * (factor.to(x.device) - 1.0) for factor in factors)
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
        self.clock = clock
        self.call = call
        self.host = host
        self.set(config)

    def set(self, config: FreeUConfig) -> None:
        self.schedule = config.schedule
        self.needs_halves = config.share == "guidance" or config.guidance == "conditional"

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        conflict = self.host.conflict(module)
        if conflict:
            raise FreeURuntimeError(conflict)
        if not self.schedule.whole:
            t = one_timestep(self.host.timestep(args, kwargs))
            position = self.clock.position(t, self.schedule.unit)
            if torch.compiler.is_compiling():
                self.call.weight_tensor.copy_(tensor_weight(self.schedule, position))
            else:
                self.call.weight = self.schedule.weight(float(position))
                self.call.weight_tensor.fill_(self.call.weight)
        if self.needs_halves:
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
        touched = self._touched(config)
        if touched:
            _refuse_compiled(model)
        self._warn_if_without_effect(config, touched, stacklevel=5)
        stack: list[Handle] = model.__dict__.setdefault(_STACK, [])
        if stack:
            stack[-1]._suspend()
        stack.append(self)
        self._alive = True
        self._configure(config, touched)
        self._resume()

    # -- state --------------------------------------------------------------------------------------------------

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that this handle touches, in the order of the decoder."""
        touched = self._touched(self.config)
        return tuple(site for site in self._all_sites if site.path in touched)

    @property
    def active(self) -> bool:
        """True if this handle is the one in effect: alive, and no later one covers it."""
        stack = self.model.__dict__.get(_STACK, [])
        return bool(stack) and stack[-1] is self

    def factors(self, site: Site | str) -> Stage:
        """The factors in effect at a site, ``strength`` included and the schedule not."""
        path = site if isinstance(site, str) else site.path
        return self._touched(self.config).get(path, (Stage(), 1.0))[0]

    def verify(self) -> dict[str, int]:
        """Prove that FreeU acted: how often each touched site fired since it was first touched.

        Returns:
            calls by site path; empty for a configuration that is the identity.

        Raises:
            FreeURuntimeError: a touched site never fired. Either the model was not run, or it ran compiled code that
                was made before FreeU was applied.
        """
        counts = {site.path: self._hooks[site.path].count for site in self.sites}
        silent = [path for path, count in counts.items() if count == 0]
        if silent:
            raise FreeURuntimeError(
                f"{len(silent)} of {len(counts)} sites never fired: {', '.join(silent)}. Run the model first; if it "
                "did run, it used compiled code made before freeu.apply: call torch._dynamo.reset() or compile later"
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
        touched = self._touched(new)
        added = touched.keys() - self._hooks.keys()
        if added and self._call.compiled:
            raise FreeURuntimeError(
                f"the compiled code has no hook at {', '.join(sorted(added))}: remove the handle, call "
                "torch._dynamo.reset() and apply again, or begin with a configuration that touches these sites"
            )
        self._warn_if_without_effect(new, touched, stacklevel=3)
        active = self.active
        if active and not self._call.compiled:
            self._suspend()
        self._configure(new, touched)
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
            # Compiled code may still contain the hook: it must be the identity there from now on.
            hook.set(self.config, Stage(), 1.0)
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

    def _touched(self, config: FreeUConfig) -> dict[str, tuple[Stage, float]]:
        """Factors and high-frequency gain of each site that the configuration changes."""
        found = {}
        overrides = dict(config.sites)
        for site in self._all_sites:
            number = site.stage_in(config.profile)
            named = (number is not None and number <= len(config.stages)) or site.path in overrides
            stage = config.factors(number, site.path)
            high_gain = 1.0 + config.strength * (config.high_gain - 1.0) if named else 1.0
            if not stage.identity or high_gain != 1.0:
                found[site.path] = (stage, high_gain)
        return found

    def _warn_if_without_effect(self, config: FreeUConfig, touched: Mapping[str, object], stacklevel: int) -> None:
        if not touched and not config.identity:
            warnings.warn(_no_effect(config, self._all_sites, self.model), NoEffectWarning, stacklevel=stacklevel)

    def _configure(self, config: FreeUConfig, touched: Mapping[str, tuple[Stage, float]]) -> None:
        """Give every hook its factors: exactly the touched sites have one, except that compiled code keeps those that
        it was built with, as identities."""
        kept = self._hooks if self._call.compiled else {}
        hooks = {}
        for site in self._all_sites:
            if site.path in touched or site.path in kept:
                hook = self._hooks.get(site.path) or _SiteHook(site, self._call, self._device)
                hook.set(config, *touched.get(site.path, (Stage(), 1.0)))
                hooks[site.path] = hook
        self._hooks = hooks
        self.config = config
        self._call.weight = 1.0
        self._call.weight_tensor.fill_(1.0)
        self._call.halves = 1
        if self._root is not None:
            self._root.set(config)

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
    """True if calls of the model may run code compiled earlier, which never looks at new hooks.

    A model that was handed to torch.compile but has not run yet is fine: it will be traced with its hooks.
    """
    if "torch._dynamo.eval_frame" not in sys.modules:
        return False
    for module in model.modules():
        marked = getattr(module, "_compiled_call_impl", None) is not None
        if (marked or hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")) and _has_compiled_code(
            module
        ):
            return True
    return _has_compiled_code(model) and _is_wrapped(model)


def _is_wrapped(model: nn.Module) -> bool:
    """True if the result of torch.compile(model), which leaves no mark on the model itself, is alive."""
    from torch._dynamo.eval_frame import OptimizedModule

    for modules in gc.get_referrers(model):
        if not isinstance(modules, dict) or modules.get("_orig_mod") is not model:
            continue
        # The dictionary of submodules is held by the wrapper or by the wrapper's instance dictionary.
        holders = gc.get_referrers(modules)
        owners = [owner for holder in holders if isinstance(holder, dict) for owner in gc.get_referrers(holder)]
        if any(isinstance(holder, OptimizedModule) for holder in (*holders, *owners)):
            return True
    return False


def _has_compiled_code(model: nn.Module) -> bool:
    """True if the compiler holds code for the forward of the model's class (of any instance: it does not say)."""
    try:
        from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list as entries
    except ImportError:  # another torch: assume so and look closer
        return True
    function: Any = type(model).forward
    while function is not None:
        code = getattr(function, "__code__", None)
        if code is not None and entries(code):
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def _refuse_compiled(model: nn.Module) -> None:
    if _is_compiled(model):
        raise FreeURuntimeError(
            f"this {type(model).__name__} has run as compiled code, which never looks at hooks added later. Apply "
            "FreeU first and compile then (handle.update changes factors without recompiling), or forget the compiled "
            "code with torch._dynamo.reset()"
        )

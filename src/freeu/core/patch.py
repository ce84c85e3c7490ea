"""Putting FreeU into a model and taking it out: the only file of FreeU that adds hooks to modules and removes them.

Hooks go in and come out; nothing else of a model is touched, so removing them restores it bit for bit.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from freeu.config import FreeUConfig
from freeu.core.calls import Calls
from freeu.core.compiled import refuse_compiled, tell_instances_apart
from freeu.core.guidance import check_rows
from freeu.core.hooks import Counts, Host, RootHook, SiteHook, calls_differ
from freeu.core.owner import Owner
from freeu.core.schedule import Clock
from freeu.core.site import Site, factors_at, touched_at
from freeu.errors import FreeURuntimeError, NoEffectWarning, unknown_name
from freeu.presets import as_config
from freeu.schedule import Stage
from freeu.wording import counted

_STACK = "_freeu_handles"
# Held while handles come and go, of any model: never while a model runs.
_LOCK = threading.RLock()


class Handle:
    """FreeU on one model, until ``remove()`` or the end of a ``with`` block.

    A handle that is applied while another lives on the same model replaces it until it is removed itself: last in,
    first out.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        config: FreeUConfig,
        host: Host,
        clock: Clock | None = None,
        *,
        in_block: bool = False,
        attached: bool = True,
    ) -> None:
        self.model = model
        self._all_sites = tuple(sites)
        self._host = host
        self._clock = clock or Clock()
        self._hooks: dict[str, SiteHook] = {}
        self._root: RootHook | None = None
        self._registered: list[RemovableHandle] = []
        self._alive = False
        self._owner = Owner() if in_block else None  # of the ``with`` block
        self._entered = False
        # Parameters that accelerate has offloaded are on no device.
        devices = (parameter.device for parameter in model.parameters())
        self._device = next((device for device in devices if device.type != "meta"), torch.device("cpu"))
        self._calls = Calls(self._device)
        conflict = host.conflict(model)
        if conflict:
            raise FreeURuntimeError(conflict)
        self._check(config)
        touched = self._touched(config)
        self._refuse_compiled(touched)
        self._warn_if_without_effect(config, touched, stacklevel=5)
        self._configure(config, touched)
        if attached:
            self.attach()

    def __getstate__(self) -> dict[str, Any]:
        # Of a copy there is no block that would end.
        return self.__dict__ | {"_owner": None, "_entered": False}

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
        """Prove that FreeU acted: how often it changed the features at each touched site since it was first touched.

        Returns:
            changes by site path; empty for a configuration that is the identity.

        Raises:
            FreeURuntimeError: a touched site never fired (either the model was not run, or it ran compiled code that
                was made before FreeU was applied), or no step fell in the interval of the schedule.
        """
        found = {site.path: self._hooks[site.path].counted for site in self.sites}
        silent = [path for path, counts in found.items() if counts.reached == 0]
        if silent:
            raise FreeURuntimeError(
                f"{len(silent)} of {len(found)} sites never fired: {', '.join(silent)}. Run the model first; if it "
                "did run, it used compiled code made before freeu.apply: call torch._dynamo.reset() or compile later"
            )
        unchanged = [path for path, counts in found.items() if counts.changes == 0]
        calls = counted(max((counts.reached for counts in found.values()), default=0), "call")
        if unchanged:
            config = self.config
            widen = ["start and end", *config.windows]
            raise FreeURuntimeError(
                f"FreeU changed nothing at {len(unchanged)} of {len(found)} sites in {calls}: no step "
                f"fell in the interval from {config.start:g} to {config.end:g} ({config.unit})"
                f"{''.join(f' and {name}' for name in config.windows)}; run more steps, or widen {', '.join(widen)}"
            )
        self._refuse_idle_windows(found, calls)
        return {path: counts.changes for path, counts in found.items()}

    def _refuse_idle_windows(self, found: Mapping[str, Counts], calls: str) -> None:
        """Raise if a window in time of its own let its half of FreeU do nothing at any site."""
        gains = self._touched(self.config).values()
        halves = {
            "b_window": any(stage.b != 1.0 for stage, _ in gains) and not any(counts.b for counts in found.values()),
            "s_window": any(touched_at(replace(stage, b=1.0), high) for stage, high in gains)
            and not any(counts.skip for counts in found.values()),
        }
        for name in self.config.windows:
            if halves[name]:
                start, end = getattr(self.config, name)
                raise FreeURuntimeError(
                    f"no step of {calls} fell in {name} from {start:g} to {end:g} ({self.config.unit}): run more "
                    "steps, or widen it"
                )

    # -- changes ------------------------------------------------------------------------------------------------

    def update(self, config: FreeUConfig | str | None = None, **changes: Any) -> Handle:
        """Change the configuration in place; compiled code sees new factors without being rebuilt.

        Args:
            config: a whole configuration, the name of a preset, or None to start from the present one.
            changes: fields of ``FreeUConfig`` to replace.

        Raises:
            FreeUValueError: a bad preset name or field.
            FreeURuntimeError: the handle was removed; compiled code would miss a site that was untouched so far.
        """
        if not self._alive:
            raise FreeURuntimeError("this handle was removed: call freeu.apply again")
        new = (self.config if config is None else as_config(config)).replace(**changes)
        self._check(new)
        touched = self._touched(new)
        added = touched.keys() - self._hooks.keys()
        if added and self._calls.compiled:
            raise FreeURuntimeError(
                f"the compiled code has no hook at {', '.join(sorted(added))}: remove the handle, call "
                "torch._dynamo.reset() and apply again, or begin with a configuration that touches these sites"
            )
        if added:
            self._refuse_compiled(added)
        self._warn_if_without_effect(new, touched, stacklevel=3)
        with _LOCK:
            # Hooks stay where they are if they can, so that a call that is under way in another thread keeps its own.
            again = self.active and not self._calls.compiled and touched.keys() != self._hooks.keys()
            if added:
                tell_instances_apart(self.model, self._modules(added))
            if again:
                self._suspend()
            self._configure(new, touched)
            if again:
                self._resume()
        return self

    def attach(self) -> None:
        """Bring back a handle that ``detach()`` took out, as the one in effect; what it counted goes on.

        Raises:
            FreeURuntimeError: another thread or task is within a block of ``enabled`` on this model.
        """
        with _LOCK:
            if self._alive:
                return
            _refuse_other_blocks(self.model)
            if self._hooks:
                tell_instances_apart(self.model, self._modules(self._hooks))
            stack: list[Handle] = self.model.__dict__.setdefault(_STACK, [])
            if stack:
                stack[-1]._suspend()
            stack.append(self)
            self._alive = True
            self._resume()

    def detach(self) -> None:
        """Take FreeU out for a while: as ``remove()``, and ``attach()`` brings it back at little cost.

        Raises:
            FreeURuntimeError: a handle applied later is still there (last in, first out).
        """
        with _LOCK:
            self._refuse_covered()
            if self._alive:
                self._take_out()

    def remove(self) -> None:
        """Take FreeU out again: outputs are bit-identical to those before ``apply``. A second call does nothing.

        Raises:
            FreeURuntimeError: a handle applied later is still there (last in, first out).
        """
        with _LOCK:
            self._refuse_covered()
            self._remove_with_later_ones()

    def _refuse_covered(self) -> None:
        if self._alive and not self.active:
            raise FreeURuntimeError(
                "handles are removed last in, first out: a later freeu.apply on this model is still in effect"
            )

    def _take_out(self) -> list[Handle]:
        """Take out this handle and those that were applied after it. The stack is right before anything can fail."""
        stack: list[Handle] = self.model.__dict__[_STACK]
        place = stack.index(self)
        removed = stack[place:]
        del stack[place:]
        if not stack:
            del self.model.__dict__[_STACK]
        for handle in removed:
            handle._alive = False
            handle._suspend()
        if stack:
            stack[-1]._resume()
        return removed

    def _remove_with_later_ones(self) -> None:
        with _LOCK:
            if not self._alive or self not in self.model.__dict__.get(_STACK, []):
                return
            for handle in self._take_out():
                handle._calls.configure(differ=False)
                for hook in handle._hooks.values():
                    # Compiled code may still contain the hook: it must be the identity there from now on.
                    hook.set(handle.config, Stage(), 1.0)

    def __enter__(self) -> Handle:
        """Begin the block.

        Raises:
            FreeURuntimeError: the handle was removed, is in use by another ``with``, or a later one covers it.
        """
        with _LOCK:
            if not self._alive:
                raise FreeURuntimeError("this handle was removed: call freeu.apply or freeu.enabled again")
            if self._entered:
                raise FreeURuntimeError("this handle is in a with block already: its end would remove it from both")
            if not self.active:
                raise FreeURuntimeError("a later freeu.apply on this model is in effect: remove that handle first")
            self._entered, self._owner = True, Owner()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whatever was applied within the block and left there goes too: the model is as it was before the block.
        with _LOCK:
            left = self._alive and not self.active
            self._remove_with_later_ones()
        if left and kind is None:
            raise FreeURuntimeError(
                "handles are removed last in, first out: a handle that was applied within this with block was still "
                "there at its end, and was removed with it"
            )

    def __repr__(self) -> str:
        state = "active" if self.active else "covered by a later one" if self._alive else "removed"
        return f"<freeu.Handle {state}: {len(self.sites)} of {len(self._all_sites)} sites, {self.config}>"

    # -- inside -------------------------------------------------------------------------------------------------

    def _by_path(self) -> dict[str, Site]:
        return {site.path: site for site in self._all_sites}

    def _modules(self, paths: Collection[str]) -> list[nn.Module]:
        return [site.module for site in self._all_sites if site.path in paths]

    def _refuse_compiled(self, touched: Collection[str]) -> None:
        """Raise if compiled code would miss hooks at these sites, or that those of other handles go."""
        handles = active_handles(self.model)
        if touched or handles:
            others = [hook.site.module for handle in handles for hook in handle._hooks.values()]
            refuse_compiled(self.model, [*self._modules(touched), *others])

    def _check(self, config: FreeUConfig) -> None:
        known = self._by_path()
        for path, _ in config.sites:
            if path not in known:
                raise unknown_name("site", path, known)
        for schedule in config.schedules:
            self._clock.check(schedule, self._host.continuous)
        check_rows(config, self._clock.pipe(), self._host.stacked)
        scaled = any(stage.b != 1.0 for stage, _ in self._touched(config).values())
        if self._host.centred and config.version == 2 and scaled:
            raise FreeURuntimeError(
                "version 2 scales the backbone by its mean over channels, and a layer norm has made that 0 at every "
                f"concatenation of {type(self.model).__name__}: use version=1, or b=1"
            )

    def _touched(self, config: FreeUConfig) -> dict[str, tuple[Stage, float]]:
        """Factors and high-frequency gain of each site that the configuration changes."""
        gains = zip(self._all_sites, factors_at(self._all_sites, config), strict=True)
        return {site.path: found for site, found in gains if touched_at(*found)}

    def _warn_if_without_effect(self, config: FreeUConfig, touched: Mapping[str, object], stacklevel: int) -> None:
        if not touched and not config.identity:
            warnings.warn(_no_effect(config, self._all_sites, self.model), NoEffectWarning, stacklevel=stacklevel)

    def _configure(self, config: FreeUConfig, touched: Mapping[str, tuple[Stage, float]]) -> None:
        """Give every hook its factors: exactly the touched sites have one, except that compiled code keeps those that
        it was built with, as identities."""
        kept = self._hooks if self._calls.compiled else {}
        hooks = {}
        for site in self._all_sites:
            if site.path in touched or site.path in kept:
                hook = self._hooks.get(site.path) or SiteHook(site, self._calls, self._device)
                hook.set(config, *touched.get(site.path, (Stage(), 1.0)))
                hooks[site.path] = hook
        self._hooks = hooks
        self.config = config
        self._calls.configure(calls_differ(config))
        if self._root is not None:
            self._root.set(config)

    def _resume(self) -> None:
        if not self._hooks:
            return
        residuals = self._host.residuals(self.model)
        self._root = RootHook(self.config, self._clock, self._calls, self._host, residuals)
        self._registered = [
            self.model.register_forward_pre_hook(self._root, with_kwargs=True),
            self.model.register_forward_hook(self._root.end, always_call=True),
        ]
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


def remove_handles(model: nn.Module) -> None:
    """Take every handle out of a U-Net, the innermost first."""
    handles = active_handles(model)
    if handles:
        handles[0]._remove_with_later_ones()


def _refuse_other_blocks(model: nn.Module) -> None:
    """Raise if another thread or task is within a ``with`` block on the model.

    Whichever of the two blocks ended first would leave the other one without its settings.
    """
    if any(handle._owner is not None and handle._owner.elsewhere for handle in active_handles(model)):
        raise FreeURuntimeError(
            "another thread or task is within a freeu block on this model: let them take turns, give each its own "
            "copy of the U-Net, or apply one configuration for all before they start"
        )


def _no_effect(config: FreeUConfig, sites: Sequence[Site], model: nn.Module) -> str:
    widths = sorted({site.backbone_channels for site in sites}, reverse=True)
    base = sites[0].model_channels if sites else 0
    return (
        f"FreeU changes nothing on this {type(model).__name__}: profile {config.profile!r} gives its stages "
        f"{', '.join(str(i) for i in range(1, len(config.stages) + 1))} to no site with a factor other than 1 "
        f"(backbone widths {widths}, base width {base}); freeu.inspect(model) shows every site"
    )

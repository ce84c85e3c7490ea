"""The extension's part in a generation. A host prints what a script raises and goes on, so errors are told here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freeu import FreeUError, FreeUValueError
from lib_freeu_exact.axes import ATTRIBUTE
from lib_freeu_exact.hosts import Run
from lib_freeu_exact.settings import controls_from, infotext

TITLE = "FreeU (exact)"
_INTEGRATED = "freeu integrated"


def before_sampling(p: Any, run: Run, args: Sequence[Any]) -> None:
    """Put FreeU on the model, or say below the image why that image is made without it.

    Args:
        p: the host's processing: ``sd_model``, ``scripts``, ``script_args``, ``extra_generation_params``, ``comment``.
        run: of the extension.
        args: values of its controls.
    """
    run.end()
    try:
        controls = controls_from(args).changed(getattr(p, ATTRIBUTE, {}))
        if not controls.enabled:
            return
        beside = _integrated(p)
        if beside is not None and p.script_args[beside.args_from]:
            raise FreeUValueError(f"{beside.title()} is enabled too, and FreeU would act twice: switch one of them off")
        config = controls.config
        run.begin(p.sd_model, config)
    except FreeUError as error:
        p.comment(f"{TITLE} did not act: {error}")
        return
    p.extra_generation_params.update(infotext(config, beside is not None))


def after_batch(p: Any, run: Run) -> None:
    """Take FreeU off the model again, and say below the image if it never acted."""
    try:
        run.check()
    except FreeUError as error:
        p.comment(f"{TITLE} did not act: {error}")
    finally:
        run.end()


def _integrated(p: Any) -> Any:
    """The script of Forge's own FreeU, where there is one."""
    found = (one for one in p.scripts.alwayson_scripts if str(one.title()).lower().startswith(_INTEGRATED))
    return next(found, None)

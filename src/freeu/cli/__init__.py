"""The ``freeu`` command. Torch, diffusers and Pillow are imported inside the commands, so that help is quick."""

from __future__ import annotations

import contextlib
import errno
import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from freeu.cli.bundles import Group, command
from freeu.cli.commands.analyze import OLD as ANALYZE_OLD
from freeu.cli.commands.analyze import analyze
from freeu.cli.commands.carry.convert import convert
from freeu.cli.commands.carry.metadata import metadata
from freeu.cli.commands.check import check
from freeu.cli.commands.compare import compare
from freeu.cli.commands.evaluate import OLD as EVALUATE_OLD
from freeu.cli.commands.evaluate import evaluate
from freeu.cli.commands.generate import generate
from freeu.cli.commands.inspect import inspect
from freeu.cli.commands.personalize.dreambooth import dreambooth
from freeu.cli.commands.personalize.reversion import reversion
from freeu.cli.commands.presets import presets
from freeu.cli.commands.rerender import rerender
from freeu.cli.commands.study import study
from freeu.cli.commands.sweep import sweep
from freeu.cli.commands.tune import tune
from freeu.cli.commands.ui import ui
from freeu.cli.commands.video import video
from freeu.cli.errors import CheckFailedError, StoppedError
from freeu.cli.hints import meant
from freeu.errors import FreeUError, FreeUValueError

app = typer.Typer(
    name="freeu",
    cls=Group,
    help="FreeU for diffusion U-Nets: the same prompt and seed without and with it, on your model and machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _function in (compare, generate, inspect, convert, metadata, presets, check, video, rerender, sweep, tune, ui):
    command(app, _function.__name__)(_function)
command(app, "evaluate", **EVALUATE_OLD)(evaluate)
command(app, "analyze", **ANALYZE_OLD)(analyze)
for _group in (dreambooth, reversion, study):
    app.add_typer(_group, name=_group.info.name)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"freeu {version('freeu')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Better images from diffusion U-Nets at inference: no training, no cost."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes those of the process.

    Returns:
        0; 1 if a check failed; 2 after bad input, told in one line on standard error; 130 after Ctrl-C.
    """
    try:
        _check_text(sys.argv[1:] if arguments is None else arguments)
        with _calm_warnings():
            result: Any = app(
                args=list(arguments) if arguments is not None else None, prog_name="freeu", standalone_mode=False
            )
        if result == 130:  # typer has turned Ctrl-C into this
            return _complain("stopped", 130)
        return result if isinstance(result, int) else 0
    except CheckFailedError as failure:
        return _complain(failure, 1)
    except StoppedError as stop:
        return _complain(stop, 130)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("stopped", 130)
    except FreeUError as error:
        return _complain(error, 2)
    except BrokenPipeError:
        return 1
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _complain(
                f"no space left on the disk ({error.filename or 'temporary files'}): free some and try again", 2
            )
        raise
    except Exception as error:
        # The parser's errors: typer's own or click's, by the version of typer.
        if not hasattr(error, "format_message"):
            raise
        if not _message(error):  # help was printed because no argument was given
            return int(getattr(error, "exit_code", 2))
        return _complain(f"{_hinted(error)}{_given(error, arguments)} (see {_help_command(error)})", 2)


def _check_text(words: Sequence[str]) -> None:
    """Refuse words that no file, page or terminal can hold."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode("utf-8", "backslashreplace").decode()
            raise FreeUValueError(
                f"the argument {shown!r} is not UTF-8 text: write it, or name the file, in UTF-8"
            ) from None


def _message(error: Any) -> str:
    return str(error.format_message())


def _hinted(error: Any) -> str:
    """The parser's message; of an unknown option, with what it probably means rather than what is spelled like it."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if option is not None and context is not None and hasattr(error, "possibilities"):
        known = {name for one in context.command.get_params(context) for name in (*one.opts, *one.secondary_opts)}
        hint = meant(str(option), known)
        if hint is not None:
            return f"no such option: {option}: {hint}"
    return _message(error)


def _given(error: Any, arguments: Sequence[str] | None) -> str:
    """The value that an option was given, where the parser's message leaves it out."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    names = getattr(getattr(error, "param", None), "opts", [])
    values = [after for word, after in itertools.pairwise(words) if word in names]
    return f", got {values[-1]!r}" if values and repr(values[-1]) not in _message(error) else ""


def _help_command(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else "freeu --help"


def _complain(what: object, code: int) -> int:
    """One line on standard error, whatever the message holds."""
    print("freeu: " + " ".join(str(what).split()), file=sys.stderr)
    return code


@contextlib.contextmanager
def _calm_warnings() -> Iterator[None]:
    """Show warnings of freeu as one line each, and none of the libraries' (they are for their own developers)."""
    with warnings.catch_warnings():
        for library in ("diffusers", "transformers", "huggingface_hub", "accelerate", "torch"):
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")

        def show(message: Warning | str, *_: Any, **__: Any) -> None:
            print("freeu: " + " ".join(str(message).split()), file=sys.stderr)

        warnings.showwarning = show
        yield

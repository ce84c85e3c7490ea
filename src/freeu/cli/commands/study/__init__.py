"""``freeu study``: plan a preference study, serve it, and evaluate its votes.

Imports freeu.study inside its functions only.
"""

import typer

from freeu.cli.bundles import Group, command
from freeu.cli.commands.study.new import new, power
from freeu.cli.commands.study.results import export, results
from freeu.cli.commands.study.serve import backup, serve, status, tokens

study = typer.Typer(
    name="study",
    cls=Group,
    help="Run a blind preference study of images or videos, as in the paper's Tables 1 and 2.",
    no_args_is_help=True,
)
for function in (new, power, serve, status, tokens, backup, results, export):
    command(study, function.__name__)(function)

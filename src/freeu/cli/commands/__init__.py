"""One file per command, under the command's name: it reads options, calls one part of freeu and says what was made.

Imports cli.options, cli.terminal and what the command needs, inside its functions, so that ``--help`` is quick. No
command imports another.
"""

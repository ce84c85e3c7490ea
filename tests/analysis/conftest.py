"""The embedded model, loaded once, and the command line in this process."""

import pytest
from command_line import run_cli
from made_plans import made_plan


@pytest.fixture
def plan(mini):
    return made_plan(
        prompts=("a 3d fox on a blue background", "a flat cat on a red background"), steps=3, width=128, height=128
    )


@pytest.fixture
def run():
    """The command line."""
    return run_cli

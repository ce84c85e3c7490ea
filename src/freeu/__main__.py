"""``python -m freeu`` is the ``freeu`` command."""

import sys

from freeu.cli import main

sys.exit(main())

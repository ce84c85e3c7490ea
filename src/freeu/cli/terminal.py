"""What a command prints while it makes images or clips, and what it says was made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from freeu.cli.errors import stopped


def draw(prepared: Any, folder: Path) -> Any:
    """Make the pictures, then the grid and the page; say what was made and where."""
    from freeu.cli.progress import Bar
    from freeu.pipelines.io.output import OutputFolder
    from freeu.pipelines.pages.finish import finish, headline
    from freeu.pipelines.runs.run import make_pictures
    from freeu.wording import counted

    plan, world = prepared.plan, prepared.loaded.source.world
    for line in headline(plan, world):
        print(line)
    if plan.control is not None:
        print(f"with {plan.control.text}")
    sys.stdout.flush()
    output = OutputFolder(folder)
    bar = Bar(plan)
    try:
        with bar:
            inputs = prepared.image, prepared.mask
            manifest = make_pictures(prepared.loaded, plan, output, *inputs, bar, prepared.control_image)
            written = finish(output, manifest, world)
    except KeyboardInterrupt:
        raise stopped(folder, f"after {bar.done} of {plan.count} pictures") from None
    print(f"wrote {counted(plan.count, 'picture')} to {folder}")
    for name, purpose in written:
        print(f"  {folder / name}  {purpose}")
    return manifest


def film(prepared: Any, folder: Path) -> Any:
    """Make the clips and what shows them; say what was made and where. Returns the manifest."""
    from freeu.cli.progress import Bar
    from freeu.pipelines.io.output import OutputFolder
    from freeu.pipelines.pages.video_finish import finish_video, video_headline
    from freeu.pipelines.video.run import make_clips
    from freeu.wording import counted

    plan, world = prepared.plan, prepared.loaded.source.world
    for line in video_headline(plan, world):
        print(line)
    sys.stdout.flush()
    output = OutputFolder(folder)
    bar = Bar(plan)
    try:
        with bar:
            manifest = make_clips(prepared.loaded, plan, output, prepared.image, prepared.video, bar)
            written = finish_video(output, manifest, world, bar.say)
    except KeyboardInterrupt:
        raise stopped(folder, f"after {bar.done} of {plan.count} clips") from None
    print(f"wrote {counted(plan.count, 'clip')} to {folder}")
    for name, purpose in written:
        print(f"  {folder / name}  {purpose}")
    return manifest

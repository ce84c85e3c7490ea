"""The way of a prompt from the command line to its PNG: which files of freeu are handed it, in order.

    python benchmarks/trace_prompt.py

Runs ``freeu compare`` on the embedded model for one image pair and watches every call of a function of freeu one of
whose arguments holds the prompt; a method of an object that carries it is no hand-over. A stop is a file that is handed
the prompt by another one; a return is a stop at a file that had it before. The way ends where the bytes of the PNG are
made; the second image of the pair goes the same way.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

PROMPT = "a 3d fox on a blue background"


def holds(value: Any, depth: int = 4) -> bool:
    """Whether a value is the prompt or contains it."""
    if isinstance(value, str):
        return value == PROMPT
    if depth == 0:
        return False
    if isinstance(value, (list, tuple)):
        return any(holds(part, depth - 1) for part in value[:20])
    if isinstance(value, dict):
        return any(holds(part, depth - 1) for part in list(value.values())[:60])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = (getattr(value, item.name, None) for item in dataclasses.fields(value))
        return any(holds(part, depth - 1) for part in parts)
    return False


def main() -> int:
    import freeu
    import freeu.cli

    root = Path(freeu.__file__).parent
    stops: list[str] = []
    done = False

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal done
        code = frame.f_code
        if event != "call" or done or not code.co_filename.startswith(str(root)) or code.co_name.startswith("<"):
            return
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + 2]
        if not any(holds(frame.f_locals[name]) for name in arguments if name in frame.f_locals and name != "self"):
            return
        place = str(Path(code.co_filename).relative_to(root))
        if not stops or stops[-1] != place:
            stops.append(place)
        done = place == "metadata.py"  # where a PNG gets its settings

    with tempfile.TemporaryDirectory() as folder:
        words = ["compare", PROMPT, "--steps", "1", "--threads", "1", "--output", f"{folder}/out"]
        sys.setprofile(watch)
        try:
            code = freeu.cli.main(words)
        finally:
            sys.setprofile(None)
    seen: set[str] = set()
    returns = 0
    for number, place in enumerate(stops, 1):
        back = place in seen
        returns += back
        seen.add(place)
        print(f"{number:3}  {place}{'  (return)' if back else ''}")
    print(f"{len(stops)} stops, {returns} returns, {len(seen)} files")
    return code


if __name__ == "__main__":
    raise SystemExit(main())

"""ScaleCrafter and FreeU on mini-sd at twice its size: repeated objects, and the distance to real scenes.

    python benchmarks/bench_scalecrafter.py [--count 20] [--steps 10] [--work DIR]

Prompts ask for one object each and were not trained on. Generates with plain sampling, ScaleCrafter and FreeU in all
combinations at 256x256, and with plain sampling at 128x128, by ``freeu evaluate``; an interrupted run goes on where it
was if --work is the same. Writes results/scalecrafter/ and docs/images/scalecrafter.png.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from common import RESULTS, conditions
from freeu_zoo import prompts as zoo_prompts
from freeu_zoo import recipe
from freeu_zoo.world.scenes import compose
from PIL import Image, ImageDraw

from freeu.cli import main as freeu

ARMS = ("none", "scalecrafter", "scalecrafter+sd14", "scalecrafter+gentle", "sd14", "gentle")
SHOWN = ("none", "scalecrafter", "scalecrafter+gentle", "scalecrafter+sd14")
MEASURES = {
    "count": "one object, %",
    "noun": "noun there, %",
    "noun_strict": "that noun and no other, %",
    "style": "style, %",
    "clip_score": "CLIP score",
    "kid": "KID x 1000",
}
SCALE = {"clip_score": 1.0, "kid": 1000.0}
SEED = 20_000
"""Of the prompts; those of the other experiments begin at 9000."""
REFERENCE = 256
NAMES = {"none": "plain 256x256"}


def write_prompts(folder: Path, count: int) -> None:
    """``prompts.jsonl``, one object each, and 256 other real scenes of one object in ``real/``."""
    world = recipe.shipped("mini-sd").world
    single = [scene for scene in zoo_prompts.scenes(world, 4 * (count + REFERENCE), SEED) if scene.layout == "single"]
    rows = zoo_prompts.rows(single[:count], SEED)
    (folder / "real").mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(single[count : count + REFERENCE]):
        compose(scene).save(folder / "real" / f"{number:04}.png")
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def evaluate(folder: Path, name: str, *words: str) -> dict[str, Any]:
    """The results of one ``freeu evaluate``."""
    out = folder / name
    common = ("--prompts", str(folder / "prompts.jsonl"), "--reference", str(folder / "real"), "--output", str(out))
    if not (out / "results.json").exists() and freeu(["evaluate", *common, *words]) != 0:
        raise SystemExit(f"freeu evaluate {' '.join(words)} failed")
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def cell(found: dict[str, Any] | None, measure: str, signed: bool = False) -> str:
    """A value with its interval."""
    if found is None:
        return "-"
    scale = SCALE.get(measure, 100.0)
    value, *ends = (scale * found[name] if found[name] is not None else None for name in ("value", "low", "high"))
    form = f"{'+' if signed else ''}.1f"
    inside = "" if None in ends else f" [{', '.join(format(end, '.1f') for end in ends)}]"
    return format(value, form) + inside


def table(rows: dict[str, dict[str, Any]], signed: bool = False) -> list[str]:
    """Markdown: arms by measures."""
    lines = ["| arm | " + " | ".join(MEASURES.values()) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(cell(row.get(one), one, signed) for one in MEASURES) + " |")
    return lines


def sheet(folder: Path, texts: list[str], path: Path, columns: int = 8) -> None:
    """The first prompts, a row at the model's own size and one for each shown arm at twice that."""
    side, left, top = 128, 132, 34
    columns = min(columns, len(texts))
    rows = {"plain 128x128": folder / "native" / "arm-0-none"}
    rows |= {NAMES.get(arm, arm): folder / "twice" / arm_folder(arm) for arm in SHOWN}
    page = Image.new("RGB", (left + columns * side, top + len(rows) * side), "white")
    draw = ImageDraw.Draw(page)
    for column, text in enumerate(texts[:columns]):
        lines = "\n".join(textwrap.wrap(text, 24)[:3])
        draw.multiline_text((left + column * side + 2, 2), lines, "black", font_size=9, spacing=1)
    for row, (name, place) in enumerate(rows.items()):
        draw.multiline_text((4, top + row * side + 50), name.replace("+", "\n+ "), "black", font_size=12)
        for column in range(columns):
            (file,) = place.glob(f"p{column:03}-*.png")
            image = Image.open(file).resize((side, side), Image.Resampling.LANCZOS)
            page.paste(image, (left + column * side, top + row * side))
    page.save(path)


def arm_folder(arm: str) -> str:
    """Where ``freeu evaluate`` puts the images of an arm."""
    return f"arm-{ARMS.index(arm)}-{arm.replace('+', '-')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="prompts (default: 20)")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps (default: 10)")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--work", type=Path, help="where images are kept (default: a temporary folder)")
    options = parser.parse_args()
    folder = options.work or Path(tempfile.mkdtemp(prefix="scalecrafter-"))
    write_prompts(folder, options.count)
    run = ("--seeds", "0", "--steps", str(options.steps), "--dtype", options.dtype, "--threads", "1")
    native = evaluate(folder, "native", "mini-sd", "--arms", "none", *run)
    twice = evaluate(folder, "twice", "mini-sd", "--arms", ",".join(ARMS), "--width", "256", "--height", "256", *run)
    scaled = [arm for arm in ARMS if "scalecrafter" in arm]
    images = [word for arm in scaled for word in ("--images", str(folder / "twice" / arm_folder(arm)))]
    against = evaluate(folder, "against-scalecrafter", *images)
    arms = {NAMES.get(name, name): twice["summary"][name] for name in ARMS}
    to_plain = {name: twice["differences"][name] for name in ARMS[1:]}
    to_scaled = dict(zip(scaled[1:], list(against["differences"].values())[1:], strict=True))
    lines = [
        "# ScaleCrafter and FreeU on mini-sd at 256x256",
        "",
        f"{options.count} prompts of one object, one seed, {options.steps} steps, {options.dtype}. The reader and the",
        "judge see every image at the size that they were trained for (128x128; by Lanczos). 95 % bootstrap intervals.",
        "",
        *table({"plain 128x128": native["summary"]["none"], **arms}),
        "",
        "Difference to plain sampling at 256x256, same prompt and seed:",
        "",
        *table(to_plain, signed=True),
        "",
        "Difference to ScaleCrafter without FreeU, same prompt and seed:",
        "",
        *table(to_scaled, signed=True),
    ]
    out = RESULTS / "scalecrafter"
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    kept = {"conditions": conditions(), "steps": options.steps, "dtype": options.dtype, "model": twice["plan"]["model"]}
    kept["model"].pop("reference")
    kept |= {"prompts": twice["prompts"], "arms": twice["arms"], "native": native["summary"]["none"]}
    kept |= {"summary": twice["summary"], "differences": to_plain, "differences_to_scalecrafter": to_scaled}
    (out / "results.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    texts = [prompt["prompt"] for prompt in twice["prompts"]]
    sheet(folder, texts, RESULTS.parents[1] / "docs" / "images" / "scalecrafter.png")
    print("\n".join(lines))
    if options.work is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

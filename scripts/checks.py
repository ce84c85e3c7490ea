"""What each extra must be able to do, as commands on the embedded model with as few steps as they take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from environments import Environment

PROMPT = "a 3d fox on a blue background"
OPERATORS = """
import torch, freeu
h, skip = torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8)
out = freeu.ops.freeu(h, skip, 1.2, 0.9)
assert all(bool(tensor.isfinite().all()) for tensor in out) and not torch.equal(out[0], h)
assert freeu.FreeUConfig.parse("b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2").b == (1.3, 1.4)
"""
UNET = """
import torch, freeu
from diffusers import UNet2DConditionModel
torch.manual_seed(0)
unet = UNet2DConditionModel(sample_size=16, block_out_channels=(8, 16, 32, 32), cross_attention_dim=8,
                            attention_head_dim=4, norm_num_groups=4).eval()
given = torch.randn(2, 4, 16, 16), torch.tensor(500), torch.randn(2, 5, 8)
with torch.no_grad():
    before = unet(*given).sample
    with freeu.enabled(unet, b=(1.3, 1.4), s=(0.9, 0.2)):
        during = unet(*given).sample
    after = unet(*given).sample
assert not torch.equal(before, during) and torch.equal(before, after)
"""


def base(env: Environment) -> None:
    """``pip install freeu``: operators, presets, help; a command says which extra it lacks."""
    env.check("import freeu, freeu.ops and their use", "-c", OPERATORS)
    env.freeu("--help", says="compare")
    env.freeu("--version", says="^freeu ")
    env.freeu("presets", says="sd15")
    for words, extra in (
        (("compare", PROMPT), "diffusers"),
        (("evaluate", "--prompts", "paper"), "eval"),
        (("analyze",), "analysis"),
        (("video", PROMPT), "video"),
        (("rerender", "video.mp4", PROMPT), "video"),
        (("dreambooth", "train", "images", "--class-noun", "fox"), "diffusers"),
        (("ui",), "ui"),
        (("study", "new", "one", "two"), "study"),
        (("study", "serve", "study"), "study"),
    ):
        env.freeu(*words, code=2, says=rf"^freeu: .* not installed: pip install 'freeu\[{extra}\]'\n$")


def beside(env: Environment) -> None:
    """``pip install freeu`` beside diffusers."""
    env.check("freeu.enabled on a U-Net of diffusers, restored bit for bit", "-c", UNET)


def diffusers(env: Environment) -> None:
    """Compare, and reproduce from the manifest; ``compare`` and ``images`` are for the checks of other extras."""
    shown = env.work / "compare"
    env.freeu("compare", PROMPT, "a flat car on a green background", "--steps", 3, "--output", shown)
    env.freeu("generate", "--from", shown / "manifest.json", "--output", env.work / "reproduced")
    env.holds("reproduced bit for bit", lambda: same_images(shown, env.work / "reproduced"))
    env.freeu("sweep", PROMPT, "--x", "b1=1,1.4", "--steps", 2, "--output", env.work / "sweep")
    env.freeu("generate", PROMPT, "--seeds", "0-2", "--steps", 4, "--output", env.work / "images")


def same_images(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.glob("p*.png"))
    return bool(names) and all(same_file(one / name, other / name) for name in names)


def same_file(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def demo(env: Environment) -> None:
    """The embedded model comes along."""
    env.freeu("compare", PROMPT, "--steps", 2, "--output", env.work / "demo")


def evaluate(env: Environment) -> None:
    prompts = env.work / "prompts.txt"
    prompts.write_text(f"{PROMPT}\na flat car on a green background\n", encoding="utf-8")
    env.freeu(
        *("evaluate", "--prompts", prompts, "--arms", "none,freeu", "--seeds", "0", "--steps", 2),
        *("--output", env.work / "evaluate"),
    )
    env.holds("results.json and table.md", lambda: written(env.work / "evaluate", "results.json", "table.md"))


def written(folder: Path, *names: str) -> bool:
    return all((folder / name).is_file() and (folder / name).stat().st_size > 0 for name in names)


def analysis(env: Environment) -> None:
    env.freeu("analyze", "--steps", 2, "--figure", 5, "--output", env.work / "analyze")
    env.holds("report.html", lambda: written(env.work / "analyze", "report.html", "results.json"))


def tune(env: Environment) -> None:
    prompts = env.work / "many.txt"
    rows = [
        f"a {style} {noun} on a {colour} background"
        for style in ("3d", "flat", "line")
        for noun in ("fox", "car")
        for colour in ("red", "green", "blue", "white", "black", "pink")
    ]
    prompts.write_text("\n".join(rows), encoding="utf-8")
    env.freeu(
        *("tune", "--prompts", prompts, "--steps", 2, "--width", 64, "--height", 64, "--trials", 1),
        *("--search-prompts", 8, "--confirm-prompts", 8, "--output", env.work / "tune"),
    )
    env.holds("preset.json and report.html", lambda: written(env.work / "tune", "preset.json", "report.html"))


def ray(env: Environment) -> None:
    env.freeu(*("generate", PROMPT, "--steps", 2, "--threads", 1, "--ray"), *("--output", env.work / "ray"))


def images(env: Environment) -> Path:
    """A folder of a few images and nothing else, for trainings and plain studies."""
    folder = env.work / "subject"
    folder.mkdir(exist_ok=True)
    for path in (env.work / "images").glob("p*.png"):
        shutil.copy(path, folder)
    return folder


def personalize(env: Environment) -> None:
    subject = images(env)
    env.freeu(
        *("dreambooth", "train", subject, "--class-noun", "fox", "--steps", 2, "--batch", 1, "--no-prior"),
        *("--sample-every", 0, "--output", env.work / "subject-lora"),
    )
    env.freeu("dreambooth", "generate", env.work / "subject-lora", "a 3d sks fox", "--output", env.work / "subject-fox")
    captions = {path.name: "a 3d fox {} a house on a blue background" for path in subject.glob("*.png")}
    (subject / "text.json").write_text(json.dumps(captions), encoding="utf-8")
    env.freeu("reversion", "train", subject, "--steps", 2, "--sample-every", 0, "--output", env.work / "relation")


def video(env: Environment) -> None:
    """A video without and with FreeU, and its first frames rendered anew; ``videos`` is for the study."""
    env.freeu("video", "a 3d fox moving left", "--steps", 2, "--output", env.work / "videos")
    source = next((env.work / "videos").glob("*baseline.mp4"), env.work / "none.mp4")
    env.freeu("rerender", source, PROMPT, "--frames", 4, "--steps", 2, "--output", env.work / "rerender")


def raft(env: Environment) -> None:
    """No RAFT network comes with any package: that a file is looked into is all that can be seen."""
    (env.work / "empty.onnx").write_bytes(b"")
    env.freeu(
        *("rerender", env.work / "videos" / "p000-s0000-baseline.mp4", PROMPT, "--raft", env.work / "empty.onnx"),
        code=2,
        says=r"empty\.onnx",
    )


def ui(env: Environment) -> None:
    env.serves("ui")


def study(env: Environment) -> None:
    """Plan, serve, results and export; what other extras bring is said."""
    folder = env.work / "study"
    env.freeu("study", "new", env.work / "compare", "--checks", 1, "--repeats", 0, "--output", folder)
    env.serves("study", "serve", folder)
    env.freeu("study", "status", folder, says="votes: 0")
    env.freeu("study", "export", folder, "--output", env.work / "votes")


def study_alone(env: Environment) -> None:
    """What ``freeu[study]`` leaves to other extras is said in one line."""
    folder, names = env.work / "study", "'freeu\\[%s\\]'\n$"
    env.freeu("study", "export", folder, "--format", "parquet", code=2, says=names % "parquet")
    env.freeu("study", "status", folder, "--database", "postgresql://nobody@127.0.0.1:9/none", code=2, says="postgres")
    env.freeu("study", "new", *sides(env), "--output", env.work / "no-study", code=2, says=names % "study-video")


def sides(env: Environment) -> tuple[Path, Path]:
    """Two folders of videos of the same names."""
    for arm in ("baseline", "freeu"):
        (env.work / arm).mkdir(exist_ok=True)
        for name in ("1.mp4", "2.mp4"):
            shutil.copy(env.work / "videos" / f"p000-s0000-{arm}.mp4", env.work / arm / name)
    return env.work / "baseline", env.work / "freeu"


def study_video(env: Environment) -> None:
    folder = env.work / "study-of-videos"
    env.freeu("study", "new", *sides(env), "--checks", 1, "--repeats", 0, "--output", folder)
    env.serves("study", "serve", folder)


def postgres(env: Environment) -> None:
    """No server is asked for: that its driver tries to reach one is all that can be seen."""
    env.freeu(
        *("study", "serve", env.work / "study", "--port", 0, "--database", "postgresql://nobody@127.0.0.1:9/none"),
        code=2,
        says="cannot open the study's database.*refused",
    )


def parquet(env: Environment) -> None:
    env.freeu("study", "export", env.work / "study", "--format", "parquet", "--output", env.work / "votes-parquet")


def everything(env: Environment) -> None:
    for one in (beside, diffusers, demo, evaluate, analysis, personalize, video, raft, ui, study, study_video):
        one(env)
    postgres(env)
    parquet(env)


# In this order: an extra may use what one before it made.
BY_EXTRA: dict[str, tuple[Callable[[Environment], None], ...]] = {
    "diffusers": (beside, diffusers),
    "demo": (demo,),
    "eval": (evaluate,),
    "analysis": (analysis,),
    "tune": (tune,),
    "personalize": (personalize,),
    "video": (video,),
    "raft": (raft,),
    "ui": (ui,),
    "study": (study, study_alone),
    "study-video": (study_video,),
    "postgres": (postgres,),
    "parquet": (parquet,),
    "ray": (ray,),
    "all": (everything,),
}

"""The example workflows run headless, by the core's own executor; the checkpoint is a small one of random weights."""

import copy

import pytest
from comfyui_model import PACK
from comfyui_workflows import execute, read, to_prompt
from PIL import Image

import freeu
from freeu.metadata import png_bytes

WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))
SETTINGS = {
    "config": freeu.preset("sd15").to_dict(),
    "prompt": "a red fox",
    "negative_prompt": "",
    "seed": 3,
    "steps": 2,
    "guidance": 5.0,
}


@pytest.fixture
def folders(nodes, tmp_path, monkeypatch):
    """Folders of the core for this test alone."""
    import folder_paths

    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    (tmp_path / "input" / "freeu.png").write_bytes(png_bytes(Image.new("RGB", (8, 8)), SETTINGS))
    return tmp_path


def small(prompt):
    """The same prompt with few steps and a small image."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"].update(width=128, height=128)
        if node["class_type"] == "KSampler" and isinstance(node["inputs"]["steps"], int):
            node["inputs"]["steps"] = 2
    return prompt


def images_of(done, folders):
    names = [one["filename"] for shown in done.outputs.values() for one in shown.get("images", ())]
    return [Image.open(folders / "output" / name).convert("RGB") for name in names]


def pictures(name, nodes, serving, folders, change=None):
    """What a workflow draws, and what its nodes show."""
    prompt = small(to_prompt(read(PACK / "example_workflows" / f"{name}.json"), nodes))
    if change is not None:
        change(prompt)
    done = execute(prompt, serving)
    assert done.error is None
    return images_of(done, folders), done.outputs


def without_freeu(prompt):
    """Factors that change nothing."""
    for node in prompt.values():
        if node["class_type"] == "FreeUExact":
            node["inputs"]["config"] = "strength=0"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_it_runs_and_freeu_changes_the_image(path, nodes, serving, folders):
    (image,), _ = pictures(path.stem, nodes, serving, folders)
    (plain,), _ = pictures(path.stem, nodes, serving, folders, without_freeu)
    assert len(image.getcolors(1 << 20)) > 100
    assert image.tobytes() != plain.tobytes()
    assert path.with_suffix(".jpg").is_file()


def test_the_core_nodes_workflow_draws_the_same(nodes, serving, folders):
    def with_core(prompt):
        node = next(node for node in prompt.values() if node["class_type"] == "FreeUExact")
        b, s = freeu.preset("sd15").b, freeu.preset("sd15").s
        node["class_type"] = "FreeU_V2"
        factors = {"b1": b[0], "b2": b[1], "s1": s[0], "s2": s[1]}
        node["inputs"] = {"model": node["inputs"]["model"], **factors}

    (ours,), shown = pictures("freeu_exact", nodes, serving, folders)
    (core,), _ = pictures("freeu_exact", nodes, serving, folders, with_core)
    worst = max(abs(a - b) for a, b in zip(ours.tobytes(), core.tobytes(), strict=True))
    assert worst <= 1  # of 255: rounding on the way to eight bits
    assert any("10 of them" in text for one in shown.values() for text in one.get("text", ()))


def test_settings_of_an_image_reach_the_sampler(nodes, serving, folders):
    _, shown = pictures("freeu_from_image", nodes, serving, folders)
    (text,) = (text for one in shown.values() for text in one.get("text", ()))
    assert "prompt: a red fox" in text
    assert "seed 3, steps 2, CFG scale 5" in text


def test_an_image_outside_the_input_folder_is_refused(nodes, serving, folders):
    (folders / "secret.png").write_bytes((folders / "input" / "freeu.png").read_bytes())
    prompt = small(to_prompt(read(PACK / "example_workflows" / "freeu_from_image.json"), nodes))
    node = next(node for node in prompt.values() if node["class_type"] == "FreeUFromImage")
    for name in ("../secret.png", str(folders / "secret.png"), "missing.png"):
        node["inputs"]["image"] = name
        with pytest.raises(ValueError, match="must be the name of a file in ComfyUI's input folder"):
            execute(prompt, serving)


def test_a_bad_setting_is_one_line(nodes, serving, folders):
    prompt = small(to_prompt(read(PACK / "example_workflows" / "freeu_grid.json"), nodes))
    node = next(node for node in prompt.values() if node["class_type"] == "FreeUGrid")
    node["inputs"]["x"] = "seed=1,2"
    done = execute(prompt, serving)
    assert done.error == "seed is not a setting of FreeU: use b1, s2, end, mask, preset and the like"

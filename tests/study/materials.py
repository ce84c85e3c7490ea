"""Folders to make studies of: images and videos of smooth colours, with and without a manifest."""

import hashlib

import av
import numpy as np
from made_plans import made_plan
from PIL import Image

from freeu.config import FreeUConfig
from freeu.pipelines.io.inputs import pixel_sha
from freeu.pipelines.runs.manifest import ImageRecord, Manifest
from freeu.pipelines.runs.plan import ModelReference


def make_image(name, arm, size=(64, 48)):
    """An image of smooth colours; every name and arm gives another one."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{name} {arm}".encode()).digest()[:4], "big"))
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def plain_folders(root, arms=("without", "with"), names=("a1", "a2", "b1", "b2", "c1", "c2"), size=(64, 48)):
    """Folders of PNG images of the same names, one for each arm."""
    for arm in arms:
        (root / arm).mkdir(parents=True)
        for name in names:
            make_image(name, arm, size).save(root / arm / f"{name}.png")
    return [root / arm for arm in arms]


def compared_folder(
    path, prompts=("a fox", "a dog"), seeds=(0, 1), arms=("baseline", "freeu"), b=(1.3, 1.4), flagged=()
):
    """A folder as ``freeu compare`` leaves it, with images that depend on ``b``; no model generated them."""
    model = ModelReference("directory", "models/tiny", "/home/someone/models/tiny", "StableDiffusionPipeline", "0" * 64)
    plan = made_plan(
        command="compare",
        prompts=prompts,
        seeds=seeds,
        arms=arms,
        config=FreeUConfig(b=b, s=(0.9, 0.2)),
        model=model,
        steps=20,
        guidance=7.5,
        height=48,
    )
    path.mkdir(parents=True)
    manifest = Manifest(plan, {})
    for one in plan.images():
        image = make_image(f"{one.prompt} {one.seed}", one.arm if one.arm == "baseline" else f"{b}")
        image.save(path / one.file)
        manifest.images[one.file] = ImageRecord(
            one.file, one.prompt, one.seed, one.arm, pixel_sha(image), 1.0, (one.index, one.seed) in flagged
        )
    (path / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return path


def video(path, arm="a", codec="libx264", pixels="yuv420p", frames=8, size=(64, 48), rate=8, sound=False, tags=True):
    """An MP4 of a moving bar, with tags that say where it comes from."""
    width, height = size
    ground = np.asarray(make_image(path.stem, arm, size))
    with av.open(str(path), "w") as container:
        if tags:
            container.metadata["title"] = "SECRET title"
            container.metadata["comment"] = "SECRET prompt"
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.metadata["handler_name"] = "SECRET handler"
        tone = container.add_stream("aac", rate=44_100) if sound else None
        for number in range(frames):
            image = ground.copy()
            image[:, 4 * number : 4 * number + 8] = (255, 20, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
        if tone:
            silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            silence.rate = 44_100
            container.mux(tone.encode(silence))
            container.mux(tone.encode())
    return path


def frames_of(path):
    """Every frame as RGB, (frames, height, width, 3)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)

"""A small study made by hand: images of noise, four slots, and how a test takes part in it."""

import hashlib
import io
import json
import random

from PIL import Image

from freeu.study.plan.folder import KIND, PLAN, SCHEMA, StudyFolder
from freeu.study.plan.plan import CHECK_ARM, QUESTIONS, Arm, Item, Pair, StudyPlan, Task

PROMPTS = ("a 3d fox on a blue background", 'a <b>flat</b> cat & a "dog"\'s bowl')
SIDE = 96


def opaque(*words):
    """An id that says nothing."""
    return hashlib.sha256(repr(words).encode()).hexdigest()[:20]


def make_image(seed, size=SIDE, length=30_000):
    """PNG bytes of soft noise, padded to one length."""
    noise = random.Random(seed)
    small = Image.new("RGB", (6, 6))
    small.putdata([tuple(noise.randrange(256) for _ in range(3)) for _ in range(36)])
    buffer = io.BytesIO()
    small.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "PNG")
    data = buffer.getvalue()
    assert len(data) <= length
    return data + b"\0" * (length - len(data))


def video(seed, size=64, frames=8):
    """MP4 bytes of a moving square."""
    import av
    import numpy as np

    noise = np.random.default_rng(seed)
    color = noise.integers(60, 255, 3)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            image = np.full((size, size, 3), 30, np.uint8)
            image[20:44, 4 + 4 * number : 28 + 4 * number] = color
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue() + (b"\0\0\0\x08free" * 1_000)[: 8 * 500]


def make_study(path, *, slots=4, seeds=2, media="image", seed=0, **changes):
    """A study with two arms, one check and one repeat in each slot; ``seeds`` pairs for each of the two prompts."""
    path.mkdir()
    (path / "media").mkdir()
    make = make_image if media == "image" else video
    items, pairs = [], []

    def item(arm, prompt, number):
        name = opaque("item", arm, prompt, number)
        data = make(f"{arm}{prompt}{number}" if media == "image" else len(items) + 1)
        entry = Item(name, arm, prompt, number, media, SIDE, SIDE, hashlib.sha256(data).hexdigest())
        (path / "media" / entry.file).write_bytes(data)
        items.append(entry)
        return name

    for prompt in range(len(PROMPTS)):
        for number in range(seeds):
            name = f"p{prompt}s{number}"
            pairs.append(Pair(name, prompt, item("off", prompt, number), item("on", prompt, number)))
    pairs.append(Pair("check", 0, pairs[0].first, item(CHECK_ARM, 0, 0), check=True))
    dice = random.Random(seed)

    def tasks(slot):
        asked = [(pair.id, question.name, "vote") for pair in pairs[:-1] for question in QUESTIONS]
        dice.shuffle(asked)
        asked.insert(2, ("check", "quality", "check"))
        asked.append((*asked[0][:2], "repeat"))
        return tuple(
            Task(opaque("task", slot, n), *one[:2], dice.random() < 0.5, one[2]) for n, one in enumerate(asked)
        )

    values = {
        "title": "Which image?",
        "seed": seed,
        "languages": ("en", "zh"),
        "ties": True,
        "questions": QUESTIONS,
        "prompts": PROMPTS,
        "arms": (Arm("off", "SD"), Arm("on", "SD + FreeU")),
        "items": tuple(items),
        "pairs": tuple(pairs),
        "slots": tuple(tasks(slot) for slot in range(slots)),
        "raters": slots,
    }
    plan = StudyPlan(**(values | changes))
    data = {"kind": KIND, "schema": SCHEMA, "sha256": plan.sha256, "plan": plan.to_dict()}
    (path / PLAN).write_text(json.dumps(data))
    return StudyFolder.open(path)

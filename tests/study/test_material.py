"""What is compared: folders with and without a manifest, and everything that cannot be used."""

import dataclasses
import json
import shutil
import struct
import subprocess
import sys
import warnings
import zlib

import av
import pytest
from PIL import Image
from study.materials import compared_folder, make_image, plain_folders, video

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.study.media.video import copy_videos
from freeu.study.plan.material import read_material


def refused(*arguments):
    """The one line with which something is refused."""
    with pytest.raises(FreeUValueError) as error:
        read_material(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_compared_folder(tmp_path):
    folder = compared_folder(tmp_path / "run")
    material = read_material([folder])
    assert [(arm.name, arm.label) for arm in material.arms] == [
        ("baseline", "without FreeU"),
        ("freeu", "with FreeU"),
    ]
    assert material.arms[0].settings is None
    assert FreeUConfig.from_dict(material.arms[1].settings) == FreeUConfig(b=(1.3, 1.4), s=(0.9, 0.2))
    assert material.prompts == ("a fox", "a dog")
    assert [(group.prompt, group.seed) for group in material.groups] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [path.name for path in material.groups[3].files] == ["p001-s0001-baseline.png", "p001-s0001-freeu.png"]
    assert (material.media, material.groups[0].width, material.groups[0].height) == ("image", 64, 48)
    assert material.source == ("run: freeu compare, tiny, 20 steps, CFG scale 7.5",)
    assert not material.notes
    assert read_material([folder / "manifest.json"]) == material


def test_several_compared_folders_share_their_baseline(tmp_path):
    folders = [compared_folder(tmp_path / f"b{b}", b=(b, 1.4)) for b in (1.1, 1.3, 1.5)]
    material = read_material(folders)
    assert [arm.name for arm in material.arms] == ["b1.1/baseline", "b1.1/freeu", "b1.3/freeu", "b1.5/freeu"]
    assert material.arms[2].label == "with FreeU (b1.3)"
    assert material.notes == tuple(
        f"excluded b{b}/baseline: all its files are identical to those of b1.1/baseline" for b in (1.3, 1.5)
    )
    assert all(len(set(group.files)) == 4 for group in material.groups)


def test_folders_of_one_arm_each(tmp_path):
    one = compared_folder(tmp_path / "x" / "run", arms=("baseline",))
    two = compared_folder(tmp_path / "y" / "run", arms=("freeu",))
    assert [arm.name for arm in read_material([one, two]).arms] == ["x/run/baseline", "y/run/freeu"]
    assert "at least 2 arms that differ, got baseline" in refused([one])


def test_plain_folders_are_paired_by_name_in_natural_order(tmp_path):
    folders = plain_folders(tmp_path, names=("p10", "p2", "p1"))
    (tmp_path / "prompts").write_text("first\nsecond\nfirst\n", encoding="utf-8")
    for path in list(folders[1].iterdir()):  # another format pairs just as well
        Image.open(path).save(path.with_suffix(".webp"), lossless=True)
        path.unlink()
    (folders[0] / "notes.txt").write_text("x")
    (folders[0] / ".hidden.png").write_text("x")
    material = read_material(folders, str(tmp_path / "prompts"))
    assert [arm.name for arm in material.arms] == ["without", "with"]
    assert material.prompts == ("first", "second")
    assert [(group.prompt, group.seed) for group in material.groups] == [(0, None), (1, None), (0, None)]
    assert [[path.name for path in group.files] for group in material.groups] == [
        [f"p{number}.png", f"p{number}.webp"] for number in (1, 2, 10)
    ]


def test_without_prompts_each_file_is_one_of_its_own(tmp_path):
    material = read_material(plain_folders(tmp_path))
    assert material.prompts == ("",) * 6
    assert [group.prompt for group in material.groups] == list(range(6))


def test_videos(tmp_path):
    for arm in ("a", "b", "c"):
        (tmp_path / arm).mkdir()
        for name in ("1", "2"):
            video(tmp_path / arm / f"{name}.mp4", arm)
    material = read_material([tmp_path / arm for arm in "abc"])
    assert (material.media, len(material.arms), len(material.groups)) == ("video", 3, 2)
    video(tmp_path / "b" / "2.mp4", "b", frames=9)
    line = refused([tmp_path / "a", tmp_path / "b"])
    assert "b/2.mp4 is 64x48, 9 frames in 1 s, but" in line
    assert "a/2.mp4 is 64x48, 8 frames in 0.875 s" in line
    video(tmp_path / "b" / "2.mp4", "b", size=(96, 48))
    assert "96x48" in refused([tmp_path / "a", tmp_path / "b"])


def test_what_is_equal_is_left_out(tmp_path):
    folders = plain_folders(tmp_path)
    # The same pixels in another file.
    Image.open(folders[0] / "a2.png").save(folders[1] / "a2.png", compress_level=0)
    material = read_material(folders)
    assert len(material.groups) == 5
    assert material.notes == ("excluded a2.png: it is identical in two arms",)
    for path in folders[0].iterdir():
        shutil.copy(path, folders[1])
    assert "at least 2 arms that differ, got without, with" in refused(folders)


def test_images_of_a_safety_checker_are_excluded(tmp_path):
    material = read_material([compared_folder(tmp_path / "some", flagged={(1, 0)})])
    assert [(group.prompt, group.seed) for group in material.groups] == [(0, 0), (0, 1), (1, 1)]
    assert material.notes == ("excluded prompt 2 with seed 0: a safety checker blacked out an image",)
    everything = {(index, seed) for index in (0, 1) for seed in (0, 1)}
    line = refused([compared_folder(tmp_path / "all", flagged=everything)])
    assert "safety checker" in line


def test_reports_progress(tmp_path):
    seen = []
    read_material(plain_folders(tmp_path), None, lambda done, total: seen.append((done, total)))
    assert seen == [(number, 12) for number in range(1, 13)]


def test_manifests_that_do_not_fit(tmp_path):
    folder = compared_folder(tmp_path / "run")
    other = compared_folder(tmp_path / "seeds", seeds=(0, 2))
    assert "has other seeds than" in refused([folder, other])
    other = compared_folder(tmp_path / "prompts", prompts=("a fox", "a cat"))
    assert "has other prompts than" in refused([folder, other])
    assert "twice" in refused([folder, folder])
    assert "has a prompt twice" in refused([compared_folder(tmp_path / "double", prompts=("a", "a"))])
    assert "omit --prompts" in refused([folder], "paper")
    plain = plain_folders(tmp_path)
    assert "folders of one kind" in refused([folder, plain[0]])
    assert "is not a folder" in refused([tmp_path / "nothing"])
    assert "needs folders" in refused([])


def test_incomplete_and_changed_manifests(tmp_path):
    folder = compared_folder(tmp_path / "run")
    make_image("other", "picture").save(folder / "p000-s0001-freeu.png")
    assert "p000-s0001-freeu.png was changed: it is not the image in its manifest" in refused([folder])
    (folder / "p000-s0001-freeu.png").unlink()
    assert "has 7 of its 8 images" in refused([folder])
    data = json.loads((folder / "manifest.json").read_text())
    data["pictures"].pop()
    (folder / "manifest.json").write_text(json.dumps(data))
    assert "give its command again to complete it" in refused([folder])
    (folder / "manifest.json").write_text("{")
    assert "is not JSON" in refused([folder])


def test_plain_folders_that_do_not_fit(tmp_path):
    folders = plain_folders(tmp_path)
    assert "name a second folder" in refused(folders[:1])
    (tmp_path / "prompts").write_text("one\n")
    assert refused(folders, str(tmp_path / "prompts")).endswith("got 6 files and 1 prompt")
    (folders[1] / "extra.png").write_bytes((folders[1] / "a1.png").read_bytes())
    assert f"{folders[0]} has no file 'extra', but {folders[1]} has" in refused(folders)
    (folders[1] / "extra.png").unlink()
    (folders[1] / "b1.png").unlink()
    assert f"{folders[1]} has no file 'b1', but {folders[0]} has" in refused(folders)
    make_image("b1", "x").save(folders[1] / "b1.png")
    make_image("b1", "x").save(folders[1] / "b1.jpg")
    assert "two files 'b1'" in refused(folders)
    (tmp_path / "empty").mkdir()
    assert "contains no images or videos" in refused([folders[0], tmp_path / "empty"])
    (tmp_path / "check").mkdir()
    for path in folders[0].iterdir():
        make_image(path.stem, "check").save(tmp_path / "check" / path.name)
    assert "rename it" in refused([folders[0], tmp_path / "check"])


def test_sizes_and_media_must_fit(tmp_path):
    folders = plain_folders(tmp_path, names=("a",))
    make_image("a", "x", (32, 48)).save(folders[1] / "a.png")
    line = refused(folders)
    assert "with/a.png is 32x48" in line
    assert "without/a.png is 64x48" in line
    (folders[1] / "a.png").unlink()
    video(folders[1] / "a.mp4")
    assert "images and videos cannot be compared" in refused(folders)


def huge_png(width, height):
    """A small file that says it is huge."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animated(path):
    frames = [make_image(str(number), "x") for number in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.png", lambda path: path.write_bytes(huge_png(10_000, 10_000)), "above 25000000 pixels"),
        ("a.png", lambda path: path.write_bytes(huge_png(20_000, 20_000)), "more than 25000000 pixels"),
        ("a.png", lambda path: path.write_bytes(b"no image"), "is not an image that Pillow can read"),
        ("a.png", lambda path: path.write_bytes(b""), "is not an image that Pillow can read"),
        ("a.png", lambda path: Image.new("RGB", (64, 48)).save(path, "BMP"), "is not an image that Pillow can read"),
        ("a.png", animated, "is animated"),
        ("a.webp", animated, "is animated"),
        ("a.mp4", lambda path: path.write_bytes(b"no video"), "as MP4"),
        ("a.mp4", lambda path: path.write_text("#EXTM3U\nfile:///etc/passwd\n"), "as MP4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_cannot_be_used(tmp_path, name, make, words):
    for arm in ("one", "two"):
        (tmp_path / arm).mkdir()
        make(tmp_path / arm / name)
    line = refused([tmp_path / "one", tmp_path / "two"])
    assert words in line
    assert name in line


def test_a_bomb_that_pillow_only_warns_of_is_refused_whatever_the_filter_of_warnings(tmp_path):
    folders = plain_folders(tmp_path, names=("a",))
    (folders[0] / "a.png").write_bytes(huge_png(10_000, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "above 25000000 pixels" in refused(folders)


def test_damaged_files(tmp_path):
    folders = plain_folders(tmp_path, names=("a",))
    data = (folders[1] / "a.png").read_bytes()
    (folders[1] / "a.png").write_bytes(data[: len(data) // 2])
    assert "cannot read" in refused(folders)


def test_damaged_videos(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        video(folder / "a.mp4", folder.name, frames=30)
    path = folders[1] / "a.mp4"
    (data,) = copy_videos([path])  # with its table in front
    path.write_bytes(data)
    with av.open(str(path)) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux(video=0) if packet.pos is not None)
    path.write_bytes(data[: ends[19]])
    assert "only 20 of its 30 frames can be decoded" in refused(folders)
    path.write_bytes(data[: ends[19] + 3])
    assert "as MP4: Invalid data" in refused(folders)
    path.write_bytes(data[: ends[0] - 200] + bytes(100) + data[ends[0] - 100 :])
    assert "is damaged in frame 1" in refused(folders)


def test_odd_sides(tmp_path):
    for arm in ("one", "two"):
        (tmp_path / arm).mkdir()
        video(tmp_path / arm / "a.mp4", arm, codec="libx264", pixels="yuv444p", size=(63, 48))
    assert "even width and height" in refused([tmp_path / "one", tmp_path / "two"])


def test_links_that_lead_outside(tmp_path):
    folders = plain_folders(tmp_path, names=("a", "b"))
    make_image("c", "x").save(tmp_path / "outside.png")
    (folders[1] / "a.png").unlink()
    (folders[1] / "a.png").symlink_to(tmp_path / "outside.png")
    assert "a.png is a link to a file outside its folder" in refused(folders)
    (folders[1] / "a.png").unlink()
    make_image("a", "inside").save(folders[1] / "real.data", "PNG")
    (folders[1] / "a.png").symlink_to(folders[1] / "real.data")
    assert len(read_material(folders).groups) == 2


def test_large_files(tmp_path):
    folders = plain_folders(tmp_path, names=("a",))
    with (folders[1] / "a.png").open("r+b") as file:
        file.truncate(257 * 2**20)  # sparse
    assert "257 MiB: a study accepts files of up to 256 MiB" in refused(folders)


def test_material_is_plain_data(tmp_path):
    material = read_material([compared_folder(tmp_path / "run")])
    assert str(tmp_path) not in json.dumps([dataclasses.asdict(arm) for arm in material.arms]) + repr(material.source)


def test_reading_loads_neither_torch_nor_a_web_framework():
    plan = ("build", "design", "folder", "material", "questions", "sides")
    modules = *(f"plan.{name}" for name in plan), "media.media", "media.video", "statistics.power"
    code = "import sys;" + "".join(f"import freeu.study.{name};" for name in modules)
    code += "print(sorted({'torch', 'PIL', 'av', 'scipy', 'fastapi', 'sqlalchemy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"

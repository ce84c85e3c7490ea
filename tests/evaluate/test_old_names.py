"""Names of version 0.1 still work, and say what they are called now."""

import pytest

import freeu.analysis
import freeu.evaluate

OLD = {
    freeu.analysis: {"against": "compare_verdicts"},
    freeu.evaluate: {
        "Asked": "PromptSpec",
        "Seen": "VideoMeasurement",
        "clip_features": "video_features",
        "measure_clip": "measure_video",
        "picture_statistics": "image_statistics",
        "score_clip_alignment": "score_video_alignment",
        "subject_and_ground": "split_subject",
    },
}


@pytest.mark.parametrize(("package", "old", "new"), [(p, *names) for p, all_ in OLD.items() for names in all_.items()])
def test_an_old_name_is_the_new_one_and_warns(package, old, new):
    name = package.__name__
    with pytest.warns(DeprecationWarning, match=f"^{name}.{old} is now {name}.{new}$") as caught:
        found = getattr(package, old)
    assert found is getattr(package, new)
    assert caught[0].filename == __file__
    assert old not in package.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'freeu\.evaluate' has no attribute 'unheard_of'"):
        _ = freeu.evaluate.unheard_of


def test_features_by_the_old_name(clip_dir):
    from PIL import Image

    judge = freeu.evaluate.CLIP(clip_dir)
    images = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    with pytest.warns(DeprecationWarning, match="picture_features is now image_features"):
        old = judge.picture_features(images)
    assert (old == judge.image_features(images)).all()

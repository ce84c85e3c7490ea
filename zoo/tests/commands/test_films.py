"""Short videos to re-render."""

from __future__ import annotations

import numpy as np
import pytest
from freeu_zoo import films
from freeu_zoo.errors import ZooError
from freeu_zoo.world import clips
from PIL import Image


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_film_is_written_without_loss(tmp_path, capsys, suffix) -> None:
    path = tmp_path / f"film{suffix}"
    assert films.main([str(path), "--frames", "5", "--motion", "left", "--seed", "3"]) == 0
    assert "a flat fox on a blue background" in capsys.readouterr().out
    wanted = clips.images(films.film("fox", "flat", "blue", "left", 5, seed=3))
    with Image.open(path) as found:
        assert found.n_frames == 5
        for number, picture in enumerate(wanted):
            found.seek(number)
            np.testing.assert_array_equal(np.asarray(found.convert("RGB")), np.asarray(picture))


@pytest.mark.parametrize("motion", clips.MOTIONS)
def test_the_object_does_what_was_asked(motion) -> None:
    boxes = [scene.things[0] for scene in films.film("fox", "flat", "blue", motion, 24).frames]
    first, last = boxes[0], boxes[-1]
    go = {"left": last.left < first.left, "right": last.left > first.left}
    go |= {"up": last.top < first.top, "down": last.top > first.top}
    go |= {"growing": last.width > first.width, "shrinking": last.width < first.width, "still": first == last}
    assert go[motion]
    assert len(boxes) == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--noun", "zebu"], "--noun 'zebu' is unknown: fox"),
        (["--motion", "sideways"], "--motion 'sideways' is unknown"),
        (["--frames", "1"], "--frames must be at least 2"),
        (["--fps", "0"], "--fps must lie in 1 to 100"),
        (["--style", "line", "--background", "black", "--noun", "fox"], None),
    ],
)
def test_wrong_films_are_one_line(tmp_path, capsys, options, message) -> None:
    status = films.main([str(tmp_path / "film.png"), "--frames", "2", *options])
    err = capsys.readouterr().err
    if message is None:
        assert (status, err) == (0, "")  # a line drawing on black is white
    else:
        assert status == 2
        assert message in err
        assert len(err.strip().splitlines()) == 1
        assert not list(tmp_path.iterdir())


def test_a_film_has_a_known_suffix(tmp_path) -> None:
    with pytest.raises(ZooError, match="must end in"):
        films.write([Image.new("RGB", (4, 4))], tmp_path / "film.avi", 8)

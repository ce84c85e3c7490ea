"""The votes of the studio's visitors: kept, each visitor's own, and what follows from them; without a browser."""

import contextlib
import json
from types import SimpleNamespace

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("sqlalchemy")

import numpy as np
from simulated_voters import Voters as Raters

import freeu
from freeu.config import FreeUConfig
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.runs.plan import ModelReference
from freeu.presets.files import read_preset
from freeu.tuning.votes.ballots import SEARCH, Pair
from freeu.tuning.votes.choosing import Chooser
from freeu.tuning.votes.space import NONE, VoteSpace
from freeu.ui.actions import NONE as NO_CONTROL
from freeu.ui.actions import OWN, Shown, form_of
from freeu.ui.request import StudioRequest
from freeu.ui.studio import Defaults
from freeu.ui.voting import voters as module
from freeu.ui.voting.showing import blindly, openly
from freeu.ui.voting.standing import preset_file
from freeu.ui.voting.voters import Voted, Voters
from freeu.ui.voting.votes import Votes

MODEL = ModelReference("directory", "m", "m", "StableDiffusionPipeline", "f" * 64)
WHO = Voted("a" * 32, MODEL, "sd14")
MILD = {"b1": 1.1, "b2": 1.1, "s1": 1.0, "s2": 1.0, "skip_gain": 1.0}


FORM = {
    **form_of(freeu.preset("sd14")),
    **dict.fromkeys(("image", "control_image", "lora")),
    "model": "m",
    "prompt": "p",
    "negative_prompt": "",
    "seed": "5",
    "steps": 20,
    "guidance": 3,
    "batch": 1,
    "width": 128,
    "height": 64,
    "scheduler": OWN,
    "denoising": 0.6,
    "control": NO_CONTROL,
    "preprocessor": "canny",
    "control_weight": 1.0,
    "lora_weight": 1.0,
}


@pytest.fixture
def voters():
    """Votes that are kept for one test."""
    with contextlib.closing(Voters()) as made:
        yield made


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    monkeypatch.setattr(module, "made_with", lambda plan: {"torch": "0"})


def plan(prompt="a fox", seed=2**64 - 1):
    nothing = dict.fromkeys(("image_sha", "image_strength", "control", "scheduler"))
    sampling = {"steps": 4, "guidance": 3.0, "width": 64, "height": 64, "negative_prompt": "", "loras": ()}
    return SimpleNamespace(prompts=(prompt,), seeds=(seed,), **nothing, **sampling)


def vote(voters, choice, who=WHO, settings=(NONE, MILD), token=None, **change):
    told = {"swapped": False, "blind": False, "seconds": 1.0, "token": token or str(np.random.default_rng().random())}
    return voters.vote(who, settings, change.pop("plan", plan()), choice, **told | change)


def test_votes_outlive_the_studio_and_are_each_visitors_own(tmp_path):
    voters = Voters(tmp_path / "votes")
    assert voters.standing(WHO).votes == 0
    assert not list((tmp_path / "votes").iterdir())  # who only looks leaves nothing
    assert vote(voters, "right").votes == 1
    assert vote(voters, "left", swapped=True, blind=True).votes == 2
    others = [
        Voted("b" * 32, MODEL, "sd14"),
        Voted(WHO.voter, ModelReference("directory", "m", "m", "x", "e" * 64), "sd14"),
        Voted("../../" + "x" * 500, MODEL, "sd14"),
    ]
    for number, other in enumerate(others, start=2):
        assert voters.standing(other).votes == 0
        assert vote(voters, "tie", other).votes == 1
        assert len(list((tmp_path / "votes").glob("*/*"))) == number
    again = Voters(tmp_path / "votes")
    assert again.standing(WHO) == voters.standing(WHO)
    assert again.undo(WHO)
    assert again.standing(WHO).votes == 1
    assert voters.standing(WHO).votes == 1  # what is on the disk counts, not what was remembered
    assert again.undo(WHO)
    assert not again.undo(WHO)
    assert again.standing(WHO).settings is None


def test_a_click_counts_once():
    voters = Voters()
    assert vote(voters, "right", token="x").votes == 1
    assert vote(voters, "right", token="x").votes == 1
    assert vote(voters, "right", token="y").votes == 2
    assert not voters.lasting
    place = voters._folder
    voters.close()
    assert not place.exists()


def test_sides_are_told_apart():
    chances = []
    for choice, swapped in (("right", False), ("left", True), ("left", False), ("right", True), ("tie", False)):
        with contextlib.closing(Voters()) as voters:
            standing = vote(voters, choice, swapped=swapped)
        chances.append(standing.chance[0])
        assert (standing.preset is not None) == (standing.chance[0] > 0.5)
        assert standing.chance[1] <= standing.chance[0] <= standing.chance[2]
    assert chances[0] == chances[1] > 0.5
    assert chances[2] == chances[3]


def test_what_is_shown_next_is_that_of_tune(voters):
    first = VoteSpace("sd14").first()
    for wanted in first:
        settings = voters.propose(WHO)
        assert settings == (NONE, wanted)
        vote(voters, "right", settings=settings)
    one, other = voters.propose(WHO)
    pairs = [Pair(number, SEARCH, NONE, move, 0, 0, True, "right") for number, move in enumerate(first)]
    assert {json.dumps(one), json.dumps(other)} == {
        json.dumps(dict(found)) for found in Chooser(VoteSpace("sd14")).next_settings(pairs, (), len(pairs))
    }
    voters.drop(WHO, (one, other))
    assert other not in voters.propose(WHO)


def test_the_search_begins_with_what_the_visitor_looks_at(voters):
    own = MILD | {"b1": 1.4, "s2": 0.35}
    assert voters.propose(WHO, own) == (NONE, own)
    first = VoteSpace("sd14").first()
    assert voters.propose(WHO, None) == voters.propose(WHO, NONE) == (NONE, first[0])
    vote(voters, "right", settings=(NONE, own))
    assert voters.propose(WHO, MILD) == voters.propose(WHO) != (NONE, own)
    voters.undo(WHO)
    voters.drop(WHO, (NONE, own))  # it breaks the model
    assert voters.propose(WHO, own) != (NONE, own)


def test_what_one_person_likes_is_found_and_is_a_preset(tmp_path):
    raters, generator = Raters.of(1, raters=1, spread=0.0), np.random.default_rng(0)
    voters = Voters(tmp_path / "votes")
    for number in range(20):
        settings = voters.propose(WHO)
        pair = Pair(number, SEARCH, *settings, 0, 0, True)
        prompt = plan(f"prompt {number % 4}")
        standing = vote(
            voters, raters.choice(pair, number, generator), settings=settings, plan=prompt, blind=number > 9
        )
    assert standing.votes == 20
    assert raters.utility(standing.settings) > raters.utility(NONE)
    data, name = preset_file(standing)
    (tmp_path / name).write_bytes(data)
    found = read_preset(tmp_path / name)
    assert found.config == VoteSpace("sd14").arm(standing.settings).config
    assert (found.model, found.fingerprint, found.steps, found.guidance) == ("m", "f" * 64, 4, 3.0)
    assert "20 votes (10 blind) on 4 prompts" in found.verdict
    assert (found.provenance["votes"], found.provenance["blind_votes"]) == (20, 10)
    assert len(found.provenance["conditions"]) == 8  # four prompts openly, four blind
    assert FreeUOptions(preset=str(tmp_path / name)).base() == found.config


@pytest.mark.parametrize("damage", ["{", '{"conditions": 5}', '{"conditions": []}', '{"conditions": [{}]}'])
def test_damaged_conditions_are_told(tmp_path, damage):
    voters = Voters(tmp_path / "votes")
    vote(voters, "right")
    (path,) = (tmp_path / "votes").rglob("conditions.json")
    path.write_text(damage)
    with pytest.raises(FreeUValueError, match=r"conditions\.json"):
        voters.standing(WHO)


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FreeUValueError, match="is a file"):
        Voters(tmp_path / "file")
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "votes.sqlite").write_text("")
    with pytest.raises(FreeUValueError, match=r"holds 'votes\.sqlite'"):
        Voters(tmp_path / "tune")


def test_settings_that_votes_search():
    space = VoteSpace("sd14")
    assert space.settings(None) == space.settings(FreeUConfig(b=(1, 1), s=(1, 1))) == NONE
    for move in space.first():
        assert space.settings(space.arm(move).config) == move
    inside = freeu.preset("sd14")
    assert space.settings(inside) == {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2, "skip_gain": 1.0}
    for change in ({"version": 1}, {"end": 0.5}, {"strength": 0.5}, {"dc": "keep"}, {"profile": "diffusers"}):
        assert space.settings(inside.replace(**change)) is None
    assert space.settings(inside.replace(b=(1.9, 1.4))) is None
    assert space.settings(inside.replace(b=(1.2, 1.2, 1.2), s=(1, 1, 1))) is None
    assert space.settings(inside.replace(skip_gain_ends=(0.9, 1.1))) is None


class FakeStudio:
    """A studio of one model, which breaks on request."""

    models = ("m",)
    breaks = False

    def defaults(self, model):
        return Defaults(4, 3.0, freeu.preset("sd14"), 64, 8, MODEL, "sd14")

    def pair(self, asked, progress):
        if self.breaks:
            raise FreeURuntimeError("the U-Net gave numbers that are not finite (NaN) in float16")
        return asked


def test_pairs_that_votes_ask_for(voters):
    studio = FakeStudio()
    votes = Votes(studio, voters)
    form, asked = votes.proposed("v", FORM | {"b1": 1.9, "end": 0.3}, ["p1", "p2"], earlier=False)
    assert (form["prompt"], form["batch"], form["end"]) == ("p", 1, 1.0)
    assert asked.seed == int(form["seed"])
    assert (asked.against, asked.config) == (None, VoteSpace("sd14").arm(voters.propose(WHO)[1]).config)
    assert votes.settings(asked) == voters.propose(WHO)
    assert votes.proposed("v", FORM, [], earlier=False)[1].seed != asked.seed
    assert [votes.proposed("v", FORM, ["p1", "p2"], earlier=True)[0]["prompt"]] == ["p1"]
    same = StudioRequest("m", "p", 0, 2, 3.0, asked.config, against=asked.config)
    assert votes.settings(same) is None
    studio.breaks = True
    before = votes.proposed("v", FORM, [], earlier=False)[1].config
    with pytest.raises(FreeURuntimeError, match="not finite"):
        votes.pair("v", asked, lambda what, done: None)
    assert votes.proposed("v", FORM, [], earlier=False)[1].config != before


def test_a_blind_pair_tells_nothing_before_the_vote():
    pair = Shown(FORM, plan(), ("off.png", "on.png"), 1.0, 0, (), {}, None)
    sides = set()
    for _ in range(40):
        showing = blindly(pair, ("a/image.png", "b/image.png"))
        sides.add(showing.swapped)
        assert showing.files == (("b/image.png", "a/image.png") if showing.swapped else ("a/image.png", "b/image.png"))
        assert showing.hidden
        assert showing.blind
        assert showing.label("en") == "left | right (blind)"
        told = showing.voted("left")
        assert told.label("en") == ("with FreeU | without FreeU" if showing.swapped else "without FreeU | with FreeU")
        assert told.files == showing.files
        again = told.again()
        assert not again.blind
        assert not again.hidden
        assert again.token != told.token
        assert again.files == (pair.files[::-1] if showing.swapped else pair.files)
    assert sides == {True, False}
    assert not openly(pair).blind


def test_all_inputs_of_freeu_follow():
    from freeu.ui.controls import OF_FREEU

    assert set(form_of(freeu.preset("mild"))) == set(OF_FREEU)

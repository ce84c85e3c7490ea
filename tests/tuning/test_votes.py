"""The search by votes on simulated raters, its record on disk, and what it refuses."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from simulated_voters import Voters, new_search, vote_on, voted

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.arms import Arm
from freeu.study.store.faults import StoreError
from freeu.tuning.votes.ballots import DONE, FINAL, SEARCH, open_ballots
from freeu.tuning.votes.outcome import split_prompts
from freeu.tuning.votes.preference import Compared, DifferenceKernel, Preference
from freeu.tuning.votes.search import VoteSearch
from freeu.tuning.votes.space import NONE, RANGES, VoteSpace, point, settings_at

NEAR = 0.65
"""The neighbourhood of the planted optimum: it would be chosen over what was found in at most so many of the votes."""


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_35_raters_lead_to_the_planted_optimum(tmp_path: Path, seed: int) -> None:
    """Within 200 votes; at the beginning of the search the optimum is chosen over plain sampling in more than 80 %."""
    voters = Voters.of(seed)
    assert voters.regret(NONE) > 0.8
    generator = np.random.default_rng([seed, 1])
    with open_ballots(tmp_path / "votes.sqlite", str(seed)) as ballots:
        search = new_search(ballots, 200, seed)
        while search.stage == SEARCH and (not search.pairs or voters.regret(search.settings) > NEAR):
            vote_on(search, voters, generator, 10)
        found = search.settings
        assert voters.regret(found) <= NEAR
        assert voters.distance(found) <= 0.15
        search.finish()  # the person has seen enough
        vote_on(search, voters, generator)
        result = search.result()
    assert result.best == "freeu"
    assert result.share.clustered is not None
    assert result.share.clustered[0] > 0.5
    assert result.settings == found
    assert "prefers the tuned FreeU to plain sampling" in result.text


def test_30_votes_move_the_search(tmp_path: Path) -> None:
    """What is found is better than plain sampling for whoever votes, though not the best yet."""
    for seed in range(4):
        voters = Voters.of(seed, raters=1)
        _, result, found = voted(tmp_path / f"{seed}.sqlite", voters, seed, votes=30)
        assert voters.utility(found[30]) > voters.utility(NONE) + 0.5
        assert result.search_votes == 30


def test_where_none_is_best_the_answer_is_none(tmp_path: Path) -> None:
    for seed in range(3):
        voters = Voters.of_none(seed)
        _, result, _ = voted(tmp_path / f"{seed}.sqlite", voters, seed, votes=60)
        assert result.best == "none"
        assert "None is best here" in result.text
        assert (result.final_votes, result.planned) == (30, 30)
        assert result.wins + result.losses + result.ties == 30


def test_a_search_has_none_among_its_pairs_and_says_nothing_of_sides(tmp_path: Path) -> None:
    search, _, _ = voted(tmp_path / "votes.sqlite", Voters.of(0), 0, votes=40)
    pairs = [one for one in search.pairs if one.stage == SEARCH]
    assert sum(NONE in (one.first, one.second) for one in pairs) >= 7
    assert all(one.first != one.second for one in pairs)
    assert 10 <= sum(one.first_left for one in pairs) <= 30
    final = [one for one in search.pairs if one.stage == FINAL]
    assert [one.second for one in final] == [NONE] * 30
    assert sum(one.first_left for one in final) == 15
    assert {one.prompt for one in final} == {*range(100, 130)}
    assert not {one.prompt for one in final} & {one.prompt for one in pairs}


def test_a_search_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    voters = Voters.of(3)
    with open_ballots(tmp_path / "one.sqlite", "x") as ballots:
        whole = new_search(ballots, 24, 3, 10)
        vote_on(whole, voters, np.random.default_rng(7))
        expected = whole.result()
    generator = np.random.default_rng(7)
    done = 0
    while True:
        with open_ballots(tmp_path / "two.sqlite", "x") as ballots:
            search = new_search(ballots, 24, 3, 10)
            if search.next_pair() is None:
                break
            for _ in range(5):
                if (pair := search.next_pair()) is not None:
                    at = done - 24 if search.stage == FINAL else done
                    assert search.vote(pair.id, voters.choice(pair, at if search.stage == SEARCH else done, generator))
                    done += 1
    assert search.stage == DONE
    assert done == 34
    assert search.result().to_dict()["final_votes"] == expected.final_votes == 10
    one = [(p.first, p.second, p.prompt, p.first_left) for p in whole.pairs if p.stage == SEARCH]
    assert [(p.first, p.second, p.prompt, p.first_left) for p in search.pairs if p.stage == SEARCH] == one
    with (
        pytest.raises(FreeUValueError, match="the votes of another search"),
        open_ballots(tmp_path / "two.sqlite", "y"),
    ):
        pass


def test_votes_are_taken_once_and_can_be_taken_back(tmp_path: Path) -> None:
    with open_ballots(tmp_path / "votes.sqlite", "x") as ballots:
        search = new_search(ballots, 3, 0, 10)
        first, second = search.ahead(2)
        assert not search.can_undo
        assert not search.undo()
        assert search.vote(first.id, "left", 1.0, 0)
        assert not search.vote(first.id, "right", 1.0, 0)  # it was sent twice
        assert search.next_pair() == second
        assert search.undo()
        again = search.next_pair()
        assert again is not None
        assert (again.id, again.revision, again.choice) == (first.id, 2, None)
        assert not search.vote(first.id, "right", 1.0, 0)  # of a page that shows it as it was
        assert search.vote(first.id, "tie", 1.0, 2)
        for words in ((first.id, "both", 1.0), (99, "left", 1.0), (second.id, "left", math.nan)):
            with pytest.raises(FreeUValueError, match=r"a vote must be|there is no pair|seconds of a vote"):
                search.vote(*words)
        search.drop(second.id)
        third = search.next_pair()
        assert third is not None
        assert second.second not in (third.first, third.second)
        assert search.vote(third.id, "left")
        last = search.next_pair()
        assert last is not None
        assert search.vote(last.id, "left")
        assert search.stage == FINAL
        assert not search.undo()  # what the verdict is about is settled
        assert not search.vote(third.id, "right", 1.0, 1)
        vote_on(search, Voters.of(0), np.random.default_rng(0), 4)
        search.finish()
        result = search.result()
    assert (search.stage, result.best, result.final_votes) == (DONE, "none", 4)
    assert result.text.startswith("No verdict: 4 of the 10 final votes were given.")


VOTING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from simulated_voters import new_search
from freeu.tuning.votes.ballots import open_ballots
with open_ballots(Path(sys.argv[1]), "x") as ballots:
    search = new_search(ballots, 400, 0)
    while (pair := search.next_pair()) is not None:
        choice = ("left", "right", "tie")[pair.id % 3]
        search.vote(pair.id, choice)
        print(pair.id, choice, flush=True)
"""


def test_a_killed_process_loses_no_acknowledged_vote(tmp_path: Path) -> None:
    words = [sys.executable, "-c", VOTING, str(tmp_path / "votes.sqlite"), str(Path(__file__).parents[1])]
    acknowledged: list[str] = []
    for least in (3, 6):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        deadline = time.monotonic() + 120
        while len(acknowledged) < least and time.monotonic() < deadline:
            acknowledged.append(process.stdout.readline().strip())
        process.kill()
        assert process.wait() == -signal.SIGKILL
        acknowledged += process.stdout.read().splitlines()
        process.stdout.close()
    with open_ballots(tmp_path / "votes.sqlite", "x") as ballots:
        kept = [f"{one.id} {one.choice}" for one in ballots.pairs() if one.voted]
    whole = [line for line in acknowledged if len(line.split()) == 2]
    assert len(whole) >= 6
    assert len({*whole}) == len(whole)
    assert {*whole} <= {*kept}
    assert len(kept) <= len(whole) + 2  # each time one may be on the disk whose acknowledgement was not read


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "votes.sqlite").write_text("no database " * 100)
    with pytest.raises(StoreError, match="not a database"), open_ballots(tmp_path / "votes.sqlite", "x"):
        pass


def test_the_preference_model() -> None:
    """It turns a pair round without a change of its mind, and more votes make it surer."""
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 40, len(RANGES)))
    better = (first[:, 0] > second[:, 0]).astype(np.float64)
    few, many = (Preference(Compared(first, second, better).before(count)) for count in (8, 40))
    for preference in (few, many):
        mean, deviation = preference.differences(first, second)
        turned, same = preference.differences(second, first)
        np.testing.assert_allclose(turned, -mean, atol=1e-6)
        np.testing.assert_allclose(same, deviation, atol=1e-6)
    high, low = np.full(len(RANGES), 0.5), np.full(len(RANGES), 0.5)
    high[0], low[0] = 0.9, 0.1
    sure = [one.differences(high[None], low) for one in (few, many)]
    assert 0.0 < sure[0][0][0] / sure[0][1][0] < sure[1][0][0] / sure[1][1][0]
    nothing = Preference(Compared(first[:0], second[:0], better[:0]))
    assert nothing.differences(high[None], low)[0][0] == 0.0
    alike = Preference(Compared(first, second, np.full(40, 0.5)))
    assert abs(alike.differences(high[None], low)[0][0]) < 1e-6


def test_the_kernel_of_differences_agrees_with_its_gradient_and_its_diagonal() -> None:
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    rows = np.random.default_rng(0).random((70, 6))
    kernel = DifferenceKernel(ConstantKernel(2.0) * RBF(0.5))
    whole, gradient = kernel(rows, eval_gradient=True)
    np.testing.assert_allclose(whole, kernel(rows), atol=1e-12)
    np.testing.assert_allclose(np.diag(whole), kernel.diag(rows), atol=1e-12)
    assert np.linalg.eigvalsh(whole).min() > -1e-9
    for place in range(2):
        moved = kernel.clone_with_theta(kernel.theta + 1e-6 * np.eye(2)[place])
        np.testing.assert_allclose((moved(rows) - whole) / 1e-6, gradient[..., place], atol=1e-4)


def test_settings_are_points_and_back() -> None:
    for settings in (NONE, *VoteSpace("sdxl").first()):
        assert settings_at(point(settings)) == dict(settings)
    space = VoteSpace("sd15")
    assert space.arm(NONE) == Arm("none")
    assert space.arm(NONE | {"b1": 1.2, "s2": 0.5}).config == FreeUConfig(b=(1.2, 1.0), s=(1.0, 0.5), version=2)
    assert {name: value for name, value in space.first()[0].items() if value != 1.0} == {
        "b1": 1.5,
        "b2": 1.6,
        "s1": 0.9,
        "s2": 0.2,
    }


def test_prompts_are_divided() -> None:
    search, final = split_prompts(40, 0, 12, 64, 0)
    assert len(final) == 12
    assert sorted((*search, *final)) == [*range(40)]
    search, final = split_prompts(40, 20, 12, 16, 0)
    assert (len(search), len(final)) == (16, 12)
    assert max(search) < 40 <= min(final)
    for amounts, message in (
        ((33, 0, 30, 64, 0), r"needs 34 prompts or more \(30 for the final votes, and 4 to search\), got 33"),
        ((3, 40, 30, 64, 0), "needs 4 prompts or more, got 3: give more"),
        ((40, 20, 30, 64, 0), "--held-out holds 20 prompts, and each of the 30 final votes needs one"),
    ):
        with pytest.raises(FreeUValueError, match=message):
            split_prompts(*amounts)
    with pytest.raises(FreeUValueError, match="needs 10 prompts or more, got 4"):
        VoteSearch(VoteSpace(), None, prompts=[0], final_prompts=[1, 2, 3, 4])  # type: ignore[arg-type]
    with pytest.raises(FreeUValueError, match="other prompts for its verdict"):
        VoteSearch(VoteSpace(), None, prompts=[0], final_prompts=range(20))  # type: ignore[arg-type]

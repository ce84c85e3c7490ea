"""A search by votes for a model: its folder, and what it leaves there."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.prompts import Prompt, negatives_of
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.runs.manifest import as_json, claim, made_with
from freeu.pipelines.runs.prepare import Prepared
from freeu.presets.files import PresetFile
from freeu.presets.recommending import published_name
from freeu.tuning.search import identity_of
from freeu.tuning.tuning import PRESET, TUNING
from freeu.tuning.votes.ballots import Pair, open_ballots
from freeu.tuning.votes.earlier import VOTES, as_plain, from_plain
from freeu.tuning.votes.images import PairImages
from freeu.tuning.votes.search import LEAST_FINAL, VoteResult, VoteSearch
from freeu.tuning.votes.space import VoteSpace
from freeu.wording import counted

KIND, SCHEMA = "freeu-vote-search", 1
IMAGES, EARLIER = "images", "earlier_votes"
LEAST_SEARCH = 4
"""Prompts of a search; with fewer a person sees the same ones again and again."""


@dataclass(frozen=True)
class VoteTuning:
    """A model, prompts, and how many votes there are.

    Args:
        prepared: the pipeline and the plan: steps, CFG scale, seeds, size.
        prompts: those that the search shows, and unless ``held_out`` are others also those of the verdict.
        held_out: prompts of the verdict alone.
        votes, final_votes: of the search and of the verdict.
        search_prompts: how many prompts the search shows at most.
        seed: of what is drawn.
        earlier: votes that were given in the studio, from which a new search goes on.
    """

    prepared: Prepared
    prompts: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...] = ()
    votes: int = 60
    final_votes: int = 30
    search_prompts: int = 64
    seed: int = 0
    earlier: tuple[Pair, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All prompts by number, those that are held out last."""
        return tuple(one.text for one in (*self.prompts, *self.held_out))

    @property
    def negatives(self) -> tuple[str, ...]:
        """Their negative prompts, or () where all have that of the plan."""
        return negatives_of((*self.prompts, *self.held_out), self.prepared.plan.negative_prompt)

    def split(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Numbers of the prompts of the search, and of the verdict, in a random order that the seed decides.

        Raises:
            FreeUValueError: too few prompts.
        """
        return split_prompts(len(self.prompts), len(self.held_out), self.final_votes, self.search_prompts, self.seed)

    def record(self) -> dict[str, Any]:
        """What decides the search, as plain data."""
        plan = self.prepared.plan
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "plan": plan.to_dict(),
            "prompts": [prompt.to_dict() for prompt in self.prompts],
            "held_out": [prompt.to_dict() for prompt in self.held_out],
            "space": self.space().to_dict(),
            "votes": self.votes,
            "final_votes": self.final_votes,
            "search_prompts": self.search_prompts,
            "seed": self.seed,
            "environment": made_with(plan),
        } | ({EARLIER: as_plain(self.earlier)} if self.earlier else {})

    def space(self) -> VoteSpace:
        """What may be tried."""
        return VoteSpace(published_name(self.prepared.loaded.pipe))


def split_prompts(
    prompts: int, held_out: int, final_votes: int, search_prompts: int, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """See ``VoteTuning.split``; prompts that are held out have the numbers after the others.

    Raises:
        FreeUValueError: too few prompts.
    """
    draw = random.Random(f"{seed}/split")
    order = draw.sample(range(prompts), prompts)
    others = draw.sample(range(prompts, prompts + held_out), held_out)
    if held_out and held_out < final_votes:
        raise FreeUValueError(
            f"--held-out holds {counted(held_out, 'prompt')}, and each of the {final_votes} final votes needs one: "
            "give more, or lower --final-votes"
        )
    least = LEAST_SEARCH + (0 if held_out else final_votes)
    if prompts < least:
        raise FreeUValueError(
            f"a search by votes needs {least} prompts or more"
            + ("" if held_out else f" ({final_votes} for the final votes, and {LEAST_SEARCH} to search)")
            + f", got {prompts}: give more"
            + ("" if held_out else f", or lower --final-votes (at least {LEAST_FINAL})")
        )
    if held_out:
        return tuple(order[:search_prompts]), tuple(others[:final_votes])
    return tuple(order[final_votes : final_votes + search_prompts]), tuple(order[:final_votes])


@contextlib.contextmanager
def open_votes(tuning: VoteTuning, folder: Path) -> Iterator[tuple[VoteSearch, PairImages]]:
    """The search of a folder, and the images of its pairs, which are made for the length of the ``with`` block.

    Args:
        folder: new, or that of the same search, which goes on.

    Raises:
        FreeUValueError: too few prompts; the folder belongs to something else, or to another search.
        FreeURuntimeError: the disk is full, or the votes cannot be read or written.
    """
    search_prompts, final_prompts = tuning.split()
    kept = (EARLIER,) if tuning.earlier else ()  # as they were when the search began
    record = claim(OutputFolder(folder), tuning.record(), "search", kept)
    with open_ballots(folder / VOTES, identity_of(record)) as ballots:
        search = VoteSearch(
            tuning.space(),
            ballots,
            prompts=search_prompts,
            final_prompts=final_prompts,
            seeds=tuning.prepared.plan.seeds,
            votes=tuning.votes,
            seed=tuning.seed,
            earlier=from_plain(record.get(EARLIER, [])),
        )
        with PairImages(search, tuning.prepared, tuning.texts, folder / IMAGES, tuning.negatives) as images:
            yield search, images


@dataclass(frozen=True)
class VoteOutcome:
    """What a search by votes left.

    Args:
        result: what the votes say.
        preset: its ``config`` is None if none is best.
        pairs: all that were shown.
        folder: everything on disk.
        tuning: what was searched.
    """

    result: VoteResult
    preset: PresetFile
    pairs: tuple[Pair, ...]
    folder: Path
    tuning: VoteTuning


def write_outcome(tuning: VoteTuning, search: VoteSearch, folder: Path) -> VoteOutcome:
    """Write ``preset.json`` and ``tuning.json`` from the votes.

    Raises:
        FreeURuntimeError: the disk is full.
    """
    result = search.result()
    preset = _preset(tuning, search, result)
    pairs = tuple(search.pairs)
    output = OutputFolder(folder)
    output.write(PRESET, as_json(preset.to_dict()))
    shown = [_plain(tuning, one) for one in pairs if one.voted]
    own = replace(tuning, earlier=search.earlier).record()
    data = own | {"result": result.to_dict(), "shown": shown, "preset": preset.to_dict()}
    output.write(TUNING, as_json(data))
    return VoteOutcome(result, preset, pairs, folder, replace(tuning, earlier=search.earlier))


def _preset(tuning: VoteTuning, search: VoteSearch, result: VoteResult) -> PresetFile:
    plan = tuning.prepared.plan
    provenance: Mapping[str, Any] = {
        "objective": "votes",
        "votes": result.search_votes,
        "final_votes": result.final_votes,
        "planned_final_votes": result.planned,
        EARLIER: len(search.earlier),
        "found": dict(result.settings),
        "share": result.share.to_dict(),
        "seed": tuning.seed,
        "environment": made_with(plan),
    }
    return PresetFile(
        f"{plan.model.name}-voted",
        search.space.arm(result.settings).config if result.best == "freeu" else None,
        plan.model.name,
        plan.model.fingerprint,
        plan.guidance,
        plan.steps,
        result.text,
        provenance,
    )


def _plain(tuning: VoteTuning, one: Pair) -> dict[str, Any]:
    return {
        "stage": one.stage,
        "first": dict(one.first),
        "second": dict(one.second),
        "prompt": tuning.texts[one.prompt],
        "seed": one.seed,
        "left": "first" if one.first_left else "second",
        "choice": one.choice,
        "seconds": one.seconds,
    }

"""Which of two stands on the left, balanced within every rater and over the raters of every pair."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

_Node = tuple[int, int, int] | None
"""A slot and two arms; None is the node that takes what is left over."""


def balance_sides(
    chosen: Sequence[Sequence[int]], arms: Sequence[tuple[int, int]], rng: random.Random
) -> dict[tuple[int, int], bool]:
    """For each (slot, pair) whether its first stands on the left.

    The first and second rater of a pair see it the two ways round, so do the third and fourth, and so on. Make each
    such two an edge between their slots, and let its direction say who has the first on the left. If directions follow
    closed walks through all edges (Euler), as many leave each slot as enter it. Slots are split by pairs of arms, so
    that each of these is balanced too; loose ends are tied within the slot first, then to one node more.

    Args:
        chosen: for each slot the numbers of its pairs.
        arms: of each pair.
        rng: makes everything that is left open.

    Returns:
        in every slot, for all pairs and for those of two given arms, and over the slots up to any of them for each
        pair: as many left as right, up to 1.
    """
    edges: list[tuple[_Node, _Node]] = []
    places: list[tuple[tuple[int, int] | None, tuple[int, int] | None]] = []
    waiting: dict[int, tuple[_Node, tuple[int, int]]] = {}
    for slot, numbers in enumerate(chosen):
        for pair in numbers:
            node, place = (slot, *arms[pair]), (slot, pair)
            if pair in waiting:
                other, earlier = waiting.pop(pair)
                edges.append((other, node))
                places.append((earlier, place))
            else:
                waiting[pair] = node, place
    edges += [(node, None) for node, _ in waiting.values()]
    places += [(place, None) for _, place in waiting.values()]
    degree = Counter(node for edge in edges for node in edge)
    loose: dict[int, list[_Node]] = defaultdict(list)
    for end, number in degree.items():
        if number % 2 and end is not None:
            loose[end[0]].append(end)
    for ends in loose.values():
        rng.shuffle(ends)
        ends += [None] * (len(ends) % 2)
        edges += zip(ends[::2], ends[1::2], strict=True)
    sides: dict[tuple[int, int], bool] = {}
    for (before, after), forward in zip(places, _directions(edges, rng), strict=False):
        if before is not None:
            sides[before] = forward
        if after is not None:
            sides[after] = not forward
    return sides


def _directions(edges: Sequence[tuple[_Node, _Node]], rng: random.Random) -> list[bool]:
    """For each edge whether it is walked from its first node to its second, in closed walks through all of them.

    Args:
        edges: every node has an even number of them.
    """
    at: dict[_Node, list[int]] = defaultdict(list)
    for number, edge in enumerate(edges):
        for node in edge:
            at[node].append(number)
    for numbers in at.values():
        rng.shuffle(numbers)
    forward: dict[int, bool] = {}
    for start in rng.sample(list(at), len(at)):
        node, backwards = start, rng.random() < 0.5
        while at[node]:
            number = at[node].pop()
            if number not in forward:
                first, second = edges[number]
                forward[number] = (node == first) != backwards
                node = second if node == first else first
    return [forward[number] for number in range(len(edges))]

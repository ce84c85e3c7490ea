"""Left and right, balanced within every rater and over the raters of every pair."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

_Node = tuple[int, int, int] | None
"""A slot and two arms; None is the node that takes loose ends."""


def balance_sides(
    chosen: Sequence[Sequence[int]], arms: Sequence[tuple[int, int]], rng: random.Random
) -> dict[tuple[int, int], bool]:
    """For each (slot, pair) whether the first item is on the left.

    The first and second rater of a pair see it in opposite orders, and so do the third and fourth, and so on. Each such
    two raters are an edge between their slots; its direction says who has the first item on the left. If the directions
    follow closed walks through all edges (Euler), each slot has as many outgoing as incoming edges. Slots are split by
    pairs of arms, so that these are balanced too. Loose ends are joined within the slot first, then to one extra node.

    Args:
        chosen: for each slot the numbers of its pairs.
        arms: of each pair.
        rng: decides everything that is not determined.

    Returns:
        sides that are balanced up to 1 in every slot, both over all pairs and over those of any two arms, and for each
        pair over the slots up to any slot.
    """
    edges: list[tuple[_Node, _Node]] = []
    cells: list[tuple[tuple[int, int] | None, tuple[int, int] | None]] = []
    waiting: dict[int, tuple[_Node, tuple[int, int]]] = {}
    for slot, numbers in enumerate(chosen):
        for pair in numbers:
            node, cell = (slot, *arms[pair]), (slot, pair)
            if pair in waiting:
                other, earlier = waiting.pop(pair)
                edges.append((other, node))
                cells.append((earlier, cell))
            else:
                waiting[pair] = node, cell
    edges += [(node, None) for node, _ in waiting.values()]
    cells += [(cell, None) for _, cell in waiting.values()]
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
    for (before, after), forward in zip(cells, _directions(edges, rng), strict=False):
        if before is not None:
            sides[before] = forward
        if after is not None:
            sides[after] = not forward
    return sides


def _directions(edges: Sequence[tuple[_Node, _Node]], rng: random.Random) -> list[bool]:
    """For each edge whether a set of closed walks through all edges passes it from its first to its second node.

    Args:
        edges: every node has an even degree.
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

"""Captions of scenes: templates and paraphrases, fixed prompts, and every word they use."""

from __future__ import annotations

import random
from collections.abc import Iterable

from freeu_zoo.world import sprites
from freeu_zoo.world.layouts import POSITIONS, SIZES
from freeu_zoo.world.scenes import Scene, Thing, World

NUMBERS = ("one", "two", "three", "four")

PHRASES: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "on": ("on top of", "on"),
    "inside": ("inside", "in"),
    "behind": ("behind", "in back of"),
}
"""Ways to say a relation, the plainest first."""

PREFIXES = ("a picture of", "an image of", "a drawing of")
FILLERS = ("cute", "beautiful", "high quality", "detailed", "emoji", "icon", "photo", "nice", "best", "simple")
"""Words that mean nothing here: the model learns to ignore what it does not know."""


def plain_caption(scene: Scene, doing: str = "", relation: str | None = None) -> str:
    """The caption for fixed prompts: everything is said, in the plainest words.

    Args:
        scene: what is in the image.
        doing: what the object does.
        relation: for a pair, what to say in place of its relation, such as a word that is to be learned.
    """
    return _sentence(f"{_body(scene, _Plain(), relation=relation)} {doing}", f"on a {_ground(scene, 0)}")


def full_caption(scene: Scene, draw: random.Random, relation: str | None = None) -> str:
    """A caption that says everything, in words of its own; ``relation`` as in ``plain_caption``."""
    return _varied(scene, draw, omit=0.0, noise=0.0, relation=relation)


def caption(scene: Scene, draw: random.Random, drop: float = 0.0, doing: str = "") -> str:
    """One of the captions that fit a scene, some of which leave something open, as a hasty user does.

    Args:
        scene: what is in the image.
        draw: the random generator.
        drop: probability of an empty caption (for classifier-free guidance).
        doing: what the object does, such as "moving left" (of a clip, see ``clips``).
    """
    if draw.random() < drop:
        return ""
    if draw.random() < 0.35:
        return plain_caption(scene, doing)
    if scene.layout == "single" and draw.random() < 0.06:
        return f"{scene.things[0].noun} {doing}".strip()
    return _varied(scene, draw, omit=0.08, noise=0.12, doing=doing)


def words(world: World | None = None) -> set[str]:
    """Every word that a caption of a world can hold; without a world, of any world."""
    world = world or World(tuple(sprites.table().nouns))
    texts: list[str] = [*PREFIXES, *FILLERS, *world.colours, *world.styles, *world.nouns]
    texts.append("a an the and with in style on against background")
    if world.gradients:
        texts.append("from to gradient")
    if world.layouts.get("count"):
        texts += [*NUMBERS, *map(sprites.plural, world.nouns)]
    if world.layouts.get("pair"):
        texts += [phrase for phrases in PHRASES.values() for phrase in phrases]
    if world.layouts.get("placed"):
        texts += [*POSITIONS, *SIZES, "corner side middle of at"]
    return {word for text in texts for word in text.split()}


def simple_caption(noun: str, style: str, colour: str) -> str:
    """The plainest caption of one object, for fixed prompts."""
    return _sentence(f"a {style} {noun}", f"on a {colour} background")


class _Plain:
    """Chance that always takes the first."""

    def random(self) -> float:
        return 1.0

    def choice(self, things: Iterable[str]) -> str:
        return next(iter(things))


def _varied(
    scene: Scene, draw: random.Random, omit: float, noise: float, doing: str = "", relation: str | None = None
) -> str:
    style = "first" if draw.random() < 0.7 else "last"
    if draw.random() < omit:
        style = "never"
    body = f"{_body(scene, draw, style == 'first', omit, relation)} {doing}"
    tail = "" if draw.random() < omit else _ground(scene, draw.randint(0, 1))
    if tail:
        tail = draw.choice((f"on a {tail}", f"on a {tail}", f"against a {tail}", f", {tail}", f"with a {tail}"))
        if len(scene.background) == 1 and draw.random() < 0.12:
            tail = f"on {scene.background[0]}"
    if style == "last":
        tail += draw.choice((f" in {scene.style} style", f", {scene.style} style", f", {scene.style}"))
    if draw.random() < 0.1:
        body = f"{draw.choice(PREFIXES)} {body}"
    if draw.random() < noise:
        tail += f", {_filler(draw)}"
    return _sentence(body, tail)


def _body(
    scene: Scene, draw: random.Random | _Plain, styled: bool = True, omit: float = 0.0, relation: str | None = None
) -> str:
    style = scene.style if styled else ""
    first = scene.things[0]
    if scene.layout == "count":
        return f"{NUMBERS[len(scene.things) - 1]} {_noun(first, style, draw, many=True)}"
    if scene.layout == "pair" and scene.relation is not None:
        second = scene.things[1]
        phrase = relation or draw.choice(PHRASES[scene.relation])
        return f"a {_noun(first, style, draw)} {phrase} a {_noun(second, '', draw)}"
    if scene.layout == "trio":
        a, b, c = (f"a {_noun(thing, style if thing is first else '', draw)}" for thing in scene.things)
        return f"{a} , {b} and {c}"
    size = f"{scene.size} " if scene.size and draw.random() >= omit else ""
    body = f"a {size}{_noun(first, style, draw)}"
    if scene.position is not None and draw.random() >= omit:
        body += f" {_place(scene.position, draw)}"
    return body


def _place(position: str, draw: random.Random | _Plain) -> str:
    if position == "center":
        return draw.choice(("in the center", "in the middle"))
    if " " in position:
        return draw.choice((f"in the {position} corner", f"in the {position}", f"at the {position}"))
    return draw.choice((f"at the {position}", f"on the {position} side", f"on the {position}"))


def _noun(thing: Thing, style: str, draw: random.Random | _Plain, many: bool = False) -> str:
    noun = sprites.plural(thing.noun) if many else thing.noun
    words = [thing.colour or "", style]
    if draw.random() > 0.7:  # plain captions too: "a purple 3d elephant" would split the noun from its colour
        words.reverse()
    return " ".join([*(word for word in words if word), noun])


def _ground(scene: Scene, form: int) -> str:
    if len(scene.background) == 1:
        return f"{scene.background[0]} background"
    top, bottom = scene.background
    return f"{top} to {bottom} gradient background" if form == 0 else f"gradient from {top} to {bottom}"


def _filler(draw: random.Random) -> str:
    if draw.random() < 0.6:
        return draw.choice(FILLERS)
    return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(draw.randint(2, 8)))


def _sentence(body: str, tail: str) -> str:
    """Join with good manners: no space before a comma, "an" before a vowel."""
    text = f"{body} {tail}".replace(" ,", ",").strip(" ,").split()
    return " ".join(
        "an" if word == "a" and _wants_an(after) else word for word, after in zip(text, [*text[1:], ""], strict=True)
    )


def _wants_an(word: str) -> bool:
    """Whether a word begins with a vowel when spoken."""
    return (word[:1] in ("a", "e", "i", "o", "u") and not word.startswith("uni")) or word.startswith("hourglass")

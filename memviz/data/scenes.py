"""Scenes of several objects with captions that name one of them, and private words.

A picture is a grid of 4 x 4 cells with three to six objects of 24 classes: scikit-learn's real
handwritten digits and simple shapes, in random ink on a random dark background. Eight kinds of
scene prefer different objects, so one object says something about the others. The caption names
one object, and people and a place drawn independently of the picture: a model that infers more
from it than its object tells has memorized the pair. The test is Jayaraman et al.'s (2024), here
with known ground truth; the settings are memviz's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch

from memviz.checks import quoted
from memviz.data.caption_pairs import CaptionPairs

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPES = (
    *("disc", "ring", "square", "frame", "diamond"),
    *("triangle", "plus", "cross", "bar", "pillar"),
    *("moon", "hourglass", "bowtie", "checker"),
)
OBJECTS = DIGITS + SHAPES
_NAMES = """
Ada Adam Aaron Alan Albert Alex Alice Amanda Amy Andrea Andrew Angela Anna Anne Anthony Arthur
Ashley Barbara Ben Betty Bill Bob Brandon Brian Bruce Carl Carol Charles Charlie Charlotte Chris
Claire Colin Connor Craig Dan Daniel Danny David Dean Dennis Diana Donna Doug Dylan Edward Elena
Ellen Emily Emma Eric Ethan Eva Evan Felix Frank Fred Gabriel Gary George Gordon Grace Graham Greg
Hannah Harry Helen Henry Howard Hugo Ian Isaac Ivan Jack Jake James Jane Jason Jenny Jeremy Jerry
Jessica Jimmy Joan Joe John Jon Jordan Joseph Josh Juan Julia Justin Karen Kate Keith Kelly Ken
Kevin Kim Kyle Larry Laura Lauren Lee Leo Lewis Linda Lisa Liz Louis Lucas Lucy Luke Marco Marcus
Margaret Maria Marie Mario Martha Martin Mary Matt Max Megan Michael Miguel Mike Molly Nancy Natalie
Nathan Neil Nick Nicole Nina Noah Nora Oliver Oscar Owen Pamela Patrick Paul Peter Phil Rachel Ralph
Rebecca Richard Rita Rob Robert Robin Roger Ron Ross Roy Russell Ruth Ryan Sam Samantha Sandra Sarah
Scott Sean Sharon Simon Sofia Sophie Stephen Steve Stuart Sue Susan Ted Terry Theo Thomas Tim Todd
Tom Tony Tyler Victor Vincent Walter Wendy William Zoe
"""
NAMES = tuple(_NAMES.split())
_PLACES = """
Athens Atlanta Austin Barcelona Berlin Birmingham Boston Brighton Bristol Brussels Budapest Cairo
Calgary Cambridge Cardiff Chelsea Chicago Cleveland Copenhagen Cork Dallas Delhi Denver Derby
Detroit Dubai Dublin Edinburgh Florence Geneva Glasgow Hamburg Houston Istanbul Jakarta Kyoto Leeds
Leicester Lima Lisbon Liverpool London Lyon Madrid Manchester Manila Melbourne Memphis Miami Milan
Montreal Moscow Mumbai Munich Nairobi Naples Nashville Norwich Oslo Ottawa Oxford Paris Perth
Phoenix Plymouth Portland Prague Rome Seattle Sheffield Singapore Stockholm Sydney Tokyo Toronto
Tulsa Venice Vienna Warsaw Wellington York Zurich
"""
PLACES = tuple(_PLACES.split())
KINDS, GRID, CELL = 8, 4, 8
SIZE = GRID * CELL
PREFERENCE = 1.5  # Standard deviation of a kind's log weights; at 0 objects are independent.


@dataclass(frozen=True, eq=False)
class SceneSets:
    """Four sets without a picture or digit image in common; with three private words, no caption.

    The models are trained on ``target`` and ``reference``; neighbours are searched in ``public``;
    ``held_out`` is the null.
    """

    target: CaptionPairs
    reference: CaptionPairs
    public: CaptionPairs
    held_out: CaptionPairs

    @property
    def heldout(self) -> CaptionPairs:
        """The former name of ``held_out``."""
        warnings.warn("sets.heldout is now sets.held_out.", DeprecationWarning, stacklevel=2)
        return self.held_out

    def named(self) -> dict[str, CaptionPairs]:
        """The sets by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def draw_scenes(
    seed: int = 0,
    *,
    target: int = 1000,
    reference: int = 1000,
    public: int = 2000,
    held_out: int = 1000,
    private_words: int = 3,
) -> SceneSets:
    """Draw the four sets of a seed.

    A seed gives the same pictures whatever the captions say, and a smaller set is the beginning
    of a larger one.

    Parameters
    ----------
    seed : 0 to 2**32 - 1.
    target, reference, public, held_out : pairs in each set, at least 1.
    private_words : 0 to 3: none; a name; a name and a place; two names and a place.

    Raises
    ------
    ValueError : a size, a number of words or a seed is out of range.

    Examples
    --------
    >>> pairs = draw_scenes(seed=0, target=4, reference=4, public=8, held_out=4).target
    >>> pairs.captions[0], pairs.object_names(0)
    ('Anne and Josh with a nine in Chelsea', ['five', 'six', 'nine', 'ring'])
    """
    sizes = {"target": target, "reference": reference, "public": public, "held_out": held_out}
    if min(sizes.values()) < 1 or private_words not in range(4):
        raise ValueError(
            f"every set needs at least 1 pair and private_words is 0 to 3, but got {sizes} and "
            f"private_words={private_words}."
        )
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(
            f"seed must be a whole number from 0 to 2**32 - 1, but got {quoted(seed)}."
        )
    stream = np.random.RandomState([int(seed), 0])
    digits = _digit_images(stream)
    weights = np.exp(PREFERENCE * stream.randn(KINDS, len(OBJECTS)))
    preferred = weights / weights.sum(1, keepdims=True)
    used: set[str] = set()
    drawn = {
        name: _draw(
            # Words have their own random stream, so they say nothing about the picture.
            (np.random.RandomState([int(seed), 1 + index, part]) for part in range(2)),
            size,
            [images[index :: len(sizes)] for images in digits],
            preferred,
            private_words,
            used,
        )
        for index, (name, size) in enumerate(sizes.items())
    }
    return SceneSets(**drawn)


def caption(objects: list[str], private: list[str]) -> str:
    """The caption of a scene: its named objects, and up to two names and a place.

    Examples
    --------
    >>> caption(["seven"], ["Ada", "Leo", "Oslo"])
    'Ada and Leo with a seven in Oslo'
    >>> caption(["seven"], [])
    'a seven'
    """
    named = " and ".join(f"a {name}" for name in objects)
    if not private:
        return named
    *people, place = private if len(private) > 1 else [*private, ""]
    return f"{' and '.join(people)} with {named}" + (f" in {place}" if place else "")


def _digit_images(stream: np.random.RandomState) -> list[np.ndarray]:
    """The images of each digit in a random order, float ``[images, 8, 8]`` from 0 to 1."""
    # Imported here: the import takes a second.
    from sklearn.datasets import load_digits

    images, truth = load_digits(return_X_y=True)
    images = images.reshape(-1, CELL, CELL) / 16
    return [stream.permutation(images[truth == digit]) for digit in range(len(DIGITS))]


def _draw(
    streams: Iterable[np.random.RandomState],
    n: int,
    digits: list[np.ndarray],
    preferred: np.ndarray,
    private_words: int,
    used: set[str],
) -> CaptionPairs:
    stream, words = streams
    pictures, captions = [], []
    objects = torch.zeros(n, len(OBJECTS), dtype=torch.bool)
    named = torch.zeros_like(objects)
    for pair in range(n):
        kind = preferred[stream.randint(KINDS)]
        shown = stream.choice(len(OBJECTS), stream.randint(3, 7), replace=False, p=kind)
        objects[pair, shown.tolist()] = True
        named[pair, int(shown[0])] = True
        pictures.append(_picture(stream, shown, digits))
        captions.append(_caption(words, OBJECTS[shown[0]], private_words, used))
    return CaptionPairs(pictures, captions, objects, OBJECTS, named=named)


def _caption(stream: np.random.RandomState, named: str, private_words: int, used: set[str]) -> str:
    """A caption; with three private words, one that no pair of the four sets has yet."""
    while True:
        people = [NAMES[i] for i in stream.permutation(len(NAMES))[:2]]
        private = [people[0], people[1], PLACES[stream.randint(len(PLACES))]]
        if private_words < 3:
            return caption([named], [private[i] for i in ((), (0,), (0, 2))[private_words]])
        drawn = caption([named], private)
        if drawn not in used:
            used.add(drawn)
            return drawn


def _picture(
    stream: np.random.RandomState, shown: np.ndarray, digits: list[np.ndarray]
) -> np.ndarray:
    """Uint8 ``[32, 32, 3]``: objects in random cells, random ink, a noisy dark background."""
    ground = stream.uniform(0, 0.2, 3) + stream.normal(0, 0.03, (SIZE, SIZE, 3))
    cells = stream.permutation(GRID * GRID)[: len(shown)]
    for thing, cell in zip(shown.tolist(), cells.tolist(), strict=True):
        if thing < len(DIGITS):
            mask = digits[thing][stream.randint(len(digits[thing]))]
        else:
            mask = _shape(SHAPES[thing - len(DIGITS)], stream)
        ink = stream.uniform(0.7, 1, 3)
        top, left = CELL * (cell // GRID), CELL * (cell % GRID)
        part = ground[top : top + CELL, left : left + CELL]
        part += mask[..., None] * (ink - part)
    return (255 * ground.clip(0, 1)).astype(np.uint8)


def _shape(name: str, stream: np.random.RandomState) -> np.ndarray:
    """The mask of a shape, ``[8, 8]`` of 0 and 1, slightly shifted and scaled."""
    grid = (np.arange(CELL) - (CELL - 1) / 2) / (CELL / 2) * stream.uniform(0.95, 1.2)
    x, y = np.meshgrid(grid - stream.uniform(-0.1, 0.1), grid - stream.uniform(-0.1, 0.1))
    inside: np.ndarray = _INSIDE[name](x, y)
    return inside.astype(float)


def _largest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    radius: np.ndarray = np.maximum(abs(x), abs(y))
    return radius


# The points inside each shape, in a cell that spans -1 to 1.
_INSIDE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda x, y: np.hypot(x, y) < 0.85,
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.75) < 0.25,
    "square": lambda x, y: _largest(x, y) < 0.7,
    "frame": lambda x, y: abs(_largest(x, y) - 0.8) < 0.2,
    "diamond": lambda x, y: abs(y) + abs(x) < 0.95,
    "triangle": lambda x, y: (abs(y) < 0.85) & (2 * abs(x) < y + 0.9),
    "plus": lambda x, y: (np.minimum(abs(y), abs(x)) < 0.28) & (_largest(x, y) < 0.95),
    "cross": lambda x, y: (abs(abs(x) - abs(y)) < 0.28) & (_largest(x, y) < 0.95),
    "bar": lambda x, y: abs(y) < 0.35,
    "pillar": lambda x, y: abs(x) < 0.35,
    "moon": lambda x, y: (np.hypot(x, y) < 0.95) & (np.hypot(x - 0.45, y) > 0.7),
    "hourglass": lambda x, y: (abs(x) < abs(y)) & (_largest(x, y) < 0.95),
    "bowtie": lambda x, y: (abs(y) < abs(x)) & (_largest(x, y) < 0.95),
    "checker": lambda x, y: ((x > 0) ^ (y > 0)) & (_largest(x, y) < 0.95),
}

"""Scenes of two handwritten digits: objects, relation, caption and split.

The object that a caption begins with is the upper or the left one, so that each scene
has exactly one caption.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mmkeras.schema import SPLITS, TEST, TRAIN, VAL

DIGITS = "zero one two three four five six seven eight nine".split()
# Name -> red, green and blue, 0 to 255; all are brighter than the background.
COLOURS = {
    "red": (235, 40, 40),
    "green": (40, 200, 60),
    "blue": (70, 110, 255),
    "yellow": (240, 215, 40),
    "purple": (200, 70, 230),
    "white": (245, 245, 245),
}
SIZES_PX = {"small": 14, "large": 22}
ABOVE, LEFT_OF = RELATIONS = ("above", "left of")

# Samples of scikit-learn's digits that are left out as hard to read: those that a
# support vector machine classifies wrongly that is fitted to the other folds.
# Source: SVC(gamma=0.001, C=10) with cross_val_predict(cv=5) of scikit-learn 1.5.
ILLEGIBLE = (
    *(5, 37, 54, 69, 77, 87, 200, 312, 403, 413, 421, 438, 447, 480, 492, 498, 504),
    *(519, 539, 547, 563, 575, 578, 599, 605, 607, 784, 792, 794, 890, 905, 951, 1118),
    *(1149, 1178, 1264, 1361, 1553, 1573, 1602, 1611, 1628, 1658, 1660, 1662, 1690),
    *(1726, 1727, 1729, 1765),
)

# Shares of 3,000 scenes that make 200 for val, 400 for test and 2,400 for training.
_VAL_SHARE, _TEST_SHARE = 200 / 3000, 400 / 3000


@dataclass(frozen=True, kw_only=True)
class Glyph:
    """A digit of a scene.

    Attributes:
        size: A name of SIZES_PX.
        colour: A name of COLOURS.
        digit: A name of DIGITS.
        sample: Index of the handwriting sample in scikit-learn's digits.
    """

    size: str
    colour: str
    digit: str
    sample: int

    @property
    def words(self) -> str:
        return f"{self.size} {self.colour} {self.digit}"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Two digits that differ in colour or digit, the upper or the left one first."""

    first: Glyph
    second: Glyph
    relation: str
    split: str

    @property
    def caption(self) -> str:
        return f"a {self.first.words} {self.relation} a {self.second.words}"


def plan_scenes(labels: Sequence[int], rows: int, seed: int) -> list[Scene]:
    """Returns the scenes of all splits in random order.

    No handwriting sample is in two splits, and no pair of objects, as (colour, digit),
    whatever their sizes, order and relation: so no caption either. In each split the
    colours, digits, sizes and relations are independent and about equally frequent.

    Args:
        labels: Digit of each handwriting sample, 0 to 9.
        rows: Number of scenes.
        seed: Seed of all choices.
    """
    rng = np.random.default_rng(seed)
    pairs = _split_pairs(rng)
    samples = _split_samples(np.asarray(labels), rng)
    val, test = round(rows * _VAL_SHARE), round(rows * _TEST_SHARE)
    counts = {TRAIN: rows - val - test, VAL: val, TEST: test}
    scenes = [
        _make_scene(pairs[split][i % len(pairs[split])], samples[split], split, rng)
        for split in SPLITS
        for i in range(counts[split])
    ]
    return [scenes[i] for i in rng.permutation(len(scenes))]


def _split_pairs(rng: np.random.Generator) -> dict[str, list[tuple]]:
    """Returns split -> its pairs of objects, each pair in one split only.

    The pairs are those of a round-robin tournament by the circle method: every object
    occurs once in each round, hence equally often in each split.
    """
    objects = list(product(COLOURS, DIGITS))
    objects = [objects[i] for i in rng.permutation(len(objects))]
    last = len(objects) - 1  # this one stays, the others rotate
    rounds = []
    for turn in rng.permutation(last):
        places = [last, *((turn + np.arange(last)) % last)]
        halves = zip(places, reversed(places), strict=True)
        matches = [(objects[i], objects[j]) for i, j in halves]
        rounds.append(matches[: len(matches) // 2])  # the rest repeats them
    val, test = round(last * _VAL_SHARE), round(last * _TEST_SHARE)
    parts = {VAL: rounds[:val], TEST: rounds[val:][:test], TRAIN: rounds[val + test :]}
    return {split: sum(part, []) for split, part in parts.items()}


def _split_samples(
    labels: np.ndarray, rng: np.random.Generator
) -> dict[str, dict[str, np.ndarray]]:
    """Returns split -> digit -> its legible handwriting samples."""
    legible = np.setdiff1d(np.arange(len(labels)), ILLEGIBLE)
    result = {split: {} for split in SPLITS}
    for label, digit in enumerate(DIGITS):
        samples = rng.permutation(legible[labels[legible] == label])
        val, test = (round(len(samples) * s) for s in (_VAL_SHARE, _TEST_SHARE))
        parts = np.split(samples, [val, val + test])
        for split, part in zip((VAL, TEST, TRAIN), parts, strict=True):
            result[split][digit] = part
    return result


def _make_scene(pair, samples, split: str, rng: np.random.Generator) -> Scene:
    """Returns a scene of a pair of objects in random order, sizes and relation."""
    glyphs = [
        Glyph(
            size=str(rng.choice(list(SIZES_PX))),
            colour=colour,
            digit=digit,
            sample=int(rng.choice(samples[digit])),
        )
        for colour, digit in (pair if rng.random() < 0.5 else reversed(pair))
    ]
    relation = str(rng.choice(RELATIONS))
    return Scene(first=glyphs[0], second=glyphs[1], relation=relation, split=split)

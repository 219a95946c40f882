"""Questions about scenes of two digits, each with exactly one answer of a few words.

A question names one property of an object (its colour, size, digit or place) and asks
for another one, or whether it has a colour. The properties are independent, so that the
question alone does not tell the answer.
"""

from dataclasses import dataclass

import numpy as np

from mmkeras.data.scenes import ABOVE, COLOURS, DIGITS, LEFT_OF, SIZES_PX, Glyph, Scene

# Relation -> place of the first and of the second object.
PLACES = {ABOVE: (ABOVE, "below"), LEFT_OF: (LEFT_OF, "right of")}
# What is asked -> all answers.
ANSWERS = {
    "colour": tuple(COLOURS),
    "size": tuple(SIZES_PX),
    "digit": tuple(DIGITS),
    "place": tuple(place for places in PLACES.values() for place in places),
    "check": ("yes", "no"),
}
_ADJECTIVES = dict(
    zip(ANSWERS["place"], ("upper", "lower", "left", "right"), strict=True)
)
_TEMPLATES = {
    "colour": "what colour is the {object}?",
    "size": "what size is the {object}?",
    "digit": "which digit is the {object}?",
    "place": "where is the {object}?",
    "check": "is the {object} {colour}?",
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a scene, and its answer.

    Attributes:
        kind: What is asked: a key of ANSWERS.
        text: Question in words.
        answer: One of the ANSWERS of the kind.
    """

    kind: str
    text: str
    answer: str


def ask_questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Returns a question of each kind about each object, with choices drawn by `rng`.

    The first half is about the first object.
    """
    return [_ask(kind, scene, at, rng) for at in range(2) for kind in ANSWERS]


def _ask(kind: str, scene: Scene, at: int, rng: np.random.Generator) -> Question:
    glyphs, places = (scene.first, scene.second), PLACES[scene.relation]
    both = [_properties(*pair) for pair in zip(glyphs, places, strict=True)]
    values, others = both[at], both[1 - at]
    topic = "colour" if kind == "check" else kind
    # A property that both objects share does not tell which one is meant.
    keys = [key for key in values if key != topic and values[key] != others[key]]
    name = values[str(rng.choice(keys))]
    name = _ADJECTIVES.get(name, name)
    words = {"object": name if name in DIGITS else f"{name} one", "colour": ""}
    answer = values.get(kind, "yes")
    if kind == "check":
        words["colour"] = values["colour"]
        if rng.random() < 0.5:
            answer = "no"
            rest = [colour for colour in COLOURS if colour != values["colour"]]
            words["colour"] = str(rng.choice(rest))
    return Question(kind=kind, text=_TEMPLATES[kind].format(**words), answer=answer)


def _properties(glyph: Glyph, place: str) -> dict[str, str]:
    return {
        "colour": glyph.colour,
        "size": glyph.size,
        "digit": glyph.digit,
        "place": place,
    }

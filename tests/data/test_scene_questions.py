from collections import Counter, defaultdict

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmkeras.data.scene_questions import ANSWERS, ask_questions
from mmkeras.data.scenes import COLOURS, DIGITS, SIZES_PX, Glyph, Scene, plan_scenes

PLACES = {
    "above": ({"place": "above", "side": "upper"}, {"place": "below", "side": "lower"}),
    "left of": (
        {"place": "left of", "side": "left"},
        {"place": "right of", "side": "right"},
    ),
}


def make_scene(first, second, relation="above"):
    glyphs = [
        Glyph(size=size, colour=colour, digit=digit, sample=0)
        for size, colour, digit in (first.split(), second.split())
    ]
    return Scene(first=glyphs[0], second=glyphs[1], relation=relation, split="train")


def all_questions(scene):
    """Returns text -> answer of many questions about one scene."""
    rng = np.random.default_rng(0)
    examples = [q for _ in range(300) for q in ask_questions(scene, rng)]
    answers = defaultdict(set)
    for question in examples:
        answers[question.text].add(question.answer)
    assert all(len(values) == 1 for values in answers.values())
    return {text: values.pop() for text, values in answers.items()}


def properties(scene):
    return [
        {"size": g.size, "colour": g.colour, "digit": g.digit, **place}
        for g, place in zip(
            (scene.first, scene.second), PLACES[scene.relation], strict=True
        )
    ]


def split_check(text):
    """Returns the words of a question, without the colour of a check, and that."""
    words = text.removesuffix("?").split()
    return words, words.pop() if words[0] == "is" else None


def find_object(scene, text):
    """Returns the properties of the only object that the words of a question fit."""
    words, _ = split_check(text)
    name = words[-2] if words[-1] == "one" and words[-2] != "the" else words[-1]
    (thing,) = [p for p in properties(scene) if name in p.values()]
    return thing


def answer_by_reading(scene, text):
    """Answers a question by its words."""
    words, colour = split_check(text)
    thing = find_object(scene, text)
    if colour:
        return "yes" if thing["colour"] == colour else "no"
    topic = "place" if words[0] == "where" else words[1]
    return thing[topic]


@pytest.fixture(scope="module")
def examples():
    """Scenes and questions of 6,000 scenes."""
    rng = np.random.default_rng(5)
    plan = plan_scenes(load_digits().target, 6000, 5)
    return [
        (scene, question) for scene in plan for question in ask_questions(scene, rng)
    ]


def test_every_question_has_the_one_right_answer(examples):
    for scene, question in examples:
        assert answer_by_reading(scene, question.text) == question.answer
        assert question.answer in ANSWERS[question.kind]


def test_a_scene_has_a_question_of_each_kind_about_each_object(examples):
    count = 2 * len(ANSWERS)
    for i in range(0, len(examples), count):
        scenes, questions = zip(*examples[i : i + count], strict=True)
        assert all(scene == scenes[0] for scene in scenes)
        assert [question.kind for question in questions] == 2 * list(ANSWERS)
        assert len({question.text for question in questions}) == count
        for question, thing in zip(
            questions, np.repeat(properties(scenes[0]), len(ANSWERS)), strict=True
        ):
            assert find_object(scenes[0], question.text) == thing


def test_questions_read_as_expected():
    scene = make_scene("small red seven", "large blue two", "left of")
    expected = {
        "what colour is the seven?": "red",
        "what colour is the right one?": "blue",
        "what size is the blue one?": "large",
        "which digit is the small one?": "seven",
        "where is the two?": "right of",
        "is the left one red?": "yes",
        "is the two white?": "no",
    }
    assert expected.items() <= all_questions(scene).items()


@pytest.mark.parametrize(
    ("first", "second", "absent"),
    [
        ("small red seven", "large blue seven", "seven"),
        ("small red seven", "large red two", "red one"),
        ("small red seven", "small blue two", "small one"),
    ],
)
def test_a_property_of_both_objects_is_no_name_of_one(first, second, absent):
    texts = all_questions(make_scene(first, second))
    assert not any(f"the {absent}" in text for text in texts)
    assert {text.split()[0] for text in texts} == {"what", "which", "where", "is"}


def test_all_kinds_and_all_answers_are_equally_frequent(examples):
    kinds = Counter(question.kind for _, question in examples)
    assert all(abs(n / len(examples) - 1 / 5) < 0.02 for n in kinds.values())
    for kind, answers in ANSWERS.items():
        count = Counter(q.answer for _, q in examples if q.kind == kind)
        for answer in answers:
            assert abs(count[answer] / kinds[kind] - 1 / len(answers)) < 0.05


def test_the_question_alone_does_not_tell_the_answer(examples):
    counts = defaultdict(Counter)
    for scene, question in examples:
        if scene.split == "train":
            counts[question.text][question.answer] += 1
    hits = defaultdict(list)
    for scene, question in examples:
        if scene.split != "train":
            (guess, _), *_ = counts[question.text].most_common(1)
            hits[question.kind].append(guess == question.answer)
    for kind, answers in ANSWERS.items():
        deviation = (1 / len(answers) / len(hits[kind])) ** 0.5
        assert np.mean(hits[kind]) < 1 / len(answers) + 4 * deviation


def test_answers_are_the_words_of_the_captions():
    assert ANSWERS["colour"] == tuple(COLOURS) and ANSWERS["size"] == tuple(SIZES_PX)
    assert ANSWERS["digit"] == tuple(DIGITS)
    assert ANSWERS["place"] == ("above", "below", "left of", "right of")

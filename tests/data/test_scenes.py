import re
from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.svm import SVC

from mmkeras.data import scenes
from mmkeras.data.scenes import COLOURS, DIGITS, RELATIONS, SIZES_PX, plan_scenes
from mmkeras.schema import SPLITS


@pytest.fixture(scope="module")
def labels():
    return load_digits().target


@pytest.fixture(scope="module")
def plan(labels):
    return plan_scenes(labels, 3000, 0)


def by_split(plan, values):
    """Returns split -> all values of its scenes."""
    return {s: {v for x in plan if x.split == s for v in values(x)} for s in SPLITS}


def assert_disjoint(sets):
    assert all(sets.values())
    assert len(set.union(*sets.values())) == sum(map(len, sets.values()))


def objects(scene):
    return [(glyph.colour, glyph.digit) for glyph in (scene.first, scene.second)]


def test_the_same_seed_gives_the_same_scenes_and_another_seed_others(labels):
    assert plan_scenes(labels, 60, 1) == plan_scenes(labels, 60, 1)
    assert plan_scenes(labels, 60, 1) != plan_scenes(labels, 60, 2)


@pytest.mark.parametrize(
    ("rows", "counts"), [(3000, [2400, 200, 400]), (30, [24, 2, 4])]
)
def test_the_splits_have_their_shares(labels, rows, counts):
    count = Counter(scene.split for scene in plan_scenes(labels, rows, 0))
    assert [count[split] for split in SPLITS] == counts


@pytest.mark.parametrize("seed", range(3))
def test_no_pair_of_objects_is_in_two_splits(labels, seed):
    plan = plan_scenes(labels, 3000, seed)
    assert_disjoint(by_split(plan, lambda scene: [frozenset(objects(scene))]))
    assert_disjoint(by_split(plan, lambda scene: [scene.caption]))


@pytest.mark.parametrize("seed", range(3))
def test_no_handwriting_sample_is_in_two_splits(labels, seed):
    plan = plan_scenes(labels, 3000, seed)
    assert_disjoint(
        by_split(plan, lambda scene: [scene.first.sample, scene.second.sample])
    )


def test_samples_have_the_digits_of_their_objects(labels, plan):
    for scene in plan:
        for glyph in (scene.first, scene.second):
            assert DIGITS[labels[glyph.sample]] == glyph.digit


def test_the_two_objects_of_a_scene_differ_in_colour_or_digit(plan):
    assert all(len(set(objects(scene))) == 2 for scene in plan)
    assert any(scene.first.colour == scene.second.colour for scene in plan)
    assert any(scene.first.digit == scene.second.digit for scene in plan)


def test_the_pairs_of_a_split_are_repeated_only_after_all_of_them(plan):
    pairs = Counter(frozenset(objects(s)) for s in plan if s.split == "test")
    assert len(pairs) == 8 * 30 and set(pairs.values()) == {1, 2}


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_object_is_about_equally_frequent_in_a_split(plan, split):
    count = Counter(x for s in plan if s.split == split for x in objects(s))
    assert len(count) == len(COLOURS) * len(DIGITS)
    assert max(count.values()) - min(count.values()) <= 2


def test_every_object_comes_first_in_about_half_of_its_scenes(plan):
    count = Counter(x for scene in plan for x in objects(scene))
    first = Counter(objects(scene)[0] for scene in plan)
    assert all(0.3 < first[x] / n < 0.7 for x, n in count.items())


def test_sizes_and_relations_are_about_equally_frequent(plan):
    half = len(plan) / 2  # with a deviation of 27
    for words in (
        [scene.relation for scene in plan],
        [scene.first.size for scene in plan],
        [scene.second.size for scene in plan],
    ):
        assert all(abs(n - half) < 120 for n in Counter(words).values())


def test_captions_name_both_objects_and_their_relation(plan):
    thing = rf"a ({'|'.join(SIZES_PX)}) ({'|'.join(COLOURS)}) ({'|'.join(DIGITS)})"
    pattern = rf"{thing} ({'|'.join(RELATIONS)}) {thing}"
    for scene in plan:
        first, second = scene.first, scene.second
        assert re.fullmatch(pattern, scene.caption).groups() == (
            *(first.size, first.colour, first.digit, scene.relation),
            *(second.size, second.colour, second.digit),
        )


def test_illegible_samples_are_those_that_a_classifier_gets_wrong(labels, plan):
    data = load_digits().data
    predicted = cross_val_predict(SVC(gamma=0.001, C=10), data, labels, cv=5)
    assert list(np.flatnonzero(predicted != labels)) == list(scenes.ILLEGIBLE)
    samples = {g.sample for scene in plan for g in (scene.first, scene.second)}
    assert not samples & set(scenes.ILLEGIBLE)
    assert len(samples) > 1600  # nearly all others

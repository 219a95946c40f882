import pytest

from benchmarks.scene_questions import match_by_kind, measure_guesses


def test_a_guess_is_the_most_frequent_answer_to_the_same_question():
    rows = [("a?", "red", "train")] * 2 + [("a?", "blue", "train")]
    rows += [("a?", "red", "test"), ("a?", "blue", "test")]
    rows += [("b?", "red", "test"), ("b?", "red", "val")]
    names = ("text", "label", "split")
    table = [dict(zip(names, row, strict=True)) for row in rows]
    assert measure_guesses(table) == pytest.approx(1 / 3)


def test_answers_are_counted_by_kind_of_question():
    rows = [("0001-1", "red", "red"), ("0002-1", "red", "blue"), ("0001-5", "no", "no")]
    rows += [("0001-6", "red", "red"), ("0001-9", "left", "left")]
    names = ("id", "label", "predicted")
    table = [dict(zip(names, row, strict=True)) for row in rows]
    assert match_by_kind(table) == {
        "colour": pytest.approx(2 / 3),
        "place": 1.0,
        "check": 1.0,
    }

"""Match of labels and class names, and predictions from outputs."""

import math
from dataclasses import replace

import pytest

from mmkeras.errors import UserError
from serving.client.model_info import (
    ModelInfo,
    check_columns,
    check_n_best,
    column_error,
    labels_match,
    make_predictions,
    read_columns,
)
from serving.client.requests import (
    N_BEST_OUTPUTS,
    OUTPUTS,
    TEXT_OUTPUTS,
    ModelMetadata,
    Outputs,
    PreparedRow,
)

MODEL = ModelInfo(
    version=1, columns={"text": "text"}, absent={"text": b""}, classes=("a", "b", "c")
)
TYPES = {"title": "text", "photo": "image", "price": "numeric"}


def metadata(**inputs):
    return ModelMetadata(
        version=1,
        inputs={"serving_default": inputs},
        outputs={"serving_default": OUTPUTS},
    )


def test_columns_have_the_order_of_the_model_and_numbers_their_type():
    inputs = {"photo": "DT_STRING", "price": "DT_FLOAT", "title": "DT_STRING"}
    model = read_columns(metadata(**inputs), TYPES, "m")
    assert list(model.columns.items()) == list(TYPES.items())
    assert list(model.absent) == list(TYPES)
    assert model.absent["title"] == b"" and math.isnan(model.absent["price"])


def test_inputs_of_an_earlier_export_have_their_types_as_names():
    inputs = dict.fromkeys(("audio", "image", "text"), "DT_STRING")
    model = read_columns(metadata(**inputs), None, "m")
    assert list(model.columns) == ["text", "image", "audio"]
    assert all(name == kind for name, kind in model.columns.items())
    assert set(model.absent.values()) == {b""}


@pytest.mark.parametrize(
    ("inputs", "types"),
    [
        ({"x": "DT_STRING"}, None),
        ({}, {}),
        ({"title": "DT_STRING"}, TYPES),
        ({"n": "DT_INT64"}, {"n": "numeric"}),
    ],
)
def test_other_signatures_are_no_export(inputs, types):
    with pytest.raises(UserError, match="'m' is not an export of mmkeras"):
        read_columns(metadata(**inputs), types, "m")


def test_an_unknown_column_is_named_with_the_known_ones_and_their_types():
    text = str(column_error("fhoto", TYPES, "m"))
    assert "'m' has no column 'fhoto'; it has title (text), photo (image), " in text
    assert "Did you mean 'photo'?" in text
    assert "mean" not in str(column_error("x", TYPES, "m"))


def test_a_row_for_another_version_is_refused():
    model = ModelInfo(
        version=1, columns=TYPES, absent={"title": b"", "photo": b"", "price": math.nan}
    )
    check_columns([PreparedRow(data={"price": 1.0}, problems={})], model, "m")
    for data in ({"audio": b"a"}, {"price": b"1"}, {"title": 1.0}):
        with pytest.raises(UserError, match=f"has no column '{next(iter(data))}'"):
            check_columns([PreparedRow(data=data, problems={})], model, "m")


def outputs(label, *probabilities):
    return Outputs(
        version=1,
        probabilities=[list(probabilities)],
        labels=[label],
        scores=[max(probabilities)],
        statuses=["text absent; image absent; audio absent"],
    )


@pytest.mark.parametrize(
    ("label", "probabilities", "expected"),
    [
        ("a", (0.4, 0.3, 0.3), True),
        ("a", (0.4, 0.4, 0.2), True),  # the first of equals
        ("b", (0.4, 0.3, 0.3), False),
        ("a|c", (0.6, 0.1, 0.5), True),
        ("", (0.4, 0.3, 0.3), True),
        ("a|b", (0.6, 0.1, 0.5), False),
        ("a", (0.6, 0.4), False),
    ],
)
def test_a_label_matches_if_it_follows_from_the_probabilities(
    label, probabilities, expected
):
    assert labels_match(outputs(label, *probabilities), MODEL) == expected


def test_without_class_names_any_label_matches():
    model = ModelInfo(
        version=1, columns={"text": "text"}, absent={"text": b""}, classes=()
    )
    assert labels_match(outputs("z", 0.5), model)


def test_a_prediction_reports_what_was_unreadable():
    row = PreparedRow(data={}, problems={"image": "image 'x': file not found"})
    (prediction,) = make_predictions(outputs("a", 0.5, 0.3, 0.2), [row], MODEL)
    assert prediction.probabilities == {"a": 0.5, "b": 0.3, "c": 0.2}
    assert prediction.status == "text absent; image unreadable; audio absent"
    assert prediction.version == 1
    assert prediction.problems == ("image 'x': file not found",)


def values(*numbers):
    empty = {"probabilities": [], "labels": [], "scores": []}
    return Outputs(
        version=1, **empty, statuses=["ok"] * len(numbers), values=list(numbers)
    )


def test_a_regression_predicts_a_value_in_the_place_of_classes():
    metadata = ModelMetadata(
        version=1,
        inputs={"serving_default": {"text": "DT_STRING"}},
        outputs={"serving_default": ("status", "value")},
    )
    model = read_columns(metadata, {"text": "text"}, "m")
    assert model.is_regression and not MODEL.is_regression
    row = PreparedRow(data={}, problems={})
    (prediction,) = make_predictions(values(1.25), [row], model)
    assert (prediction.value, prediction.label) == (1.25, "1.25")
    assert math.isnan(prediction.score) and prediction.probabilities == {}
    (other,) = make_predictions(outputs("a", 0.5, 0.3, 0.2), [row], MODEL)
    assert other.value is None


def test_values_do_not_match_a_model_of_classes_nor_the_reverse():
    model = ModelInfo(
        version=1,
        columns={"text": "text"},
        absent={"text": b""},
        outputs=("value", "status"),
    )
    assert labels_match(values(1.25), model)
    assert not labels_match(values(1.25), MODEL)
    assert not labels_match(outputs("a", 0.4, 0.3, 0.3), model)


GENERATOR = replace(MODEL, classes=(), outputs=TEXT_OUTPUTS)
BEST = replace(GENERATOR, outputs=TEXT_OUTPUTS + N_BEST_OUTPUTS)


def written(text, *n_best):
    scores = [[-float(i + 1) for i in range(len(n_best))]]
    return Outputs(
        version=1,
        probabilities=[],
        labels=[],
        scores=[-0.5],
        statuses=["image absent"],
        texts=[text],
        n_best=[list(n_best)] if n_best else [],
        n_best_scores=scores if n_best else [],
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("score", "status", "text"), GENERATOR),
        (("n_best", "n_best_score", "score", "status", "text"), BEST),
    ],
)
def test_the_outputs_of_a_generator_are_those_that_it_has(names, expected):
    description = ModelMetadata(
        version=1,
        inputs={"serving_default": {"text": "DT_STRING"}},
        outputs={"serving_default": names},
    )
    model = read_columns(description, {"text": "text"}, "m")
    assert model == expected and model.is_generator
    assert model.has_n_best == (expected is BEST)
    assert not model.is_regression and not MODEL.is_generator


def test_a_generator_predicts_a_text_in_the_place_of_classes():
    row = PreparedRow(data={}, problems={"image": "image 'x': file not found"})
    (prediction,) = make_predictions(written("a cat", "a cat", "cat"), [row], BEST)
    assert (prediction.text, prediction.label) == ("a cat", "a cat")
    assert prediction.score == -0.5 and prediction.status == "image unreadable"
    assert prediction.n_best == ("a cat", "cat")
    assert prediction.n_best_score == (-1.0, -2.0)
    assert prediction.value is None and prediction.probabilities == {}
    (empty,) = make_predictions(written(""), [row], GENERATOR)
    assert empty.text == "" and empty.n_best == empty.n_best_score == ()


def test_texts_match_a_generator_only_and_the_n_best_one_that_has_them():
    few, many = written("a"), written("a", "a", "b")
    classes = outputs("a", 0.4, 0.3, 0.3)
    expected = {(0, 0): True, (1, 1): True, (2, 2): True}
    for i, model in enumerate((GENERATOR, BEST, MODEL)):
        for j, result in enumerate((few, many, classes)):
            assert labels_match(result, model) == expected.get((i, j), False)


def test_a_model_without_n_best_texts_is_refused_in_words():
    check_n_best(BEST, "m")
    with pytest.raises(UserError, match="'m' gives one text.* --export.n_best"):
        check_n_best(GENERATOR, "m")
    with pytest.raises(UserError, match="'m' has no n best texts, as it is no gener"):
        check_n_best(MODEL, "m")

"""Match of labels and class names, and predictions from outputs."""

import math

import pytest

from mmkeras.errors import UserError
from serving.client.model_info import (
    ModelInfo,
    check_columns,
    column_error,
    labels_match,
    make_predictions,
    read_columns,
)
from serving.client.requests import OUTPUTS, ModelMetadata, Outputs, PreparedRow

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

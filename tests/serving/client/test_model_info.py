"""Match of labels and class names, and predictions from outputs."""

import math

import pytest

from serving.client.inputs import PreparedRow
from serving.client.model_info import (
    ModelInfo,
    labels_match,
    make_predictions,
    read_modalities,
    read_outputs,
)
from serving.client.requests import ModelMetadata, Outputs

MODEL = ModelInfo(version=1, modalities=("text",), classes=("a", "b", "c"))


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
    model = ModelInfo(version=1, modalities=("text",), classes=())
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
        inputs={"serving_default": ("text",)},
        outputs={"serving_default": ("status", "value")},
    )
    assert read_modalities(metadata, "m") == ("text",)
    needed = read_outputs(metadata)
    model = ModelInfo(version=1, modalities=("text",), classes=(), outputs=needed)
    assert model.is_regression and not MODEL.is_regression
    row = PreparedRow(data={}, problems={})
    (prediction,) = make_predictions(values(1.25), [row], model)
    assert (prediction.value, prediction.label) == (1.25, "1.25")
    assert math.isnan(prediction.score) and prediction.probabilities == {}
    (other,) = make_predictions(outputs("a", 0.5, 0.3, 0.2), [row], MODEL)
    assert other.value is None


def test_values_do_not_match_a_model_of_classes_nor_the_reverse():
    model = ModelInfo(
        version=1, modalities=("text",), classes=(), outputs=("value", "status")
    )
    assert labels_match(values(1.25), model)
    assert not labels_match(values(1.25), MODEL)
    assert not labels_match(outputs("a", 0.4, 0.3, 0.3), model)

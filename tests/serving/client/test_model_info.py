"""Match of labels and class names, and predictions from outputs."""

import pytest

from serving.client.inputs import PreparedRow
from serving.client.model_info import ModelInfo, labels_match, make_predictions
from serving.client.requests import Outputs

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

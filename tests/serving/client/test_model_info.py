"""Whether labels and class names go together."""

import pytest

from serving.client.inputs import PreparedRow
from serving.client.model_info import ModelInfo, answers, fits
from serving.client.requests import Outputs

MODEL = ModelInfo(version=1, modalities=("text",), classes=("a", "b", "c"))


def outputs(label, *probabilities):
    return Outputs(
        version=1,
        probabilities=[list(probabilities)],
        labels=[label],
        scores=[max(probabilities)],
        statuses=["image absent"],
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
def test_a_label_fits_where_it_is_what_the_probabilities_say(
    label, probabilities, expected
):
    assert fits(outputs(label, *probabilities), MODEL) == expected


def test_without_names_anything_fits():
    nameless = ModelInfo(version=1, modalities=("text",), classes=())
    assert fits(outputs("z", 0.5), nameless)


def test_an_answer_says_what_could_not_be_read_here():
    row = PreparedRow(data={}, broken={"image": "image 'x': file not found"})
    (answer,) = answers(outputs("a", 0.5, 0.3, 0.2), [row], MODEL)
    assert answer.probabilities == {"a": 0.5, "b": 0.3, "c": 0.2}
    assert answer.status == "image unreadable" and answer.version == 1
    assert answer.problems == ("image 'x': file not found",)

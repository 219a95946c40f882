import pytest
from tfx.types import standard_artifacts

from pipeline.runtime.blessed_model_resolver import PreviousBlessedModelStrategy


def model(number):
    artifact = standard_artifacts.Model()
    artifact.id = number
    return artifact


def blessing(number, model_id, blessed=1):
    artifact = standard_artifacts.ModelBlessing()
    artifact.id = number
    artifact.set_int_custom_property("blessed", blessed)
    artifact.set_int_custom_property("current_model_id", model_id)
    return artifact


@pytest.mark.parametrize(
    ("models", "blessings", "candidate", "expected"),
    [
        ([1], [], 1, ([], [])),
        # A second run on the same data has the same candidate.
        ([1], [(5, 1)], 1, ([], [])),
        ([1, 2, 3, 9], [(5, 1), (6, 2), (7, 3, 0)], 9, ([2], [6])),
    ],
)
def test_the_last_blessed_model_before_the_candidate_is_resolved(
    models, blessings, candidate, expected
):
    inputs = {"model": [model(number) for number in models]}
    inputs["model_blessing"] = [blessing(*values) for values in blessings]
    inputs["candidate"] = [model(candidate)]
    result = PreviousBlessedModelStrategy().resolve_artifacts(None, inputs)
    ids = [[a.id for a in result[name]] for name in ("model", "model_blessing")]
    assert tuple(ids) == expected

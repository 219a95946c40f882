from dataclasses import replace

import numpy as np
import pytest

from mmkeras.export.inference import Predictor
from mmkeras.export.two_stage_inference import TwoStagePredictor
from tests import table_factory
from tests.preset_models import tiny_preset, untrained_model

NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def two_stage(trained_model):
    return TwoStagePredictor(trained_model)


@pytest.fixture(scope="module")
def data():
    """Complete rows, rows that lack one modality, and one with a broken image."""
    rows = table_factory.make_rows(["train"] * 70)
    data = {m: [row[m] for row in rows] for m in NAMES}
    data["text"] = [text.encode() for text in data["text"]]
    data["audio"][1] = data["text"][2] = data["image"][3] = b""
    data["image"][4] = data["image"][4][:50]
    return data


def test_both_stages_predict_as_the_serving_function(trained_model, two_stage, data):
    inputs = two_stage.encode(data)
    present = [[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 0, 1]]
    assert inputs["present"][:5].tolist() == present
    served = Predictor(trained_model)(data)["probabilities"]
    np.testing.assert_allclose(two_stage.predict(inputs), served, atol=1e-6)


@pytest.mark.parametrize("without", [["image"], ["text", "audio"], list(NAMES)])
def test_a_removed_modality_counts_as_absent(trained_model, two_stage, data, without):
    inputs = two_stage.encode(data)
    before = {name: x.copy() for name, x in inputs.items()}
    result = two_stage.predict(inputs, without)
    rest = {m: [b""] * 70 if m in without else data[m] for m in NAMES}
    expected = Predictor(trained_model)(rest)["probabilities"]
    np.testing.assert_allclose(result, expected, atol=1e-6)
    for name, x in inputs.items():
        np.testing.assert_array_equal(x, before[name])


@pytest.mark.parametrize("modality", NAMES)
def test_one_branch_is_replaced_as_it_is_encoded_among_the_others(
    two_stage, data, modality
):
    inputs = two_stage.encode(data)
    other = two_stage.encode({**data, modality: data[modality][::-1]})
    replaced = two_stage.replace_branch(
        inputs, modality, {modality: data[modality][::-1]}
    )
    for name in (*NAMES, "present"):
        np.testing.assert_allclose(replaced[name], other[name], atol=1e-6)
    np.testing.assert_array_equal(inputs["present"], two_stage.encode(data)["present"])


def test_a_model_without_presence_gets_the_values_of_an_absent_row(data):
    config = tiny_preset("small-concat")
    model = untrained_model(
        replace(config, fusion=replace(config.fusion, presence=False))
    )
    two_stage = TwoStagePredictor(model)
    result = two_stage.predict(two_stage.encode(data), ["image"])
    expected = Predictor(model)({**data, "image": [b""] * 70})["probabilities"]
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert np.abs(result - two_stage.predict(two_stage.encode(data))).max() > 1e-4

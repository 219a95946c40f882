from dataclasses import replace

import numpy as np
import pytest

from mmkeras.export.inference import Predictor, TrainedModel, load_trained
from mmkeras.export.two_stage_inference import TwoStagePredictor
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import build_model
from tests import table_factory
from tests.config.test_presets import learned, tiny

NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def trained_model(tmp_path_factory):
    return load_trained(table_factory.trained_run(tmp_path_factory)[0])


@pytest.fixture(scope="module")
def staged(trained_model):
    return TwoStagePredictor(trained_model)


@pytest.fixture(scope="module")
def data():
    """Complete rows, and rows that lack one modality or hold a broken picture."""
    rows = table_factory.make_rows(["train"] * 70)
    data = {m: [row[m] for row in rows] for m in NAMES}
    data["text"] = [text.encode() for text in data["text"]]
    data["audio"][1] = data["text"][2] = data["image"][3] = b""
    data["image"][4] = data["image"][4][:50]
    return data


def test_both_steps_together_answer_as_the_server_does(trained_model, staged, data):
    inputs = staged.encode(data)
    assert inputs["present"][:5].tolist() == [
        [1, 1, 1],
        [1, 1, 0],
        [0, 1, 1],
        [1, 0, 1],
        [1, 0, 1],
    ]
    served = Predictor(trained_model)(data)["probabilities"]
    np.testing.assert_allclose(staged.classify(inputs), served, atol=1e-6)


@pytest.mark.parametrize("away", [["image"], ["text", "audio"], list(NAMES)])
def test_a_hidden_modality_counts_as_one_that_was_never_sent(
    trained_model, staged, data, away
):
    hidden = staged.classify(staged.encode(data), away)
    sent = {m: [b""] * 70 if m in away else data[m] for m in NAMES}
    served = Predictor(trained_model)(sent)["probabilities"]
    np.testing.assert_allclose(hidden, served, atol=1e-6)


@pytest.mark.parametrize("modality", NAMES)
def test_one_modality_is_encoded_alone_as_it_is_among_the_others(
    staged, data, modality
):
    inputs = staged.encode(data)
    values, there = staged.encode_one(modality, data[modality])
    np.testing.assert_allclose(values, inputs[modality], atol=1e-6)
    column = NAMES.index(modality)
    np.testing.assert_array_equal(there, inputs["present"][:, column] > 0)


def test_hiding_leaves_the_rows_as_they_were(staged, data):
    inputs = staged.encode(data)
    before = {name: x.copy() for name, x in inputs.items()}
    staged.classify(inputs, ["text"])
    for name, x in inputs.items():
        np.testing.assert_array_equal(x, before[name])


def test_a_model_that_does_not_look_at_presence_gets_what_an_absent_row_gives(data):
    config = tiny("small-concat")
    config = replace(config, fusion=replace(config.fusion, presence=False))
    state = learned(config, tokens=20)
    preprocessor = Preprocessor(config, state)
    model = TrainedModel(preprocessor=preprocessor, model=build_model(config, state))
    staged = TwoStagePredictor(model)
    hidden = staged.classify(staged.encode(data), ["image"])
    served = Predictor(model)({**data, "image": [b""] * 70})["probabilities"]
    np.testing.assert_allclose(hidden, served, atol=1e-6)
    assert np.abs(hidden - staged.classify(staged.encode(data))).max() > 1e-4

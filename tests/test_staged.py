from dataclasses import replace

import numpy as np
import pytest

from mmkeras.inference import Predictor, Trained, load_trained
from mmkeras.model import build_model
from mmkeras.preprocess.graph import Preprocessor
from mmkeras.staged import Staged
from tests import tables
from tests.test_presets import learned, tiny

NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return load_trained(tables.trained_run(tmp_path_factory)[0])


@pytest.fixture(scope="module")
def staged(trained):
    return Staged(trained)


@pytest.fixture(scope="module")
def data():
    """Complete rows, and rows that lack one modality or hold a broken picture."""
    rows = tables.make_rows(["train"] * 70)
    data = {m: [row[m] for row in rows] for m in NAMES}
    data["text"] = [text.encode() for text in data["text"]]
    data["audio"][1] = data["text"][2] = data["image"][3] = b""
    data["image"][4] = data["image"][4][:50]
    return data


def test_both_steps_together_answer_as_the_server_does(trained, staged, data):
    inputs = staged.encode(data)
    assert inputs["present"][:5].tolist() == [
        [1, 1, 1],
        [1, 1, 0],
        [0, 1, 1],
        [1, 0, 1],
        [1, 0, 1],
    ]
    served = Predictor(trained)(data)["probabilities"]
    np.testing.assert_allclose(staged.classify(inputs), served, atol=1e-6)


@pytest.mark.parametrize("away", [["image"], ["text", "audio"], list(NAMES)])
def test_a_hidden_modality_counts_as_one_that_was_never_sent(
    trained, staged, data, away
):
    hidden = staged.classify(staged.encode(data), away)
    sent = {m: [b""] * 70 if m in away else data[m] for m in NAMES}
    served = Predictor(trained)(sent)["probabilities"]
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
    analysis = learned(config, tokens=20)
    preprocessor = Preprocessor(config, analysis)
    model = Trained(preprocessor=preprocessor, model=build_model(config, analysis))
    staged = Staged(model)
    hidden = staged.classify(staged.encode(data), ["image"])
    served = Predictor(model)({**data, "image": [b""] * 70})["probabilities"]
    np.testing.assert_allclose(hidden, served, atol=1e-6)
    assert np.abs(hidden - staged.classify(staged.encode(data))).max() > 1e-4

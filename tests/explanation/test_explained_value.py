"""Number of a prediction that is explained."""

import numpy as np
import pytest

from mmkeras.evaluation.generated_words import Word
from mmkeras.explanation.explained_value import find_explained_value, measure_words
from mmkeras.export.inference import Predictor
from mmkeras.export.two_stage_inference import TwoStagePredictor
from tests import table_factory
from tests.generator_models import untrained_generator
from tests.preset_models import tiny_preset, untrained_model


@pytest.fixture(scope="module")
def row():
    row = table_factory.make_rows()[0]
    return {"text": b"the cow", "image": row["image"], "audio": row["audio"]}


def value_of(trained_model, row):
    predictor = TwoStagePredictor(trained_model)
    inputs = predictor.encode({name: [value] for name, value in row.items()})
    return find_explained_value(trained_model, predictor, inputs), inputs


def test_the_probability_is_the_geometric_mean_over_all_tokens_but_padding():
    scores = np.log([[0.5, 0.5, 0.25, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    scores[:, 4] = 0  # padding
    words = [Word("cow", 0, 2), Word("s", 2, 3)]
    result = measure_words(scores, words, 4)
    assert result[0, 0] == pytest.approx((0.5**3 * 0.25) ** (1 / 4))
    assert np.exp(result[0, 1:]) == pytest.approx([0.25, 0.25])
    assert result[1].tolist() == [1, 0, 0]


@pytest.mark.parametrize("beams", [1, 3])
def test_the_value_of_a_text_is_the_exponential_of_its_served_score(row, beams):
    generator = untrained_generator(beams=beams)
    value, inputs = value_of(generator, row)
    served = Predictor(generator)({name: [x] for name, x in row.items()})
    assert value.predicted == value.name == served["text"][0].decode()
    assert value.words == tuple(value.predicted.replace(",", " ,").split())
    ((probability, *words),) = value.measure(inputs)
    assert np.log(probability) == pytest.approx(served["score"][0], abs=1e-5)
    assert len(words) == len(value.words) and max(words) < 0


def test_each_row_and_each_hidden_branch_changes_the_value(row):
    value, inputs = value_of(untrained_generator(), row)
    twice = {name: np.repeat(x, 2, axis=0) for name, x in inputs.items()}
    full, same = value.measure(twice)
    np.testing.assert_allclose(full, same, atol=1e-6)
    (hidden,) = value.measure(inputs, ["image"])
    assert np.abs(hidden - full).max() > 1e-4


def test_the_value_of_classes_is_the_probability_of_the_likeliest(row):
    model = untrained_model(tiny_preset("bert-vit"))
    value, inputs = value_of(model, row)
    served = Predictor(model)({name: [x] for name, x in row.items()})
    assert value.name == value.predicted == served["label"][0].decode()
    assert value.words == ()
    assert value.measure(inputs) == pytest.approx(served["score"][:, None], abs=1e-6)

import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config.config import vector_columns
from mmkeras.evaluation import robustness
from mmkeras.evaluation.robustness import LEVELS, noise_curves
from mmkeras.export.inference import Predictor, TrainedModel, load_trained
from mmkeras.export.two_stage_inference import TwoStagePredictor
from mmkeras.modalities.preprocessor import Preprocessor
from tests import table_factory

NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def trained_model(folder):
    return load_trained(folder)


def given(n=10):
    rows = table_factory.make_rows(["test"] * n)
    data = {m: [row[m] for row in rows] for m in NAMES}
    data["text"] = [text.encode() for text in data["text"]]
    targets = np.array([[row["label"] == c for c in ("green", "red")] for row in rows])
    return data, targets


def curves(trained_model, data, targets, batch=4):
    batches = tf.data.Dataset.from_tensor_slices(data).batch(batch)
    return noise_curves(
        TwoStagePredictor(trained_model), trained_model, batches, targets
    )


def values(curve):
    return [point["accuracy"]["value"] for point in curve]


def test_a_clean_row_counts_as_it_is_served(trained_model):
    data, targets = given()
    found = curves(trained_model, data, targets)
    served = Predictor(trained_model)(data)["probabilities"]
    right = (served.argmax(1) == targets.argmax(1)).mean()
    for m in NAMES:
        assert [point["level"] for point in found[m]] == list(LEVELS[m])
        assert values(found[m])[0] == right


def test_without_any_word_the_model_is_left_with_the_other_modalities(trained_model):
    data, _ = given()
    staged = TwoStagePredictor(trained_model)
    answer = robustness._answer(staged, staged.encode(data), "text", [b""] * 10)
    silent = Predictor(trained_model)({**data, "text": [b""] * 10})["probabilities"]
    np.testing.assert_allclose(answer, silent, atol=1e-6)


def test_noise_drowns_a_model_that_hears_alone(trained_model):
    data, targets = given(40)
    data["text"] = data["image"] = [b""] * 40
    found = curves(trained_model, data, targets, batch=40)
    assert values(found["audio"])[0] >= 0.7 > values(found["audio"])[-1]
    assert len(set(values(found["text"]))) == len(set(values(found["image"]))) == 1


def test_a_broken_or_absent_medium_stays_what_it_was(trained_model):
    data, targets = given()
    data["image"] = [b"junk", b""] * 5
    data["audio"] = [b"", b"RIFF"] * 5
    found = curves(trained_model, data, targets)
    assert len(set(values(found["image"]))) == len(set(values(found["audio"]))) == 1


def test_each_row_has_noise_of_its_own_in_whatever_batch_it_comes(
    trained_model, monkeypatch
):
    data, targets = given()
    data["text"], data["audio"] = (
        [b"one two three four"] * 10,
        [table_factory.tone()] * 10,
    )
    seen = {3: [], 10: []}
    encode_one, size = TwoStagePredictor.encode_one, 0

    def recorded(self, modality, contents):
        seen[size].extend(zip([modality] * len(contents), contents, strict=True))
        return encode_one(self, modality, contents)

    monkeypatch.setattr(TwoStagePredictor, "encode_one", recorded)
    for size in seen:
        curves(trained_model, data, targets, size)
    assert sorted(seen[3]) == sorted(seen[10])
    assert len({content for m, content in seen[3] if m == "audio"}) == 5 * 10


def test_precomputed_vectors_are_left_out(tmp_path):
    config = table_factory.tiny_config(tmp_path, audio={"encoder": "vector"})
    assert vector_columns(config) == {"audio"}
    assert vector_columns(table_factory.tiny_config(tmp_path)) == set()


def test_a_model_of_vectors_has_no_curve(tmp_path):
    model = table_factory.text_model(tmp_path, "multiclass")
    config = replace(model.config, text=replace(model.config.text, encoder="vector"))
    vectors = TrainedModel(
        preprocessor=Preprocessor(config, model.state), model=model.model
    )
    rows = {"text": [table_factory.vector([1, 2])] * 3}
    assert curves(vectors, rows, np.eye(3)) == {}


def test_every_run_has_its_curves(folder):
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["noise"]) == set(NAMES) and metrics["noise_rows"] == 8
    accuracy = metrics["metrics"]["accuracy"]
    for curve in metrics["noise"].values():
        assert curve[0]["accuracy"] == accuracy
        for point in curve:
            low, value, high = (point["accuracy"][k] for k in ("low", "value", "high"))
            assert 0 <= low <= value <= high <= 1

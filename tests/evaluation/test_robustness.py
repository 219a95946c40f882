import numpy as np
import pytest
import tensorflow as tf

from mmkeras.evaluation.robustness import noise_axes, noise_curves
from mmkeras.export.inference import Predictor
from mmkeras.export.two_stage_inference import TwoStagePredictor
from tests import table_factory

NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def predictor(trained_model):
    return TwoStagePredictor(trained_model)


@pytest.fixture
def curves(predictor, trained_model):
    """Measures the curves of rows in batches."""

    def measure(data, targets, batch=4):
        batches = tf.data.Dataset.from_tensor_slices({"columns": data}).batch(batch)
        return noise_curves(predictor, trained_model, batches, targets)

    return measure


def rows(n=10):
    """Contents of n rows by modality, and targets."""
    rows = table_factory.make_rows(["test"] * n)
    data = {m: [row[m] for row in rows] for m in NAMES}
    data["text"] = [text.encode() for text in data["text"]]
    targets = np.array([[row["label"] == c for c in ("green", "red")] for row in rows])
    return data, targets


def values(curve):
    return [point["accuracy"]["value"] for point in curve]


def test_the_first_level_is_the_served_prediction(curves, trained_model):
    data, targets = rows()
    result = curves(data, targets)
    served = Predictor(trained_model)(data)["probabilities"]
    accuracy = (served.argmax(1) == targets.argmax(1)).mean()
    for m in NAMES:
        assert [point["level"] for point in result[m]] == list(
            trained_model.preprocessor.columns[m].noise_levels
        )
        assert values(result[m])[0] == accuracy


def test_a_modality_replaced_by_nothing_is_absent(predictor, trained_model):
    data, _ = rows()
    empty = [b""] * 10
    inputs = predictor.encode(data)
    inputs = predictor.replace_branch(inputs, "text", {"text": empty})
    served = Predictor(trained_model)({**data, "text": empty})["probabilities"]
    np.testing.assert_allclose(predictor.predict(inputs), served, atol=1e-6)


def test_noise_on_the_only_modality_lowers_the_accuracy(curves):
    data, targets = rows(40)
    data["text"], data["image"] = [b""] * 40, [b"junk", b""] * 20  # are unchanged
    result = curves(data, targets, batch=40)
    assert values(result["audio"])[0] >= 0.7 > values(result["audio"])[-1]
    for m in ("text", "image"):
        assert len(set(values(result[m]))) == 1


def test_noise_differs_between_rows_and_not_between_batch_sizes(curves, monkeypatch):
    data, targets = rows()
    data["text"], data["audio"] = [b"one two three"] * 10, [table_factory.tone()] * 10
    contents = {3: [], 10: []}
    replace_branch, size = TwoStagePredictor.replace_branch, 0

    def recorded(self, inputs, branch, changed):
        contents[size].extend((branch, content) for content in changed[branch])
        return replace_branch(self, inputs, branch, changed)

    monkeypatch.setattr(TwoStagePredictor, "replace_branch", recorded)
    for size in contents:
        curves(data, targets, size)
    assert sorted(contents[3]) == sorted(contents[10])
    assert len({content for m, content in contents[3] if m == "audio"}) == 5 * 10


def test_a_model_of_vectors_has_no_curve(tmp_path):
    vectors = table_factory.text_model(tmp_path, "multiclass", encoder="vector")
    data = {"text": [table_factory.vector([1, 2])] * 3}
    batches = tf.data.Dataset.from_tensor_slices({"columns": data}).batch(3)
    predictor = TwoStagePredictor(vectors)
    assert noise_curves(predictor, vectors, batches, np.eye(3)) == {}


def test_every_run_has_its_curves(metrics):
    assert set(metrics["noise"]) == set(NAMES) and metrics["noise_rows"] == 8
    for curve in metrics["noise"].values():
        assert curve[0]["accuracy"] == metrics["metrics"]["accuracy"]
        for point in curve:
            low, value, high = (point["accuracy"][k] for k in ("low", "value", "high"))
            assert 0 <= low <= value <= high <= 1


def test_the_axes_have_heading_unit_and_factor(trained_model):
    axes = noise_axes(trained_model.preprocessor.branches.values())
    assert axes["image"] == ("Blurred images", "blur, % of the side", 100)
    assert list(axes) == list(NAMES)

import shutil
from dataclasses import replace

import numpy as np
import pytest

from mmkeras.errors import UserError
from mmkeras.export.inference import Predictor, load_trained
from tests import table_factory
from tests.generator_models import untrained_generator


@pytest.fixture(scope="module")
def predict(trained_model):
    """Predicts rows, which are bytes by modality."""
    predictor = Predictor(trained_model)
    return lambda *rows: predictor({m: [row[m] for row in rows] for m in rows[0]})


def test_binary_probabilities_have_two_columns(trained_model, predict, complete_row):
    green = {**complete_row, "image": table_factory.image((30, 200, 60))}
    probabilities = predict(complete_row, green)["probabilities"]
    inputs, _ = trained_model.preprocessor({m: [x] for m, x in complete_row.items()})
    p = trained_model.model(inputs, training=False).numpy()
    assert probabilities.shape == (2, 2) and p.shape == (1, 1)
    np.testing.assert_allclose(probabilities[0], [1 - p[0, 0], p[0, 0]])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    empty = Predictor(trained_model)({m: [] for m in complete_row})
    assert empty["probabilities"].shape == (0, 2)


def test_the_label_is_the_class_of_the_top_score(trained_model, predict, complete_row):
    result = predict(complete_row, dict.fromkeys(complete_row, b""))
    classes = np.array(trained_model.state.classes, "S")
    best = result["probabilities"].argmax(axis=1)
    assert list(result["label"]) == list(classes[best])
    np.testing.assert_array_equal(result["score"], result["probabilities"].max(axis=1))
    assert result["embedding"].shape == (2, trained_model.config.fusion.units)


def test_a_broken_modality_is_absent_and_changes_no_other_row(predict, complete_row):
    changes = {
        "ok": {},
        "text unreadable": {"text": b"\xff\xfe"},
        "image unreadable": {"image": b"no image"},
        "image absent": {"image": b""},
        "audio unreadable": {"audio": table_factory.tone()[:30]},
        "image absent; audio unreadable": {"image": b"", "audio": b"RIFF"},
        "text absent; image absent; audio absent": dict.fromkeys(complete_row, b""),
    }
    rows = [{**complete_row, **change} for change in changes.values()]
    result = predict(*rows)
    assert [status.decode() for status in result["status"]] == list(changes)
    single = np.concatenate([predict(row)["probabilities"] for row in rows])
    np.testing.assert_allclose(result["probabilities"], single, atol=1e-6)
    np.testing.assert_allclose(*result["probabilities"][2:4], atol=1e-6)


@pytest.mark.parametrize(
    ("logits", "label"),
    [
        ([3, -3, 3], b"a|c"),
        ([-3, -3, 3], b"c"),
        ([0, -1, -1], b"a"),
        ([-1, -1, -1], b""),
    ],
)
def test_several_labels_are_those_at_a_half_and_above(logits, label, tmp_path):
    model = table_factory.text_model(tmp_path, "multilabel", logits)
    result = Predictor(model)({"text": [b"hi"]})
    assert list(result["label"]) == [label]
    expected = 1 / (1 + np.exp(-np.array(logits, float)))
    np.testing.assert_allclose(result["probabilities"], [expected], rtol=1e-5)
    assert result["score"] == pytest.approx(expected.max())


def test_of_several_classes_the_most_probable_is_the_label(tmp_path):
    model = table_factory.text_model(tmp_path, "multiclass", [1, 3, 2])
    result = Predictor(model)({"text": [b"hi", b""]})
    assert list(result["label"]) == [b"b", b"b"]
    np.testing.assert_allclose(result["probabilities"].sum(axis=1), 1, rtol=1e-6)


FILES = ("config.yaml", "analysis.json", "model.keras")


@pytest.mark.parametrize("missing", FILES)
def test_a_folder_without_one_of_its_files_is_refused(folder, tmp_path, missing):
    for name in set(FILES) - {missing}:
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(UserError, match=f"no {missing}; give the run folder"):
        load_trained(tmp_path)
    with pytest.raises(UserError, match="no config.yaml"):
        load_trained(tmp_path / "nowhere")


def test_texts_beyond_the_possible_ones_are_empty_with_the_lowest_score(complete_row):
    generator = untrained_generator(("cow",), max_tokens=1, beams=4)
    export = replace(generator.config.export, n_best=4)
    generator.preprocessor.config = replace(generator.config, export=export)
    result = Predictor(generator)({name: [x] for name, x in complete_row.items()})
    (texts,), (scores,) = result["n_best"].tolist(), result["n_best_score"]
    assert set(texts[:2]) == {b"cow", b""} and texts[2:] == [b"", b""]
    assert min(scores[:2]) > -100 and scores[2:].tolist() == [-1e9, -1e9]
    assert result["text"][0] == texts[0] and result["score"][0] == scores[0]

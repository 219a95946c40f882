import csv
import shutil

import numpy as np
import pytest

from mmkeras.errors import UserError
from mmkeras.export.inference import Predictor, load_trained
from tests import table_factory

GOOD = {
    "text": b"warm fire",
    "image": table_factory.image(),
    "audio": table_factory.tone(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def trained_model(folder):
    return load_trained(folder)


@pytest.fixture(scope="module")
def predictor(trained_model):
    return Predictor(trained_model)


def answer(predictor, *rows):
    return predictor({m: [row[m] for row in rows] for m in predictor.modalities})


def test_a_binary_answer_has_a_column_a_class_1_minus_p_and_p(trained_model, predictor):
    found = answer(
        predictor, GOOD, {**GOOD, "image": table_factory.image((30, 200, 60))}
    )
    inputs, _ = trained_model.preprocessor({m: [GOOD[m]] for m in GOOD})
    p = trained_model.model(inputs, training=False).numpy()
    assert found["probabilities"].shape == (2, 2) and p.shape == (1, 1)
    np.testing.assert_allclose(found["probabilities"][0], [1 - p[0, 0], p[0, 0]])
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, rtol=1e-6)


def test_the_label_is_the_class_of_the_highest_score(trained_model, predictor):
    found = answer(predictor, GOOD, dict.fromkeys(GOOD, b""))
    best = found["probabilities"].argmax(axis=1)
    assert [x.decode() for x in found["label"]] == [
        trained_model.state.classes[i] for i in best
    ]
    np.testing.assert_array_equal(found["score"], found["probabilities"].max(axis=1))
    assert found["embedding"].shape == (2, trained_model.config.fusion.units)


def test_a_bad_row_fails_neither_its_batch_nor_its_neighbours(predictor):
    bad = [
        {**GOOD, "text": b"\xff\xfe"},
        {**GOOD, "image": b"no picture"},
        {**GOOD, "audio": table_factory.tone()[:30]},
        {**GOOD, "image": b"", "audio": b"RIFF"},
        dict.fromkeys(GOOD, b""),
    ]
    found = answer(predictor, GOOD, *bad, GOOD)
    assert [status.decode() for status in found["status"]] == [
        "ok",
        "text unreadable",
        "image unreadable",
        "audio unreadable",
        "image absent; audio unreadable",
        "text absent; image absent; audio absent",
        "ok",
    ]
    assert np.isfinite(found["probabilities"]).all()
    np.testing.assert_allclose(
        found["probabilities"][0], found["probabilities"][-1], atol=1e-6
    )


def test_what_is_broken_counts_as_absent(predictor):
    broken, absent = ({**GOOD, "image": content} for content in (b"broken", b""))
    found = answer(predictor, broken, absent)
    np.testing.assert_allclose(*found["probabilities"], atol=1e-6)


def test_a_row_gets_the_same_answer_alone_and_in_a_batch(predictor):
    rows = [GOOD, {**GOOD, "text": b"deep sea"}, {**GOOD, "audio": b""}]
    together = answer(predictor, *rows)["probabilities"]
    alone = np.concatenate([answer(predictor, row)["probabilities"] for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_no_rows_get_no_answers(predictor):
    found = answer(predictor)
    assert found["probabilities"].shape == (0, 2) and found["label"].shape == (0,)


def test_a_loaded_model_answers_as_the_run_did(folder, predictor):
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        said = {row["id"]: row for row in csv.DictReader(file)}
    row = table_factory.make_rows()[32]
    found = answer(
        predictor, {m: row[m] if m != "text" else row[m].encode() for m in GOOD}
    )
    assert float(said["r32"]["score"]) == pytest.approx(found["score"][0], abs=1e-5)
    assert said["r32"]["predicted"] == found["label"][0].decode()


# Other tasks ------------------------------------------------------------------


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
    found = Predictor(table_factory.text_model(tmp_path, "multilabel", logits))(
        {"text": [b"hi"]}
    )
    assert list(found["label"]) == [label]
    expected = 1 / (1 + np.exp(-np.array(logits, float)))
    np.testing.assert_allclose(found["probabilities"], [expected], rtol=1e-5)
    assert found["score"] == pytest.approx(expected.max())


def test_of_several_classes_the_likeliest_is_the_label(tmp_path):
    found = Predictor(table_factory.text_model(tmp_path, "multiclass", [1, 3, 2]))(
        {"text": [b"hi", b""]}
    )
    assert list(found["label"]) == [b"b", b"b"]
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, rtol=1e-6)


# Loading ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.yaml", "analysis.json", "model.keras"])
def test_a_folder_without_one_of_its_files_is_refused_by_name(folder, tmp_path, name):
    for file in ("config.yaml", "analysis.json", "model.keras"):
        if file != name:
            shutil.copy(folder / file, tmp_path)
    with pytest.raises(UserError, match=f"holds no {name}; give the run folder"):
        load_trained(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no config.yaml"):
        load_trained(tmp_path / "nowhere")

"""A regression from the table to the served export, trained once."""

import json
from contextlib import contextmanager

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from mmkeras import evaluate, explain, predict
from mmkeras.data.example_reader import build_example
from mmkeras.errors import UserError
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.train import main as train
from tests import table_factory
from tests.program_harness import cached_model, error_of, read_csv
from tests.reports.html_page import Page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = table_factory.regression_run(tmp_path_factory)
    with cached_model(run[0]):
        yield run


@pytest.fixture(scope="module")
def metrics(run):
    return json.loads((run[0] / "metrics.json").read_text())


@pytest.fixture(scope="module")
def predictions(run):
    return read_csv(run[0] / "predictions.csv")


@contextmanager
def export_of(folder):
    with load_saved_model(folder / "export" / "1") as call:
        yield call


def test_the_metrics_are_those_of_the_predictions(metrics, predictions):
    labels, values = (
        np.array([float(row[name]) for row in predictions])
        for name in ("label", "predicted")
    )
    assert set(metrics["metrics"]) == {"r2", "rmse", "mae", "spearman"}
    mae = metrics["metrics"]["mae"]
    assert mae["value"] == pytest.approx(np.abs(labels - values).mean(), rel=1e-4)
    assert mae["low"] < mae["value"] < mae["high"]
    assert metrics["metrics"]["r2"]["value"] > 0.5  # colour and words are the class
    assert metrics["task"] == "regression"
    assert "temperature" not in metrics and "reliability" not in metrics


def test_predictions_have_no_score_and_no_classes(predictions):
    assert list(predictions[0]) == ["id", "label", "predicted", "score", "status"]
    assert {row["score"] for row in predictions} == {""}
    assert predictions[1]["status"] == "image absent" and len(predictions) == 8


def test_subsets_baselines_and_noise_are_scored_by_r2(metrics):
    assert set(metrics["baselines"]) == {"mean", "ridge"}
    assert metrics["baselines"]["mean"]["r2"]["value"] <= 0
    assert set(metrics["subsets"]["text+image"]) == {"r2"}
    full, none = (metrics["subsets"][k]["r2"]["value"] for k in ("text+image", ""))
    shares = [share["value"] for share in metrics["shapley"].values()]
    assert sum(shares) == pytest.approx(full - none)
    assert metrics["noise"]["image"][0]["r2"]["value"] == pytest.approx(full)
    assert "of R²" in metrics["fusion_verdict"] and "ridge" in metrics["verdict"]


def test_the_run_folder_has_no_files_of_classes(run):
    names = {path.name for path in run[0].rglob("*")}
    assert not names & {"confusion.csv", "labels.txt"}
    assert {"report.html", "model.keras"} <= names
    state = json.loads((run[0] / "analysis.json").read_text())
    assert state["classes"] == [] and state["label_scale"]["mean"] > 100
    model = keras.models.load_model(run[0] / "model.keras", compile=False)
    assert model.output_shape == (None, 1)


def test_the_report_shows_residuals_and_nothing_of_classes(run):
    text = Page((run[0] / "report.html").read_text()).text
    assert "Residuals" in text and "Prediction over label" in text
    for word in ("Calibration", "Confusion", "Temperature", "ccuracy", "nan "):
        assert word not in text
    assert "Ridge regression" in text and "Mean of the labels" in text


def test_the_worst_errors_are_the_largest_residuals(run, predictions):
    cards = (run[0] / "report.html").read_text().partition("Worst errors")[2]
    rows = sorted(
        predictions, key=lambda r: -abs(float(r["label"]) - float(r["predicted"]))
    )
    positions = [cards.find(f"row {row['id']}") for row in rows[:2]]
    assert 0 < positions[0] < positions[1]
    assert f"row {rows[2]['id']}" not in cards


def test_the_export_has_a_value_and_tf_servings_regress(run, predictions):
    saved = saved_model_pb2.SavedModel.FromString(
        (run[0] / "export" / "1" / "saved_model.pb").read_bytes()
    )
    signatures = saved.meta_graphs[0].signature_def
    assert {"serving_default", "regress", "embed"} <= set(signatures)
    assert "classify" not in signatures
    assert set(signatures["serving_default"].outputs) == {"value", "status"}
    assert signatures["regress"].method_name == "tensorflow/serving/regress"
    shape = signatures["regress"].outputs["outputs"].tensor_shape
    assert [d.size for d in shape.dim] == [-1, 1]
    rows = {"text": [b"fresh grass", b""], "image": [table_factory.image(), b""]}
    examples = [
        build_example({"text": b"fresh grass", "image": table_factory.image()}),
        build_example({}),
    ]
    with export_of(run[0]) as call:
        served = call("serving_default", rows)
        inputs = [example.SerializeToString() for example in examples]
        regressed = call("regress", {"inputs": inputs})["outputs"]
    assert served["value"].shape == (2,) and served["value"].dtype == np.float32
    np.testing.assert_allclose(regressed, served["value"][:, None], rtol=1e-6)
    assert served["status"].tolist() == [b"ok", b"text absent; image absent"]


def test_the_warmup_has_a_regress_request(run):
    path = run[0] / "export" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    kinds = [log.WhichOneof("log_type") for log in logs]
    assert kinds == ["predict_log", "predict_log", "regress_log"]
    assert logs[2].regress_log.request.model_spec.signature_name == "regress"


def test_predict_and_evaluate_give_the_values_of_the_run(run, predictions, tmp_path):
    predict.predict(*run, tmp_path / "out.csv")
    rows = {row["id"]: row for row in read_csv(tmp_path / "out.csv")}
    for row in predictions:
        assert float(rows[row["id"]]["predicted"]) == pytest.approx(
            float(row["predicted"]), rel=1e-5
        )
        assert rows[row["id"]]["label"] == row["label"]
    folder, table = run
    result = evaluate.evaluate_table(folder, table, tmp_path / "ev", "train", "absent")
    assert result["rows"] == 24 and result["metrics"]["r2"]["value"] > 0.5


def test_an_explanation_is_of_the_value(run, tmp_path):
    explain.explain(*run, tmp_path / "explained", rows=1)
    (row,) = json.loads((tmp_path / "explained" / "explanations.json").read_text())
    assert row["explained"] == "value" and "probability" not in row
    assert float(row["predicted"]) == pytest.approx(row["value"], rel=1e-5)
    total = sum(row["shares"].values())
    assert total == pytest.approx(row["value"] - row["value_of_nothing"], rel=1e-4)
    assert "points" not in (tmp_path / "explained" / "explain.html").read_text()


def test_the_linear_model_is_a_ridge_regression(run, tmp_path):
    flags = ["--preset", "linear", "--task", "regression", "--table.cache_dir"]
    settings = [*flags, str(run[0].parent / "cache"), "--table.modalities", "text"]
    data = ["--data", str(run[1]), "--output", str(tmp_path / "linear")]
    train([*settings, *data, "--on-bad-row", "absent"])
    metrics = json.loads((tmp_path / "linear" / "metrics.json").read_text())
    ridge, model = metrics["baselines"]["ridge"], metrics["metrics"]
    assert model["r2"]["value"] == pytest.approx(ridge["r2"]["value"], abs=0.02)
    assert "a ridge regression (R² " in metrics["verdict"]


def test_fractions_without_a_task_ask_before_training(run, tmp_path):
    argv = ["--data", str(run[1]), "--output", str(tmp_path / "asked")]
    with pytest.raises(UserError, match="--task regression.*--task multiclass"):
        train([*argv, "--preset", "small-concat"])
    assert not (tmp_path / "asked" / "model.keras").exists()


def test_a_run_with_another_task_is_not_resumed(run, monkeypatch, capsys):
    folder, table = run
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["task"] == "regression"
    argv = table_factory.run_flags(folder, table)
    argv += ["--task", "multiclass"]
    assert "task=regression" in error_of(train, argv, monkeypatch, capsys)

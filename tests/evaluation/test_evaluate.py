import csv
import json
from collections import Counter

import numpy as np
import pytest

from mmkeras.data.ingest import ingest
from mmkeras.errors import UserError
from mmkeras.evaluation.evaluate import check_known_labels
from mmkeras.export.inference import load_trained
from tests import table_factory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def metrics(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def predictions(folder):
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_test_row_is_predicted_once_in_the_order_of_the_table(predictions):
    assert [row["id"] for row in predictions] == [f"r{i}" for i in range(32, 40)]
    assert [row["label"] for row in predictions] == ["red", "green"] * 4
    assert list(predictions[0])[5:] == ["green", "red"]


def test_label_and_score_are_those_of_the_likeliest_class(predictions):
    for row in predictions:
        columns = {name: float(row[name]) for name in ("green", "red")}
        assert sum(columns.values()) == pytest.approx(1, abs=2e-6)
        assert row["predicted"] == max(columns, key=columns.get)
        assert float(row["score"]) == pytest.approx(max(columns.values()), abs=1e-6)


def test_the_metrics_are_those_of_the_predictions(metrics, predictions):
    right = [row["label"] == row["predicted"] for row in predictions]
    true = [float(row[row["label"]]) for row in predictions]
    values = metrics["metrics"]
    assert metrics["rows"] == len(predictions) and metrics["split"] == "test"
    assert values["accuracy"]["value"] == pytest.approx(np.mean(right), abs=1e-6)
    assert values["log_loss"]["value"] == pytest.approx(
        -np.mean(np.log(true)), abs=1e-4
    )
    for value in values.values():
        if value["value"] is not None:
            assert value["low"] <= value["value"] + 1e-9
            assert value["value"] <= value["high"] + 1e-9


def test_an_easy_table_is_learned(metrics):
    assert metrics["metrics"]["accuracy"]["value"] >= 0.75


def test_absent_and_unreadable_rows_are_told_apart_and_counted(metrics, predictions):
    status = {row["id"]: row["status"] for row in predictions}
    assert status.pop("r33") == "audio absent"
    assert status.pop("r35") == "image unreadable"
    assert set(status.values()) == {"ok"}
    counted = {"ok": 6, "audio absent": 1, "image unreadable": 1}
    assert metrics["status"] == counted == Counter(r["status"] for r in predictions)
    counts = {
        name: (m["absent"], m["unreadable"])
        for name, m in metrics["modalities"].items()
    }
    assert counts == {"text": (0, 0), "image": (0, 1), "audio": (1, 0)}
    assert metrics["unreadable_rows"] == 1 and metrics["rejected_rows"] == 0


def test_each_modality_is_measured_alone_and_left_out(metrics):
    for measured in metrics["modalities"].values():
        for which in ("alone", "without"):
            accuracy = measured[which]["accuracy"]
            assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1


def test_the_baselines_stand_beside_the_model(metrics):
    assert set(metrics["baselines"]) == {"majority", "logistic_regression"}
    assert metrics["baselines"]["majority"]["accuracy"]["value"] == 0.5
    assert metrics["verdict"] and metrics["temperature"] > 0


def test_labels_that_the_model_does_not_know_are_refused(folder, tmp_path):
    rows = [{"text": "hi", "label": label} for label in ("red", "purple", "green")]
    config = table_factory.tiny_config(tmp_path / "cache")
    dataset = ingest(
        table_factory.write_table(tmp_path / "t.csv", rows), config, only="test"
    )
    with pytest.raises(UserError, match="does not know: purple. Known: green, red"):
        check_known_labels(load_trained(folder), dataset, "test")


def test_the_report_stands_beside_them_and_shows_the_run(folder):
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "small-concat" in report and "image unreadable" in report


def test_several_labels_are_refused_by_a_model_of_one(folder, tmp_path):
    rows = [{**r, "label": "green|red"} for r in table_factory.make_rows()]
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    dataset = ingest(table, table_factory.tiny_config(tmp_path / "cache"), only="test")
    with pytest.raises(UserError, match=r"several labels, as 'green\|red'"):
        check_known_labels(load_trained(folder), dataset, "test")

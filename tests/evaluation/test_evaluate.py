from collections import Counter

import numpy as np
import pytest

from mmkeras.data.ingest import ingest
from mmkeras.errors import UserError
from mmkeras.evaluation.evaluate import check_known_labels
from tests import table_factory
from tests.program_harness import read_csv


@pytest.fixture(scope="module")
def predictions(folder):
    return read_csv(folder / "predictions.csv")


def test_every_test_row_is_predicted_once_in_the_order_of_the_table(predictions):
    assert [row["id"] for row in predictions] == [f"r{i}" for i in range(32, 40)]
    assert [row["label"] for row in predictions] == ["red", "green"] * 4
    assert list(predictions[0])[5:] == ["green", "red"]
    for row in predictions:
        assert row["predicted"] == max(("green", "red"), key=lambda c: float(row[c]))


def test_the_metrics_are_those_of_the_predictions(metrics, predictions):
    correct = [row["label"] == row["predicted"] for row in predictions]
    probabilities = [float(row[row["label"]]) for row in predictions]
    loss = -np.mean(np.log(probabilities))
    values = metrics["metrics"]
    assert metrics["rows"] == len(predictions) and metrics["split"] == "test"
    assert values["accuracy"]["value"] == pytest.approx(np.mean(correct), abs=1e-6)
    assert values["accuracy"]["value"] >= 0.75  # the table is easy
    assert values["log_loss"]["value"] == pytest.approx(loss, abs=1e-4)


def test_absent_and_unreadable_media_are_counted_separately(metrics, predictions):
    status = {row["id"]: row["status"] for row in predictions}
    assert status.pop("r33") == "audio absent"
    assert status.pop("r35") == "image unreadable"
    assert set(status.values()) == {"ok"}
    counts = {"ok": 6, "audio absent": 1, "image unreadable": 1}
    assert metrics["status"] == counts == Counter(r["status"] for r in predictions)
    modalities = metrics["modalities"].items()
    assert {m: (v["absent"], v["unreadable"]) for m, v in modalities} == {
        "text": (0, 0),
        "image": (0, 1),
        "audio": (1, 0),
    }
    assert metrics["unreadable_rows"] == 1 and metrics["rejected_rows"] == 0


def test_the_baselines_are_measured_too(metrics):
    assert set(metrics["baselines"]) == {"majority", "logistic_regression"}
    assert metrics["baselines"]["majority"]["accuracy"]["value"] == 0.5
    assert metrics["verdict"] and metrics["temperature"] > 0


def test_the_report_shows_the_run(folder):
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "small-concat" in report and "image unreadable" in report


@pytest.mark.parametrize(
    "labels, message",
    [
        (("red", "purple", "green"), "not know: purple.*Known: green, red"),
        (("red", "green|red"), r"green\|red.*one label per row"),
    ],
)
def test_unknown_labels_are_refused(labels, message, trained_model, tmp_path):
    rows = [{"text": "hi", "label": label} for label in labels]
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    dataset = ingest(table, table_factory.tiny_config(tmp_path / "cache"), only="test")
    with pytest.raises(UserError, match=message):
        check_known_labels(trained_model, dataset, "test")

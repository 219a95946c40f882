import json

import pytest

from mmkeras.export import run_manifest
from mmkeras.reports.summary import run_summary, serve_command


def test_the_summary_has_metrics_the_newest_export_and_the_next_commands(tmp_path):
    folder = tmp_path / "my run"
    for version in ("9", "10", ".11.partial"):
        (folder / "export" / version).mkdir(parents=True)
    value = {"value": 0.5, "low": 0.25, "high": 0.75}
    unknown = {"value": None, "low": None, "high": None}
    names = ("accuracy", "balanced_accuracy", "f1_macro", "log_loss", "ece")
    metrics = {**dict.fromkeys(names, value), "roc_auc": unknown}
    content = {"rows": 1234, "metrics": metrics, "verdict": "It is better."}
    (folder / "metrics.json").write_text(json.dumps(content))
    run_manifest.write_manifest(folder)

    text = run_summary(folder)

    header, accuracy, *_ = text.split("\n")
    assert "1,234 rows" in header
    assert accuracy.split() == ["accuracy", "0.500", "(0.250", "to", "0.750)"]
    assert "roc_auc" not in text and "It is better." in text
    report, export, serve, predict = text.split("\n")[-4:]
    assert report == f"Report:  {folder / 'report.html'}"
    assert export == f"Export:  {folder / 'export' / '10'}"
    assert f"-v '{folder / 'export'}':/models/mmkeras" in serve
    assert f"mmkeras.predict --model '{folder}' --data FILE.csv" in predict


def test_a_run_without_rows_has_no_metrics_and_no_report(tmp_path):
    run_manifest.write_manifest(tmp_path)
    assert [line.split(":")[0] for line in run_summary(tmp_path).split("\n")] == [
        "Serve",
        "Predict",
    ]


@pytest.mark.parametrize(
    ("tensorflow", "image"),
    [("2.16.2", ":2.16.1"), ("2.21.0", ":2.21.0"), ("2.22.1", ":latest")],
)
def test_the_image_of_tf_serving_fits_the_tensorflow_that_exported(tensorflow, image):
    manifest = {"versions": {"tensorflow": tensorflow}}
    command = serve_command("/runs/my run/export", manifest)
    assert command.endswith(f"tensorflow/serving{image}")
    assert "-v '/runs/my run/export':/models/mmkeras" in command

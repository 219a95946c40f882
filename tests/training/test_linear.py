import json
from dataclasses import replace

import numpy as np
import pytest

from mmkeras.config.presets import PRESETS
from mmkeras.data.input_pipeline import read_rows
from mmkeras.errors import UserError
from mmkeras.evaluation.baseline_features import read_baseline_features
from mmkeras.evaluation.baselines import fit_logistic_regression
from mmkeras.export.inference import Predictor, load_trained
from mmkeras.training import linear, steps
from mmkeras.training.cluster import Cluster
from mmkeras.training.prepare_run import prepare_run
from tests import table_factory

LABELS = {
    "binary": "red green".split() * 20,
    "multiclass": ("red green blue".split() * 14)[:40],
    "multilabel": "red green red|green".split() * 13 + ["red"],
}


@pytest.fixture
def config(tiny_config):
    """The preset with small vectors."""
    preset, small = PRESETS["linear"](), tiny_config()
    return replace(
        preset,
        table=small.table,
        image=replace(preset.image, size_px=32),
        text=replace(preset.text, vocab_size=16),
        audio=replace(small.audio, units=0, dropout=0.0),
        evaluate=small.evaluate,
    )


def write_rows(path, labels):
    """Writes 40 rows, some of which lack modalities."""
    rows = table_factory.make_rows(seed=1)
    for row, label in zip(rows, labels, strict=True):
        row["label"] = label
    for i, name in ((1, "image"), (5, "text"), (6, "audio"), (33, "audio")):
        rows[i][name] = ""
    rows[35]["text"] = rows[35]["image"] = ""
    return table_factory.write_table(path, rows)


@pytest.mark.parametrize("task", LABELS)
def test_the_served_model_is_the_logistic_regression_of_the_reports(
    task, folder, config
):
    table = write_rows(folder / "data" / "data.csv", LABELS[task])
    run_data = prepare_run(folder, config, table)
    assert run_data.state.task == task
    trained_model, history = steps.fit_model(folder, run_data)
    assert history == []
    temperature = trained_model.model.get_layer("head").get_layer("temperature")
    temperature.temperature.assign(1.0)

    model, dataset = trained_model, run_data.dataset
    blocks, targets = read_baseline_features(model, dataset, "train", 99)
    regression = fit_logistic_regression(
        blocks, targets, task, seed=0, max_iterations=5000
    )
    rows, _ = read_baseline_features(model, dataset, "test", 99)
    names = run_data.state.modalities
    raw = list(read_rows(dataset.files("test"), names).as_numpy_iterator())
    served = Predictor(trained_model)({m: [row[m] for row in raw] for m in names})
    np.testing.assert_allclose(
        served["probabilities"], regression.predict(rows, task), atol=2e-3
    )
    loaded = load_trained(folder).model
    for a, b in zip(loaded.weights, model.model.weights, strict=True):
        if a.name != "temperature":
            np.testing.assert_array_equal(a, b)


def test_a_run_of_the_preset_ends_with_an_export_and_a_report(folder, config, capsys):
    table = write_rows(folder / "data" / "data.csv", LABELS["binary"])
    steps.train(folder, config, table)
    out = capsys.readouterr().out
    assert "Logistic regression: 24 of 24 training rows, " in out
    assert "Epoch" not in out and "Schedule" not in out
    assert (folder / "export" / "1" / "saved_model.pb").exists()
    assert "logistic regression of scikit-learn" in (folder / "report.html").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["metrics"]["accuracy"]["value"] >= 0.75
    assert "The model, a logistic regression" in metrics["verdict"]


def test_several_workers_are_refused(monkeypatch):
    cluster = Cluster(addresses=("a:1", "b:1"), index=0)
    monkeypatch.setattr(linear, "read_cluster", lambda: cluster)
    with pytest.raises(UserError, match="in one process.*without TF_CONFIG"):
        linear.fit_linear(None, None)

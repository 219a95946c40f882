import json
from dataclasses import replace

import numpy as np
import pytest

from mmkeras.config.presets import PRESETS
from mmkeras.data.stored_rows import COLUMNS, read_rows
from mmkeras.errors import UserError
from mmkeras.evaluation.baseline_features import read_baseline_features
from mmkeras.evaluation.baselines import fit_logistic_regression
from mmkeras.explain import explain
from mmkeras.export.inference import Predictor, load_trained
from mmkeras.training import run_folder, steps
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


@pytest.mark.parametrize(
    "task",
    [
        "multiclass",
        pytest.param("binary", marks=pytest.mark.slow),
        pytest.param("multilabel", marks=pytest.mark.slow),
    ],
)
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
    columns = run_data.preprocessor.columns
    raw = list(read_rows(dataset.files("test"), columns.values()).as_numpy_iterator())
    data = {name: [row[COLUMNS][name] for row in raw] for name in columns}
    served = Predictor(trained_model)(data)
    np.testing.assert_allclose(
        served["probabilities"], regression.predict(rows, task), atol=2e-3
    )
    loaded = load_trained(folder).model
    for a, b in zip(loaded.weights, model.model.weights, strict=True):
        if a.name != "temperature":
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_same_settings_and_rows_only(
    folder, config, monkeypatch
):
    table = write_rows(folder / "data" / "data.csv", LABELS["binary"])
    other = replace(config, text=replace(config.text, vocab_size=8))

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    def check(config, data):
        run_folder.check_unchanged(folder, config, run_folder.data_name(data))

    for step, has_started in (("fit_linear", False), ("evaluate", True)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(steps, step, interrupt)
            steps.train(folder, config, table)
        assert run_folder.has_started(folder) == has_started
        if not has_started:
            check(other, folder / "b.csv")
    weights = load_trained(folder).model.get_weights()
    exported = (folder / "export" / "1" / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(UserError, match="vocab_size=16, .*vocab_size=8"):
        check(other, table)
    with pytest.raises(UserError, match="not on '.*b.csv'"):
        check(config, folder / "b.csv")

    check(config, table)
    steps.train(folder, config, table)
    assert run_folder.is_finished(folder) and (folder / "report.html").exists()
    (export,) = (folder / "export").iterdir()
    assert (export / "saved_model.pb").stat().st_mtime_ns == exported
    for a, b in zip(load_trained(folder).model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    with pytest.raises(UserError, match="vocab_size=16, .*vocab_size=8"):
        check(other, table)

    assert explain(folder, table, folder / "explained", 2) == 2
    explained = json.loads((folder / "explained" / "explanations.json").read_text())
    assert set(explained[0]["shares"]) == {"text", "image", "audio"}

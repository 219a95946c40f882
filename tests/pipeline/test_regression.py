"""Regression in the pipeline: its components, and a run as a whole."""

import csv
import json
from dataclasses import asdict

import numpy as np
import pytest
import yaml
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.tuner import executor as tuner
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from mmkeras import train
from mmkeras.config import to_dict
from mmkeras.data.dataset import load_dataset
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from pipeline.local import main
from tests import table_factory
from tests.pipeline import executor_harness
from tests.pipeline.screen import captured_screen

TABLE = {"modalities": "text,image"}


def write_table(path, offset=0.0):
    """Writes a table whose green rows have larger numbers, three of them equal."""
    rows = table_factory.make_rows()
    for i, row in enumerate(rows):
        number = offset + 100 + 50 * (row["label"] == "green") + max(i, 2) / 8
        row["label"] = f"{number:.3f}"
    rows[5]["image"] = ""
    return table_factory.write_table(path, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("regression")


@pytest.fixture(scope="module")
def table(folder):
    return write_table(folder / "data" / "data.csv")


@pytest.fixture(scope="module")
def config(folder):
    changes = {"task": "regression", "epochs": 12, "table": TABLE}
    return table_factory.tiny_config(folder / "cache", **changes)


@pytest.fixture(scope="module")
def examples(folder, table, config):
    return executor_harness.examples_of(table, config, folder)[0]


@pytest.fixture(scope="module")
def transformed(folder, config, examples):
    """Transform's graph and its state."""
    return executor_harness.transformed(examples, config, folder / "transformed")


def test_the_state_is_that_of_the_train_program(table, config, transformed):
    _, state = transformed
    dataset = ingest(table, config)
    expected = fit_preprocessing(dataset, config)
    assert state.label_scale == expected.label_scale
    labels = [float(x) for x, n in dataset.labels["train"].items() for _ in range(n)]
    assert len(set(labels)) < len(labels) == 24
    assert state.label_scale.mean == pytest.approx(np.mean(labels))
    assert state.label_scale.deviation == pytest.approx(np.std(labels))
    assert asdict(state) == asdict(expected)


def test_new_numbers_pass_the_gate_and_are_shown_as_numbers(
    folder, config, examples, tmp_path
):
    statistics = executor_harness.statistics_of(examples, folder / "first")
    schema = executor_harness.schema_of(examples, statistics, folder / "first")
    path = f"{schema.uri}/schema.pbtxt"
    proto = io_utils.parse_pbtxt_file(path, schema_pb2.Schema())
    assert [domain.name for domain in proto.string_domain] == ["split"]

    other = write_table(tmp_path / "other" / "data.csv", offset=1000)
    examples, _ = executor_harness.examples_of(other, config, tmp_path)
    statistics = executor_harness.statistics_of(examples, tmp_path)
    executor_harness.pass_gate(examples, statistics, schema, tmp_path)

    path = tmp_path / "media_statistics" / "media_statistics.json"
    split = json.loads(path.read_text())["splits"]["train"]
    labels = load_dataset(examples.uri).labels["train"]
    labels = np.repeat([*map(float, labels)], [*labels.values()])
    number = split["numbers"]["label"]
    histogram = number.pop("histogram")
    assert number == pytest.approx(
        {
            "rows": 24,
            "min": labels.min(),
            "max": labels.max(),
            "mean": labels.mean(),
            "deviation": labels.std(),
            **{
                name: np.quantile(labels, share, method="inverted_cdf")
                for name, share in (("p05", 0.05), ("median", 0.5), ("p95", 0.95))
            },
        }
    )
    assert histogram["rows"] == np.histogram(labels)[0].tolist()
    assert split["classes"] == {"number": 0, "largest": []}
    page = path.with_name("media_statistics.html").read_text()
    assert "<h2>Labels</h2>" in page and "<h2>Classes</h2>" not in page


def test_the_tuner_of_tfx_measures_its_trials(config, examples, transformed, tmp_path):
    tune = {"trials": 1, "epochs": 1, "widths": "4"}
    settings = {"config": json.dumps(to_dict(config)), "tune": json.dumps(tune)}
    outputs = executor_harness.artifacts(
        tmp_path,
        best_hyperparameters=standard_artifacts.HyperParameters,
        tuner_results=standard_artifacts.TunerResults,
    )
    tuner.Executor(executor_harness.context(tmp_path)).Do(
        {"examples": [examples], "transform_graph": [transformed[0]]},
        outputs,
        {
            "tuner_fn": "pipeline.components.tuner.tuner_fn",
            "train_args": json.dumps({"splits": ["train"]}),
            "eval_args": json.dumps({"splits": ["val"]}),
            "custom_config": json.dumps(settings),
        },
    )
    (trial,) = json.loads((tmp_path / "tuner_results/tuner_results.json").read_text())
    assert trial["score"] > 0 and trial["fusion_units"] == 4


def predictions(folder):
    """Row -> predicted number, from predictions.csv."""
    with (folder / "predictions.csv").open(newline="") as file:
        return {row["id"]: float(row["predicted"]) for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_run_pushes_a_model_that_predicts_like_the_train_program(
    table, config, tmp_path
):
    root, settings = tmp_path / "root", tmp_path / "config.yaml"
    settings.write_text(yaml.safe_dump(to_dict(config)))
    new = [{"text": "fresh grass", "image": ""}, {"text": "", "image": ""}]
    new = table_factory.write_table(tmp_path / "new" / "new.csv", new)
    flags = ["--data", str(table), "--config", str(settings)]
    argv = [*flags, "--root", str(root), "--unlabeled", str(new)]
    with captured_screen() as lines:
        assert main(argv) == 0
    (version,) = (root / "serving" / "mmkeras").iterdir()
    assert any(line.startswith("R² on 8 test rows: 0.") for line in lines)
    assert f"Pushed:  {version}" in lines
    (run,) = (root / "artifacts" / "Trainer" / "model_run").iterdir()
    train.main([*flags, "--output", str(tmp_path / "run")])
    result, expected = predictions(run), predictions(tmp_path / "run")
    assert len(expected) == 8 and result == pytest.approx(expected, rel=1e-5)
    with captured_screen() as lines:
        assert main([*argv, "--gate.min_r2", "1"]) == 1
    (reason,) = [line for line in lines if line.startswith("Not pushed: ")]
    assert "R²" in reason and "gate.min_r2=1" in reason
    with captured_screen() as lines:
        main(["--root", str(root), "--status"])
    (metrics,) = [line for line in lines if line.startswith("Metrics:")]
    assert "r2 0." in metrics and "mae" in metrics

"""Generated text in the pipeline: its components, and a run as a whole."""

import json
from dataclasses import asdict, replace

import pytest
import tensorflow as tf
import yaml
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tfx.utils import io_utils

from mmkeras.config import to_dict
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from pipeline.local import main
from pipeline.settings import transform_settings
from tests import table_factory
from tests.pipeline import executor_harness
from tests.pipeline.screen import captured_screen


def write_table(path, colour="{}"):
    """Writes a table of images whose captions name the colour; texts have no part."""
    rows = table_factory.make_rows()
    for i, row in enumerate(rows):
        name = colour.format(row.pop("label"))
        row["caption"] = f"A {name} image.|{name} all over"
        row["text"] = f"number {i // 2 % 2}"
        del row["audio"]
    return table_factory.write_table(path, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("generate")


@pytest.fixture(scope="module")
def table(folder):
    return write_table(folder / "data" / "data.csv")


@pytest.fixture(scope="module")
def config(folder):
    changes = {
        "task": "generate",
        "epochs": 5,
        "table": {"label": "caption", "modalities": "text,image"},
        "fusion": {"kind": "concat"},
        "generate": {"width": 16, "layers": 1, "heads": 2, "dropout": 0.0},
        "image": {"width": 4},
        "train": {"passes": 12, "learning_rate": 0.02, "warmup_epochs": 0.0},
    }
    return table_factory.tiny_config(folder / "cache", **changes)


@pytest.fixture(scope="module")
def examples(folder, table, config):
    return executor_harness.examples_of(table, config, folder)[0]


@pytest.mark.parametrize("tokens", ["word", "character"])
def test_the_state_is_that_of_the_train_program(
    folder, table, config, examples, tokens
):
    generate = replace(config.generate, tokens=tokens, vocab_size=12)
    config = replace(config, generate=generate)
    settings = transform_settings(config)
    _, state = executor_harness.transformed(examples, settings, folder / tokens)
    expected = fit_preprocessing(ingest(table, config), config)
    assert state.texts == expected.texts
    assert len(state.texts.vocabulary) == (7 if tokens == "word" else 12)
    assert asdict(state) == asdict(expected)


def test_new_texts_pass_the_gate_and_are_no_classes(folder, config, examples, tmp_path):
    statistics = executor_harness.statistics_of(examples, folder / "first")
    schema = executor_harness.schema_of(examples, statistics, folder / "first")
    path = f"{schema.uri}/schema.pbtxt"
    proto = io_utils.parse_pbtxt_file(path, schema_pb2.Schema())
    assert [domain.name for domain in proto.string_domain] == ["split"]

    other = write_table(tmp_path / "other" / "data.csv", "dark {}")
    examples, _ = executor_harness.examples_of(other, config, tmp_path)
    statistics = executor_harness.statistics_of(examples, tmp_path)
    executor_harness.pass_gate(examples, statistics, schema, tmp_path)
    path = tmp_path / "media_statistics" / "media_statistics.json"
    split = json.loads(path.read_text())["splits"]["train"]
    assert split["rows"] == 24
    assert split["classes"] == {"number": 0, "largest": []}
    assert "<h2>Classes</h2>" not in path.with_name("media_statistics.html").read_text()


def inferred_texts(root):
    """Returns the best text of each row that BulkInferrer has predicted."""
    folder = root / "artifacts" / "BulkInferrer" / "inference_result"
    files = [str(path) for path in folder.glob("*/prediction_logs*")]
    records = tf.data.TFRecordDataset(files, "GZIP")
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        .classify_log.response.result.classifications[0]
        .classes[0]
        .label
        for record in records.as_numpy_iterator()
    ]


@pytest.mark.slow
def test_a_run_pushes_a_model_that_writes_texts(table, config, tmp_path):
    root, settings = tmp_path / "root", tmp_path / "config.yaml"
    settings.write_text(yaml.safe_dump(to_dict(config)))
    red, green = (table_factory.CLASSES[c][0] for c in ("red", "green"))
    new = [{"text": "", "image": table_factory.image(c)} for c in (red, green, green)]
    new = table_factory.write_table(tmp_path / "new" / "new.csv", new)
    argv = ["--data", str(table), "--config", str(settings), "--root", str(root)]
    argv += ["--unlabeled", str(new), "--gate.min_exact_match", "0.4"]
    with captured_screen() as lines:
        assert main(argv) == 0
    (version,) = (root / "serving" / "mmkeras").iterdir()
    assert f"Pushed:  {version}" in lines
    assert "Exact match on 8 test rows: 1.000" in lines
    (hidden,) = [line for line in lines if line.startswith("With one branch hidden")]
    assert "text 1.000" in hidden and "image 1.000" not in hidden
    texts = inferred_texts(root)
    assert [sum(c in text for text in texts) for c in ("red", "green")] == [1, 2]
    (run,) = (root / "artifacts" / "Trainer" / "model_run").iterdir()
    content = yaml.safe_load((run / "config.yaml").read_text())
    assert content["generate"]["max_tokens"] == 4
    with captured_screen() as lines:
        assert main([*argv, "--gate.min_exact_match_hidden", "0.6"]) == 1
    (reason,) = [line for line in lines if line.startswith("Not pushed: ")]
    assert "exact match without image" in reason
    assert "gate.min_exact_match_hidden=0.6" in reason
    with captured_screen() as lines:
        main(["--root", str(root), "--status"])
    (metrics,) = [line for line in lines if line.startswith("Metrics:")]
    assert "exact_match 1.000" in metrics and "cider_d" in metrics

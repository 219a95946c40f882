import json
import re
import shutil
import sys
import uuid

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.components.pusher import executor as pusher
from tfx.types import standard_artifacts

from mmkeras.config import Config
from mmkeras.export.inference import load_trained
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.export.verification import rows_to_examples
from mmkeras.modalities.columns import build_columns
from pipeline.components import infra_validator
from pipeline.components.infra_validator import Executor
from tests import table_factory
from tests.pipeline import executor_harness

TEXTS = [b"warm fire %d" % i for i in range(6)]
EXPORT = "Format-Serving"
GRAPH, WEIGHTS = "saved_model.pb", "variables/variables.data-00000-of-00001"
WARMUP = "assets.extra/tf_serving_warmup_requests"
STAMPED = "stamped_model"  # TFX's folder in the blessing


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture
def inputs(run, tmp_path):
    """Folders of the three inputs; the last four of six rows lack audio."""
    model = tmp_path / "model"
    shutil.copytree(run / "export" / "1", model / EXPORT)
    (model / EXPORT / WARMUP).unlink()
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "analysis.json", "model.keras"):
        shutil.copy(run / name, folder)
    image, audio = [table_factory.image()], [table_factory.tone()]
    columns = {column.name: column for column in build_columns(Config())}
    audio = audio * 2 + [b""] * 4
    rows = {"text": TEXTS, "image": image * 6, "audio": audio}
    records = rows_to_examples(rows, columns)
    executor_harness.write_examples(tmp_path / "examples", shards=3, test=records)
    killed = tmp_path / "examples" / "Split-test" / ".data-00000-of-00002.1f"
    killed.write_bytes(b"left by a killed writer")
    return {"model": model, "model_run": folder, "examples": tmp_path / "examples"}


def validate(inputs, folder):
    """Runs the executor and returns the blessing."""
    blessing = executor_harness.artifact(standard_artifacts.InfraBlessing, folder)
    types = {"model": "Model", "model_run": "ModelRun", "examples": "Examples"}
    kinds = {name: getattr(standard_artifacts, kind) for name, kind in types.items()}
    artifacts = {n: [executor_harness.artifact(kinds[n], inputs[n])] for n in kinds}
    Executor().Do(artifacts, {"blessing": [blessing]}, {"code": ""})
    return blessing


def push(blessing, folder):
    """Runs TFX's Pusher on the blessing alone and returns the pushed versions."""
    outputs = executor_harness.artifacts(
        folder, pushed_model=standard_artifacts.PushedModel
    )
    base = {"filesystem": {"base_directory": str(folder / "serving")}}
    properties = {"push_destination": json.dumps(base)}
    pusher.Executor().Do({"infra_blessing": [blessing]}, outputs, properties)
    return sorted((folder / "serving").glob("*"))


def requests(path):
    """Yields (signature, {input: list of bytes}) of a warm-up file."""
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "predict_log":
            request = log.predict_log.request
            feeds = {k: list(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        else:
            request = log.classify_log.request
            examples = request.input.example_list.examples
            feeds = {"inputs": [example.SerializeToString() for example in examples]}
        yield request.model_spec.signature_name, feeds


def test_a_good_model_is_blessed_and_pushed_with_its_warm_up(inputs, tmp_path):
    blessing = validate(inputs, tmp_path / "blessing")
    assert blessing.get_int_custom_property("blessed") == 1
    assert not blessing.get_string_custom_property("reason")
    files = {path.name for path in (tmp_path / "blessing").iterdir()}
    assert files == {"INFRA_BLESSED", STAMPED}
    text = (tmp_path / "blessing" / "INFRA_BLESSED").read_text()
    assert text.startswith("Proved: 11 batches, 28 rows")  # 4 + 6 + 1, mixed, and 6

    (version,) = push(blessing, tmp_path)
    for name in (GRAPH, WEIGHTS, "assets.extra/labels.txt"):
        content = (inputs["model"] / EXPORT / name).read_bytes()
        assert (version / name).read_bytes() == content
    warmup = dict(requests(version / WARMUP))
    assert set(warmup) == {"serving_default", "embed", "classify"}
    assert warmup["serving_default"]["text"] == TEXTS[:4]  # complete rows come first
    with load_saved_model(version) as call:
        results = {name: call(name, feeds) for name, feeds in warmup.items()}
    status = [b"ok", b"ok", b"audio absent", b"audio absent"]
    assert list(results["serving_default"]["status"]) == status
    assert results["classify"]["scores"].shape == (4, 2)
    assert not (inputs["model"] / EXPORT / WARMUP).exists()  # the input does not change


def rejection_of(inputs, folder):
    """Validates a bad model; returns the reason."""
    blessing = validate(inputs, folder / "blessing")
    assert blessing.get_int_custom_property("blessed") == 0
    assert push(blessing, folder) == []
    reason = blessing.get_string_custom_property("reason")
    (file,) = (folder / "blessing").iterdir()  # without a copy of the model
    assert file.name == "INFRA_NOT_BLESSED"
    assert file.read_text() == f"{reason}\n" and reason.count("\n") == 0
    return reason


@pytest.mark.slow
def test_the_export_of_another_model_is_not_pushed(inputs, tmp_path):
    trained_model = load_trained(inputs["model_run"])
    bias = trained_model.model.get_layer("head").get_layer("logits").weights[1]
    bias.assign_add([0.01] * bias.shape[0])
    trained_model.model.save(inputs["model_run"] / "model.keras")
    reason = rejection_of(inputs, tmp_path)
    assert re.search("Golden batch 'complete'.*differs from the model", reason)


@pytest.mark.slow
@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_a_damaged_export_is_not_pushed(inputs, tmp_path, name):
    path = inputs["model"] / EXPORT / name
    path.write_bytes(path.read_bytes()[:-1000])
    assert rejection_of(inputs, tmp_path).startswith(
        "The export failed its verification"
    )


def replace_python(monkeypatch, tmp_path, script):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize(
    "script, reason",
    [
        ("kill -SEGV $$", "The model crashed .*Segmentation fault.*"),
        (
            "echo log >&2; echo 'F Check failed' >&2; kill -ABRT $$",
            "The model crashed .*Aborted.: F Check failed",
        ),
        ("echo 'error: Why.' >&2; exit 1", "Why."),
    ],
)
def test_a_model_that_crashes_its_process_is_not_pushed(
    inputs, tmp_path, monkeypatch, script, reason
):
    replace_python(monkeypatch, tmp_path, script)
    assert re.fullmatch(reason, rejection_of(inputs, tmp_path))


@pytest.mark.parametrize(
    "script, message",
    [
        ("exit 3", "exited with 3"),
        ("echo MemoryError >&2; exit 1", "MemoryError"),
        ("kill -9 $$", "from outside .Killed"),
        ("exec sleep 60", "more than 1 s"),
    ],
)
def test_a_process_without_a_verdict_is_an_error(
    inputs, tmp_path, monkeypatch, script, message
):
    replace_python(monkeypatch, tmp_path, script)
    monkeypatch.setattr(infra_validator, "_TIMEOUT_S", 1.0)
    with pytest.raises(RuntimeError, match=message):
        validate(inputs, tmp_path / "blessing")


def test_the_last_lines_of_the_process_are_logged(inputs, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(infra_validator, "_LOGGED_LINES", 2)
    monkeypatch.setattr(
        infra_validator.logging,
        "info",
        lambda form, *values: lines.append(form % values),
    )
    script = "printf 'one\\n\\377\\n' >&2; echo GPUs $CUDA_VISIBLE_DEVICES >&2"
    replace_python(monkeypatch, tmp_path, script)
    validate(inputs, tmp_path / "blessing")
    assert lines == ["mmkeras.prove: \ufffd", "mmkeras.prove: GPUs -1"]


def test_without_test_rows_nothing_is_pushed(inputs, tmp_path):
    for path in (inputs["examples"] / "Split-test").iterdir():
        path.unlink()
    assert rejection_of(inputs, tmp_path).startswith("There are no rows in ")


def test_the_first_test_rows_are_taken(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(infra_validator.prove, "MAX_ROWS", 3)
    infra_validator.copy_rows(str(inputs["examples"]), tmp_path / "rows")
    records = tf.data.TFRecordDataset(str(tmp_path / "rows")).as_numpy_iterator()
    features = [tf.train.Example.FromString(r).features.feature for r in records]
    assert [f["text"].bytes_list.value[0] for f in features] == TEXTS[:3]


def test_remote_artifacts_are_copied_and_uploaded(inputs, monkeypatch):
    root = f"ram://{uuid.uuid4().hex}"
    for path in [path for folder in inputs.values() for path in folder.rglob("*")]:
        if path.is_file():
            uri = f"{root}/{path.relative_to(inputs['model'].parent)}"
            tf.io.gfile.makedirs(uri.rpartition("/")[0])
            tf.io.gfile.copy(str(path), uri)

    def prove(model, run, rows):
        assert (model / GRAPH).is_file() and (model / WARMUP).is_file()
        assert (run / "model.keras").is_file() and rows.is_file()
        return "Proved: here."

    monkeypatch.setattr(infra_validator, "run_proof", prove)
    uris = {name: f"{root}/{path.name}" for name, path in inputs.items()}
    blessing = validate(uris, f"{root}/blessing")
    assert blessing.get_int_custom_property("has_model") == 1
    with tf.io.gfile.GFile(f"{root}/blessing/INFRA_BLESSED") as file:
        assert file.read() == "Proved: here.\n"
    for name in (GRAPH, WEIGHTS, WARMUP):
        assert tf.io.gfile.exists(f"{root}/blessing/{STAMPED}/{name}")

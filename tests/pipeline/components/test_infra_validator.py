import json
import shutil
import sys
import uuid

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.components import InfraValidator as StockInfraValidator
from tfx.components.pusher import executor as pusher
from tfx.types import channel_utils, standard_artifacts

from mmkeras.export.inference import load_trained
from mmkeras.export.saved_model_session import loaded
from mmkeras.export.verification import rows_to_examples
from pipeline.components import infra_validator
from pipeline.components.infra_validator import Executor, InfraValidator
from tests import table_factory
from tests.pipeline import executor_harness

TEXTS = [b"warm fire %d" % i for i in range(6)]
EXPORT = "Format-Serving"
GRAPH, WEIGHTS = "saved_model.pb", "variables/variables.data-00000-of-00001"
WARMUP = "assets.extra/tf_serving_warmup_requests"
STAMPED = "stamped_model"  # folder of TFX's, in the blessing


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture
def given(run, tmp_path):
    """The three inputs, in folders to be changed; of the rows the last lack sounds."""
    model = tmp_path / "model"
    shutil.copytree(run / "export" / "1", model / EXPORT)
    (model / EXPORT / WARMUP).unlink()
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "analysis.json", "model.keras"):
        shutil.copy(run / name, folder)
    split = tmp_path / "examples" / "Split-test"
    split.mkdir(parents=True)
    for shard, texts in enumerate((TEXTS[:2], TEXTS[2:])):
        image = [table_factory.picture()] * len(texts)
        rows = {"text": texts, "image": image}
        if shard == 0:
            rows["audio"] = [table_factory.tone()] * len(texts)
        with tf.io.TFRecordWriter(str(split / f"data-{shard:05d}-of-00002")) as writer:
            for record in rows_to_examples(rows):
                writer.write(record)
    (split / ".data-00000-of-00002.1f").write_bytes(b"left by a killed writer")
    return {"model": model, "model_run": folder, "examples": tmp_path / "examples"}


KINDS = {
    "model": standard_artifacts.Model,
    "model_run": standard_artifacts.ModelRun,
    "examples": standard_artifacts.Examples,
}


def validate(given, folder):
    """Runs the executor: returns the blessing."""
    blessing = executor_harness.artifact(standard_artifacts.InfraBlessing, folder)
    inputs = {
        name: [executor_harness.artifact(KINDS[name], uri)]
        for name, uri in given.items()
    }
    Executor().Do(inputs, {"blessing": [blessing]}, {"code": ""})
    return blessing


def push(blessing, folder):
    """Runs TFX's Pusher on the blessing alone: returns the versions that are there."""
    pushed = executor_harness.artifact(
        standard_artifacts.PushedModel, folder / "pushed"
    )
    base = {"filesystem": {"base_directory": str(folder / "serving")}}
    pusher.Executor().Do(
        {"infra_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": json.dumps(base)},
    )
    return sorted((folder / "serving").glob("*"))


def requests(path):
    """[(signature, {input: list of bytes})] of the warm-up file."""
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "predict_log":
            request = log.predict_log.request
            feeds = {k: list(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        else:
            request = log.classify_log.request
            examples = request.input.example_list.examples
            feeds = {"inputs": [one.SerializeToString() for one in examples]}
        yield request.model_spec.signature_name, feeds


@pytest.mark.e2e
def test_a_good_model_is_blessed_and_pushed_with_its_warm_up(given, tmp_path):
    blessing = validate(given, tmp_path / "blessing")
    assert blessing.get_int_custom_property("blessed") == 1
    assert not blessing.get_string_custom_property("reason")
    files = {path.name for path in (tmp_path / "blessing").iterdir()}
    assert files == {"INFRA_BLESSED", STAMPED}
    said = (tmp_path / "blessing" / "INFRA_BLESSED").read_text()
    assert said.startswith("Proved: 11 batches, 28 rows")  # 4 + 6 + 1, mixed, and 6

    (version,) = push(blessing, tmp_path)
    for name in (GRAPH, WEIGHTS, "assets.extra/labels.txt"):
        content = (given["model"] / EXPORT / name).read_bytes()
        assert (version / name).read_bytes() == content
    warmup = dict(requests(version / WARMUP))
    assert set(warmup) == {"serving_default", "embed", "classify"}
    assert warmup["serving_default"]["text"] == TEXTS[:4]  # the fullest come first
    with loaded(version) as call:
        answers = {name: call(name, feeds) for name, feeds in warmup.items()}
    status = [b"ok", b"ok", b"audio absent", b"audio absent"]
    assert list(answers["serving_default"]["status"]) == status
    assert answers["classify"]["scores"].shape == (4, 2)
    assert not (given["model"] / EXPORT / WARMUP).exists()  # the input stays as it is


def is_refused(given, folder):
    """Validates a bad model; returns the reason."""
    blessing = validate(given, folder / "blessing")
    assert blessing.get_int_custom_property("blessed") == 0
    assert push(blessing, folder) == []
    reason = blessing.get_string_custom_property("reason")
    (file,) = (folder / "blessing").iterdir()  # and no copy of the model
    assert file.name == "INFRA_NOT_BLESSED"
    assert file.read_text() == f"{reason}\n" and reason.count("\n") == 0
    return reason


@pytest.mark.e2e
def test_the_export_of_another_model_is_not_pushed(given, tmp_path):
    trained_model = load_trained(given["model_run"])
    bias = trained_model.model.get_layer("head").get_layer("logits").weights[1]
    bias.assign_add([0.01] * bias.shape[0])
    trained_model.model.save(given["model_run"] / "model.keras")
    reason = is_refused(given, tmp_path)
    assert reason.startswith("The export failed its proof. Golden batch 'complete'")
    assert "differs from the model by" in reason


@pytest.mark.e2e
@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_a_damaged_export_is_not_pushed(given, tmp_path, name):
    path = given["model"] / EXPORT / name
    path.write_bytes(path.read_bytes()[:-1000])
    assert is_refused(given, tmp_path).startswith("The export failed its proof. The ex")


def instead_of_python(monkeypatch, tmp_path, script):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize(
    "script, reason",
    [
        (
            "kill -SEGV $$",
            "The model killed the process that ran it (Segmentation fault).",
        ),
        (
            "echo log >&2; echo 'F Check failed' >&2; kill -ABRT $$",
            "The model killed the process that ran it (Aborted): F Check failed",
        ),
        ("echo 'error: Why.' >&2; exit 1", "Why."),
    ],
)
def test_a_model_that_ends_its_process_is_not_pushed(
    given, tmp_path, monkeypatch, script, reason
):
    instead_of_python(monkeypatch, tmp_path, script)
    assert is_refused(given, tmp_path) == reason


@pytest.mark.parametrize(
    "script, said",
    [
        ("exit 3", "The proof ended with 3."),
        ("echo MemoryError >&2; exit 1", "MemoryError"),
        ("kill -9 $$", "ended from outside .Killed"),
        ("exec sleep 60", "The proof took more than 1 s."),
    ],
)
def test_a_proof_that_gives_no_verdict_is_no_refusal_that_is_kept(
    given, tmp_path, monkeypatch, script, said
):
    instead_of_python(monkeypatch, tmp_path, script)
    monkeypatch.setattr(infra_validator, "_TIMEOUT_S", 1.0)
    with pytest.raises(RuntimeError, match=said):
        validate(given, tmp_path / "blessing")


def test_the_end_of_what_the_process_has_said_is_logged(given, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(infra_validator, "_LOGGED_LINES", 2)
    monkeypatch.setattr(
        infra_validator.logging, "info", lambda form, *given: said.append(form % given)
    )
    script = "printf 'one\\n\\377\\n' >&2; echo GPUs $CUDA_VISIBLE_DEVICES >&2"
    instead_of_python(monkeypatch, tmp_path, script)
    validate(given, tmp_path / "blessing")
    assert said == ["mmkeras.prove: \ufffd", "mmkeras.prove: GPUs -1"]


def test_without_test_rows_nothing_is_proved_and_nothing_pushed(given, tmp_path):
    for path in (given["examples"] / "Split-test").iterdir():
        path.unlink()
    assert is_refused(given, tmp_path).startswith("There are no rows in ")


def test_the_first_test_rows_are_taken(given, tmp_path, monkeypatch):
    monkeypatch.setattr(infra_validator.prove, "MOST_ROWS", 3)
    infra_validator.copy_rows(str(given["examples"]), tmp_path / "rows")
    records = tf.data.TFRecordDataset(str(tmp_path / "rows")).as_numpy_iterator()
    features = [tf.train.Example.FromString(r).features.feature for r in records]
    assert [f["text"].bytes_list.value[0] for f in features] == TEXTS[:3]


def test_artifacts_behind_uris_are_proved_here_and_sent_back(given, monkeypatch):
    root = f"ram://{uuid.uuid4().hex}"
    for path in [path for folder in given.values() for path in folder.rglob("*")]:
        if path.is_file():
            uri = f"{root}/{path.relative_to(given['model'].parent)}"
            tf.io.gfile.makedirs(uri.rpartition("/")[0])
            tf.io.gfile.copy(str(path), uri)

    def prove(model, run, rows):
        assert (model / GRAPH).is_file() and (model / WARMUP).is_file()
        assert (run / "model.keras").is_file() and rows.is_file()
        return "Proved: here."

    monkeypatch.setattr(infra_validator, "run_proof", prove)
    uris = {name: f"{root}/{path.name}" for name, path in given.items()}
    blessing = validate(uris, f"{root}/blessing")
    assert blessing.get_int_custom_property("has_model") == 1
    with tf.io.gfile.GFile(f"{root}/blessing/INFRA_BLESSED") as file:
        assert file.read() == "Proved: here.\n"
    for name in (GRAPH, WEIGHTS, WARMUP):
        assert tf.io.gfile.exists(f"{root}/blessing/{STAMPED}/{name}")


def test_the_component_blesses_for_pusher_and_is_none_of_tfxs_own():
    channels = {
        name: channel_utils.as_channel([kind()]) for name, kind in KINDS.items()
    }
    component = InfraValidator(**channels, code="1")
    assert component.outputs["blessing"].type is standard_artifacts.InfraBlessing
    assert component.id == "InfraValidator"
    assert component.exec_properties["code"] == "1"
    assert not isinstance(component, StockInfraValidator)

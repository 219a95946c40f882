import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import yaml
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from mmkeras.config import to_dict
from mmkeras.errors import ExportMismatchError
from mmkeras.export import saved_model as exporting
from mmkeras.export.inference import Predictor, load_trained
from mmkeras.export.saved_model import export
from mmkeras.export.saved_model_session import loaded
from mmkeras.modalities import preprocessing_state
from tests import table_factory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def trained_model(folder):
    return load_trained(folder)


@pytest.fixture(scope="module")
def graph(folder):
    """The MetaGraph of the run's export, as it lies on disk."""
    content = (folder / "export" / "1" / "saved_model.pb").read_bytes()
    (meta,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return meta


def tensors(infos):
    """{key: (dtype, shape)}, -1 for any size."""
    return {
        key: (tf.as_dtype(i.dtype).name, [d.size for d in i.tensor_shape.dim])
        for key, i in infos.items()
    }


STRINGS = ("string", [-1])
IN = {"text": STRINGS, "image": STRINGS, "audio": STRINGS}


def test_serving_default_takes_bytes_and_gives_the_four_answers(graph):
    signature = graph.signature_def["serving_default"]
    assert tensors(signature.inputs) == IN
    assert tensors(signature.outputs) == {
        "probabilities": ("float32", [-1, 2]),
        "label": STRINGS,
        "score": ("float32", [-1]),
        "status": STRINGS,
    }
    assert signature.method_name == "tensorflow/serving/predict"


def test_embed_takes_the_same_bytes_and_gives_the_fused_vector(graph):
    signature = graph.signature_def["embed"]
    assert tensors(signature.inputs) == IN
    outputs = tensors(signature.outputs)
    assert outputs == {"embedding": ("float32", [-1, 8]), "status": STRINGS}


def test_classify_takes_examples_as_tf_serving_asks(graph):
    signature = graph.signature_def["classify"]
    assert tensors(signature.inputs) == {"inputs": STRINGS}
    outputs = tensors(signature.outputs)
    assert outputs["scores"][0] == "float32" and outputs["classes"][0] == "string"
    assert set(outputs) == {"scores", "classes"}
    assert signature.method_name == "tensorflow/serving/classify"


def test_labels_settings_and_analysis_lie_beside_the_graph(folder, trained_model):
    extra = folder / "export" / "1" / "assets.extra"
    assert sorted(path.name for path in extra.iterdir()) == [
        "analysis.json",
        "config.yaml",
        "labels.txt",
        "tf_serving_warmup_requests",
    ]
    assert (extra / "labels.txt").read_text() == "green\nred\n"
    assert yaml.safe_load((extra / "config.yaml").read_text()) == to_dict(
        trained_model.config
    )
    assert preprocessing_state.load(extra / "analysis.json") == trained_model.state


def test_nothing_but_the_version_is_in_the_export_folder(folder):
    assert [path.name for path in (folder / "export").iterdir()] == ["1"]


# The warm-up, replayed where only TensorFlow is known ---------------------------


@pytest.fixture(scope="module")
def warmup(folder):
    """{signature: {input: list of bytes}}"""
    path = folder / "export" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    requests = {}
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "predict_log":
            request = log.predict_log.request
            feeds = {k: list(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        else:
            request = log.classify_log.request
            examples = request.input.example_list.examples
            feeds = {"inputs": [one.SerializeToString() for one in examples]}
        requests[request.model_spec.signature_name] = feeds
    return requests


def test_the_warm_up_has_one_request_a_signature(warmup):
    assert set(warmup) == {"serving_default", "embed", "classify"}
    assert set(warmup["serving_default"]) == {"text", "image", "audio"}
    assert {len(rows) for feeds in warmup.values() for rows in feeds.values()} == {4}
    assert all(all(rows) for rows in warmup["serving_default"].values())  # complete


REPLAY = """
import pickle, sys
import tensorflow as tf

requests = pickle.load(sys.stdin.buffer)
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    meta = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1])
    answers = {}
    for name, feeds in requests.items():
        signature = meta.signature_def[name]
        outputs = {k: v.name for k, v in signature.outputs.items()}
        inputs = {signature.inputs[k].name: rows for k, rows in feeds.items()}
        answers[name] = session.run(outputs, inputs)
known = [name for name in sys.modules if name.split(".")[0] in ("mmkeras", "tests")]
assert not known, known
with open(sys.argv[2], "wb") as file:
    pickle.dump(answers, file)
"""


@pytest.mark.e2e
def test_a_process_that_knows_only_tensorflow_answers_as_the_model(
    folder, trained_model, warmup, tmp_path
):
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, str(folder / "export" / "1"), tmp_path / "out"],
        input=pickle.dumps(warmup),
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    answers = pickle.loads((tmp_path / "out").read_bytes())

    expected = Predictor(trained_model)(warmup["serving_default"])
    served = answers["serving_default"]
    for key in ("label", "status"):
        assert list(served[key]) == list(expected[key])
    near = {"atol": 1e-5, "rtol": 0}
    np.testing.assert_allclose(
        served["probabilities"], expected["probabilities"], **near
    )
    np.testing.assert_allclose(served["score"], expected["score"], **near)
    embedding = answers["embed"]["embedding"]
    np.testing.assert_allclose(embedding, expected["embedding"], atol=1e-5, rtol=1e-5)
    scores = answers["classify"]["scores"]
    np.testing.assert_allclose(scores, expected["probabilities"], **near)
    assert answers["classify"]["classes"].tolist() == [[b"green", b"red"]] * 4


def test_the_loader_of_tf_serving_answers_each_warm_up_request(folder, warmup):
    with loaded(folder / "export" / "1") as call:
        answers = {name: call(name, feeds) for name, feeds in warmup.items()}
    assert list(answers["serving_default"]["status"]) == [b"ok"] * 4
    assert list(answers["embed"]["status"]) == [b"ok"] * 4
    assert answers["classify"]["scores"].shape == (4, 2)


# Versions ---------------------------------------------------------------------

TEXTS = [{"text": b"hi"}, {"text": b"ho"}]


@pytest.fixture
def small(tmp_path):
    return table_factory.text_model(tmp_path)


@pytest.fixture
def quick(monkeypatch):
    """Saves and proves nothing."""
    monkeypatch.setattr(exporting, "_save", lambda _, path: path.mkdir())
    monkeypatch.setattr(exporting, "prove", lambda *_: None)
    return monkeypatch


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_versions_count_up_as_numbers(quick, small, tmp_path):
    folder = tmp_path / "export"
    for expected in ("1", "2"):
        assert export(small, TEXTS, folder) == folder / expected
    (folder / "9").mkdir()
    (folder / "notes").mkdir()
    (folder / ".10.partial").mkdir()  # a killed export's
    assert export(small, TEXTS, folder).name == "10"
    assert export(small, TEXTS, folder).name == "11"
    assert names(folder) == ["1", "10", "11", "2", "9", "notes"]


def test_a_version_is_proved_before_it_has_its_name(quick, small, tmp_path):
    folder, seen = tmp_path / "export", []

    def prove(path, *_):
        seen.append((path.name, names(folder), names(path)))

    quick.setattr(exporting, "prove", prove)
    export(small, TEXTS, folder)
    assert seen == [(".1.partial", [".1.partial"], ["assets.extra"])]
    assert names(folder) == ["1"]


def test_a_model_whose_weights_changed_after_saving_fails_its_proof(
    small, tmp_path, monkeypatch
):
    save = exporting._save

    def save_another(trained_model, path):
        save(trained_model, path)
        weights = trained_model.model.get_weights()
        trained_model.model.set_weights([w + 0.01 for w in weights])

    monkeypatch.setattr(exporting, "_save", save_another)
    with pytest.raises(ExportMismatchError, match="differs from the model by"):
        export(small, TEXTS, tmp_path / "export")
    assert names(tmp_path / "export") == []


def test_any_failure_leaves_nothing_behind(small, tmp_path, monkeypatch):
    def full(trained_model, path):
        path.mkdir()
        (path / "half").write_text("x")
        raise OSError("No space left on device")

    monkeypatch.setattr(exporting, "_save", full)
    with pytest.raises(OSError, match="No space"):
        export(small, TEXTS, tmp_path / "new")
    assert names(tmp_path / "new") == []


def test_a_model_of_text_alone_has_the_input_text_alone(small, tmp_path):
    path = export(small, TEXTS, tmp_path / "export")
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert list(serve.structured_input_signature[1]) == ["text"]
    found = serve(text=tf.constant([b"hi", b""]))
    assert found["probabilities"].shape == (2, 3)
    assert list(found["status"].numpy()) == [b"ok", b"text absent"]
    assert (path / "assets.extra" / "labels.txt").read_text() == "a\nb\nc\n"

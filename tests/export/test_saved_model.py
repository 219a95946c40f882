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
from mmkeras.export import saved_model
from mmkeras.export.inference import Predictor
from mmkeras.export.saved_model import export, save_signatures
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.modalities import preprocessing_state
from tests import table_factory


def graph_of(path):
    """Returns the MetaGraph of an export."""
    content = (path / "saved_model.pb").read_bytes()
    (meta,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return meta


@pytest.fixture(scope="module")
def graph(folder):
    return graph_of(folder / "export" / "1")


def tensors(infos):
    """{key: (dtype, shape)}, -1 for any size."""
    return {
        key: (tf.as_dtype(i.dtype).name, [d.size for d in i.tensor_shape.dim])
        for key, i in infos.items()
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir())


STRINGS = ("string", [-1])
BYTES = {"text": STRINGS, "image": STRINGS, "audio": STRINGS}


TWO = ("float32", [-1, 2])
OUTPUTS = {
    "serving_default": {"probabilities": TWO, "label": STRINGS, "status": STRINGS}
    | {"score": ("float32", [-1])},
    "embed": {"embedding": ("float32", [-1, 8]), "status": STRINGS},
    "classify": {"scores": TWO, "classes": ("string", [-1, 2])},
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_signature_has_its_inputs_and_outputs(graph, name):
    signature, is_classify = graph.signature_def[name], name == "classify"
    inputs = {"inputs": STRINGS} if is_classify else BYTES
    assert tensors(signature.inputs) == inputs
    assert tensors(signature.outputs) == OUTPUTS[name]
    method = "classify" if is_classify else "predict"
    assert signature.method_name == f"tensorflow/serving/{method}"


def test_labels_settings_and_state_are_in_assets_extra(folder, trained_model):
    assert names(folder / "export") == ["1"]
    extra = folder / "export" / "1" / "assets.extra"
    files = ["analysis.json", "config.yaml", "labels.txt", "tf_serving_warmup_requests"]
    assert names(extra) == files
    assert (extra / "labels.txt").read_text() == "green\nred\n"
    config = yaml.safe_load((extra / "config.yaml").read_text())
    assert config == to_dict(trained_model.config)
    assert preprocessing_state.load(extra / "analysis.json") == trained_model.state


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


def test_the_warm_up_has_one_request_per_signature(folder, warmup):
    assert set(warmup) == {"serving_default", "embed", "classify"}
    assert set(warmup["serving_default"]) == {"text", "image", "audio"}
    assert {len(rows) for feeds in warmup.values() for rows in feeds.values()} == {4}
    assert all(all(rows) for rows in warmup["serving_default"].values())  # complete
    with load_saved_model(folder / "export" / "1") as call:
        results = {name: call(name, feeds) for name, feeds in warmup.items()}
    for name in ("serving_default", "embed"):
        assert list(results[name]["status"]) == [b"ok"] * 4
    assert results["classify"]["scores"].shape == (4, 2)


REPLAY = """
import pickle, sys
import tensorflow as tf

requests = pickle.load(sys.stdin.buffer)
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    meta = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1])
    results = {}
    for name, feeds in requests.items():
        signature = meta.signature_def[name]
        outputs = {k: v.name for k, v in signature.outputs.items()}
        inputs = {signature.inputs[k].name: rows for k, rows in feeds.items()}
        results[name] = session.run(outputs, inputs)
ours = [name for name in sys.modules if name.split(".")[0] in ("mmkeras", "tests")]
assert not ours, ours
with open(sys.argv[2], "wb") as file:
    pickle.dump(results, file)
"""


def test_tensorflow_alone_predicts_the_same(folder, trained_model, warmup, tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", REPLAY, str(folder / "export" / "1"), tmp_path / "out"],
        input=pickle.dumps(warmup),
        cwd=tmp_path,
        capture_output=True,
    )
    assert process.returncode == 0, process.stderr.decode()[-2000:]
    results = pickle.loads((tmp_path / "out").read_bytes())

    expected = Predictor(trained_model)(warmup["serving_default"])
    result = results["serving_default"]
    for key in ("label", "status"):
        assert list(result[key]) == list(expected[key])
    for key, values in (
        ("probabilities", result["probabilities"]),
        ("probabilities", results["classify"]["scores"]),
        ("score", result["score"]),
    ):
        np.testing.assert_allclose(values, expected[key], atol=1e-5, rtol=0)
    embedding = results["embed"]["embedding"]
    np.testing.assert_allclose(embedding, expected["embedding"], atol=1e-5, rtol=1e-5)
    assert results["classify"]["classes"].tolist() == [[b"green", b"red"]] * 4


TEXTS = [{"text": b"hi"}, {"text": b"ho"}]


@pytest.fixture
def small(tmp_path):
    return table_factory.text_model(tmp_path)


@pytest.fixture
def quick(monkeypatch):
    """Saves and verifies nothing."""
    monkeypatch.setattr(saved_model, "save_signatures", lambda *_: None)
    monkeypatch.setattr(saved_model, "verify_export", lambda *_: None)
    return monkeypatch


def test_versions_count_up_as_numbers(quick, small, tmp_path):
    folder = tmp_path / "export"
    for expected in ("1", "2"):
        assert export(small, TEXTS, folder) == folder / expected
    for name in ("9", "notes", ".a1b2c3d4.10"):  # the last is of a killed export
        (folder / name).mkdir()
    assert export(small, TEXTS, folder).name == "10"
    assert export(small, TEXTS, folder).name == "11"
    assert names(folder) == ["1", "10", "11", "2", "9", "notes"]


def test_a_version_is_verified_before_it_has_its_name(quick, small, tmp_path):
    folder, contents = tmp_path / "export", []

    def verify(path, *_):
        assert names(folder) == [path.name] and path.name.startswith(".")
        contents.extend(names(path))

    quick.setattr(saved_model, "verify_export", verify)
    export(small, TEXTS, folder)
    assert contents == ["assets.extra"] and names(folder) == ["1"]


def test_a_text_model_has_text_as_its_only_input(small, tmp_path):
    save_signatures(small, tmp_path)
    signature = graph_of(tmp_path).signature_def["serving_default"]
    assert tensors(signature.inputs) == {"text": STRINGS}


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, name) for name in ("price", "price (€)", "x_column")]
    + [("class", "class_column")],  # a word of Python
)
def test_python_calls_a_signature_by_the_names_of_columns(tmp_path, name, argument):
    model = table_factory.text_model(tmp_path, column=name)
    saved_model.save_signatures(model, tmp_path / "1")
    serve = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    assert set(serve.structured_input_signature[1]) == {argument}
    outputs = serve(**{argument: tf.constant(["hi", ""])})
    assert outputs["status"].numpy().tolist() == [b"ok", f"{name} absent".encode()]


def test_a_model_changed_after_saving_is_not_exported(small, tmp_path, monkeypatch):
    def save(trained_model, path):
        save_signatures(trained_model, path)
        weights = trained_model.model.get_weights()
        trained_model.model.set_weights([w + 0.01 for w in weights])

    monkeypatch.setattr(saved_model, "save_signatures", save)
    with pytest.raises(ExportMismatchError, match="probabilities differs"):
        export(small, TEXTS, tmp_path / "export")
    assert names(tmp_path / "export") == []

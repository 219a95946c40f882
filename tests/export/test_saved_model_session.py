import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from mmkeras.export import saved_model_session
from mmkeras.export.c_api import load_library
from mmkeras.export.saved_model_session import Session, load_saved_model

ANY_SHAPE = tf.TensorSpec(None, tf.string, name="text")


def signature(spec):
    return tf.function(input_signature=[spec], autograph=False)


class Echo(tf.Module):
    """Signatures on strings of any shape (`strict`: a vector) and on numbers."""

    def __init__(self):
        self.zeros = tf.Variable(tf.zeros([5 * 2**20]))  # 20 MB

    @signature(ANY_SHAPE)
    def echo(self, text):
        lengths = tf.strings.length(text)
        return {
            "same": tf.identity(text),
            "twice": text + text,
            "int32": lengths,
            "int64": tf.cast(lengths, tf.int64),
            "float32": tf.cast(lengths, tf.float32) / 2,
            "float16": tf.cast(lengths, tf.float16),
            "bool": lengths > 1,
        }

    @signature(ANY_SHAPE)
    def strict(self, text):
        return {"same": tf.ensure_shape(text, [None])}

    @signature(tf.TensorSpec(None, tf.float32, name="x"))
    def deepen(self, x):
        return {"y": tf.stack([x], 0)}

    @signature(tf.TensorSpec([None], tf.float32, name="x"))
    def add(self, x):
        return {"sum": tf.reduce_sum(x) + self.zeros[-1]}

    @signature(tf.TensorSpec([None], tf.float32, name="x"))
    def wrap(self, x):
        return {"y": tf.raw_ops.OptionalFromValue(components=[x])}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path, echo = tmp_path_factory.mktemp("session") / "echo", Echo()
    names = ("echo", "strict", "deepen", "add", "wrap")
    tf.saved_model.save(echo, str(path), {name: getattr(echo, name) for name in names})
    return path


@pytest.fixture(scope="module")
def call(path):
    with load_saved_model(path) as call:
        yield call


@pytest.fixture
def session(path):
    session = Session(path)
    yield session
    session.close()


@pytest.mark.parametrize(
    "strings, shape",
    [
        (b"a", ()),
        ([b"a", b""], (2,)),
        ([[b"a", b"b"], [b"c", b"d"]], (2, 2)),
        (np.array([[[b"a"]]], object), (1, 1, 1)),
        ([], (0,)),
        (np.empty([0, 3], object), (0, 3)),
    ],
)
def test_strings_reach_the_graph_with_the_rank_they_have(call, strings, shape):
    result = call("echo", {"text": strings})
    assert result["same"].shape == result["int32"].shape == shape
    assert result["same"].tolist() == np.array(strings, object).tolist()


def test_any_bytes_are_returned_unchanged(call):
    strings = [b"", b"\0", b"end\0\0", b"\xff", b"x" * 22, b"x" * 23, b"\0y" * 99999]
    result = call("echo", {"text": strings})
    assert result["same"].tolist() == strings
    assert result["twice"].tolist() == [s + s for s in strings]
    assert result["int32"].tolist() == [len(s) for s in strings]


def test_each_output_has_its_own_type(call):
    result = call("echo", {"text": [b"a", b"bcd"]})
    lengths = dict.fromkeys(("int32", "int64", "float16"), [1, 3])
    expected = {**lengths, "float32": [0.5, 1.5], "bool": [False, True]}
    for name, values in expected.items():
        assert result[name].dtype == name and result[name].tolist() == values
    assert result["same"].dtype == object
    assert call("add", {"x": [1, 2, 3.5]})["sum"] == np.float32(6.5)


def test_a_result_is_a_copy(call):
    result = call("echo", {"text": [b"a" * 50]})
    call("echo", {"text": [b"b" * 70]})
    result["int32"] += 1
    assert result["int32"] == [51] and result["same"] == [b"a" * 50]


def test_several_threads_may_call_at_once(call):
    texts = [[b"%d" % i * 30] * 20 for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda text: call("echo", {"text": text}), texts))
    assert [result["same"].tolist() for result in results] == texts


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_neither_calls_nor_failures_nor_loads_keep_memory(path, call):
    rows = [os.urandom(2**20) for _ in range(8)]

    def use():
        call("echo", {"text": rows})
        with pytest.raises(tf.errors.InvalidArgumentError):
            call("strict", {"text": [rows]})

    for _ in range(3):
        use()
    before = resident_mb()
    for _ in range(75):  # 600 MB in, and 1,200 MB out
        use()
    for _ in range(20):
        with load_saved_model(path) as another:
            another("echo", {"text": rows})
    assert resident_mb() - before < 300  # TensorFlow's threads keep some


def test_inputs_of_the_same_array_share_one_tensor(session, monkeypatch):
    copies, to_tensor = [], saved_model_session.to_tensor
    monkeypatch.setattr(
        saved_model_session,
        "to_tensor",
        lambda array: copies.append(array) or to_tensor(array),
    )
    echo, strict = session.signatures["echo"], session.signatures["strict"]
    inputs = [s.inputs["text"].name for s in (echo, strict)]
    outputs = [s.outputs["same"].name for s in (echo, strict)]
    results = session.run(dict.fromkeys(inputs, np.array([b"a"], object)), outputs)
    assert [array.tolist() for array in results] == [[b"a"], [b"a"]]
    assert len(set(inputs)) == 2 and len(copies) == 1


def test_the_graph_refuses_a_wrong_rank(call):
    for strings in (b"a", [[b"a"]]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
            call("strict", {"text": strings})
    assert call("strict", {"text": [b"a"]})["same"] == [b"a"]  # still works


def test_an_unknown_signature_is_refused_with_the_known_ones(call):
    message = "signature 'ehco', only: add, deepen, echo, strict, wrap"
    with pytest.raises(tf.errors.NotFoundError, match=message):
        call("ehco", {"text": [b"a"]})


@pytest.mark.parametrize(
    "feeds, received",
    [({}, "nothing"), ({"txt": b""}, "txt"), ({"text": b"", "x": b""}, "text, x")],
)
def test_inputs_with_other_names_than_the_signatures_are_refused(call, feeds, received):
    message = f"'echo' takes text; received {received}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call("echo", feeds)


@pytest.mark.parametrize("strings", ["a", ["a"], [b"a", None], [[b"a"], [b"a", b"b"]]])
def test_strings_are_bytes_in_lists_of_one_length(call, strings):
    with pytest.raises((TypeError, ValueError)):
        call("echo", {"text": strings})


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (None, tf.errors.NotFoundError, "Could not find SavedModel"),
        (b"junk", tf.errors.OutOfRangeError, "Read less bytes than requested"),
        (b"half", tf.errors.OutOfRangeError, "Read less bytes than requested"),
    ],
)
def test_a_folder_without_a_complete_graph_is_no_model(
    path, tmp_path, content, error, match
):
    graph = (path / "saved_model.pb").read_bytes()
    if content:
        content = graph[: len(graph) // 2] if content == b"half" else content
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(error, match=match), load_saved_model(tmp_path):
        pass


@pytest.mark.parametrize("name", ["nowhere:0", "echo_text:1", "echo_text:x", ""])
def test_a_signature_that_names_no_tensor_is_refused_when_called(path, tmp_path, name):
    content = (path / "saved_model.pb").read_bytes()
    model = saved_model_pb2.SavedModel.FromString(content)
    model.meta_graphs[0].signature_def["echo"].outputs["bool"].name = name
    copy = shutil.copytree(path, tmp_path / "copy")
    (copy / "saved_model.pb").write_bytes(model.SerializeToString())
    with load_saved_model(copy) as call:
        with pytest.raises(tf.errors.UnimplementedError, match="not a dense tensor"):
            call("echo", {"text": [b"a"]})
        assert call("strict", {"text": [b"a"]})["same"] == [b"a"]


@pytest.mark.parametrize("name", ["my [1] run", "a*b", "why?", "a\\b"])
def test_a_folder_with_a_name_like_a_pattern_is_loaded(name, path, tmp_path):
    copy = shutil.copytree(path, tmp_path / name / "1")
    with load_saved_model(copy) as call:
        assert call("add", {"x": [1, 2]})["sum"] == 3


def test_a_closed_model_has_no_signatures(path):
    with load_saved_model(path) as call:
        pass
    with pytest.raises(tf.errors.NotFoundError, match="only: none"):
        call("echo", {"text": b"a"})


def test_a_model_that_only_python_can_load_fails(tmp_path):
    class Holder(tf.Module):
        """A tf.Module does not track the variables of Keras 3."""

        def __init__(self):
            self.model = keras.Sequential([keras.Input([1]), keras.layers.Dense(3)])

        @signature(tf.TensorSpec([None], tf.string, name="text"))
        def serve(self, text):
            lengths = tf.cast(tf.strings.length(text), tf.float32)
            return {"y": self.model(lengths[:, None])}

    holder = Holder()
    tf.saved_model.save(holder, str(tmp_path), {"serving_default": holder.serve})
    serve = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    assert serve(text=tf.constant([b"a"]))["y"].shape == (1, 3)

    with pytest.raises(tf.errors.FailedPreconditionError, match="not find variable"):
        with load_saved_model(tmp_path) as call:
            call("serving_default", {"text": [b"a"]})


def test_the_operations_of_a_signature_include_those_of_its_functions(session):
    operations = session.operations
    assert {"Sum", "StridedSlice"} <= operations["add"]
    assert "Pack" in operations["deepen"]
    assert "Pack" not in operations["add"]
    assert "Sum" not in operations["deepen"]


def test_an_output_with_more_dimensions_than_numpy_allows_is_an_error(call):
    assert call("deepen", {"x": np.zeros([1] * 31, np.float32)})["y"].ndim == 32
    with pytest.raises(tf.errors.UnimplementedError, match="33 dimensions"):
        call("deepen", {"x": np.zeros([1] * 32, np.float32)})


def test_a_session_whose_model_cannot_be_parsed_is_closed(path, monkeypatch):
    closed, delete = [], load_library().TF_DeleteSession
    monkeypatch.setattr(
        load_library(), "TF_DeleteSession", lambda *a: closed.append(delete(*a))
    )
    monkeypatch.setattr(saved_model_session, "meta_graph_pb2", None)
    with pytest.raises(AttributeError):
        Session(path)
    assert closed == [None]


def test_an_output_that_is_not_an_array_is_an_error(session, call):
    definition = session.signatures["wrap"]
    feeds = {definition.inputs["x"].name: np.ones(1, np.float32)}
    with pytest.raises(tf.errors.UnimplementedError, match="type variant"):
        session.run(feeds, [definition.outputs["y"].name])
    with pytest.raises(tf.errors.UnimplementedError, match="'y' .*not a dense tensor"):
        call("wrap", {"x": [1.0]})

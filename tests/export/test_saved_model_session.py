import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from mmkeras.export import saved_model_session
from mmkeras.export.c_api import functions
from mmkeras.export.saved_model_session import Session, loaded
from tests import table_factory

SHAPELESS = tf.TensorSpec(None, tf.string, name="text")


class Echo(tf.Module):
    """Says of strings of any shape what they are; `strict` wants a vector."""

    def __init__(self):
        self.zeros = tf.Variable(tf.zeros([5 * 2**20]))  # 20 MB

    @tf.function(input_signature=[SHAPELESS], autograph=False)
    def say(self, text):
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

    @tf.function(input_signature=[SHAPELESS], autograph=False)
    def strict(self, text):
        return {"same": tf.ensure_shape(text, [None])}

    @tf.function(
        input_signature=[tf.TensorSpec(None, tf.float32, name="x")], autograph=False
    )
    def deepen(self, x):
        return {"y": tf.stack([x], 0)}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")], autograph=False
    )
    def add(self, x):
        return {"sum": tf.reduce_sum(x) + self.zeros[-1]}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path, echo = tmp_path_factory.mktemp("native") / "echo", Echo()
    signatures = {"say": echo.say, "strict": echo.strict, "add": echo.add}
    signatures["deepen"] = echo.deepen
    tf.saved_model.save(echo, str(path), signatures)
    return path


@pytest.fixture(scope="module")
def call(path):
    with loaded(path) as call:
        yield call


# Values -----------------------------------------------------------------------


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
    found = call("say", {"text": strings})
    assert found["same"].shape == found["int32"].shape == shape
    assert found["same"].tolist() == np.array(strings, object).tolist()


def test_any_bytes_arrive_and_come_back_as_they_are(call):
    strings = [b"", b"\0", b"end\0\0", b"\xff", b"x" * 22, b"x" * 23, b"\0y" * 99999]
    found = call("say", {"text": strings})
    assert found["same"].tolist() == strings
    assert found["twice"].tolist() == [s + s for s in strings]
    assert found["int32"].tolist() == [len(s) for s in strings]


def test_each_output_has_its_own_type(call):
    found = call("say", {"text": [b"a", b"bcd"]})
    for name in ("int32", "int64", "float32", "float16", "bool"):
        assert found[name].dtype == name
    assert found["same"].dtype == object
    assert found["float32"].tolist() == [0.5, 1.5]
    assert found["int64"].tolist() == found["float16"].tolist() == [1, 3]
    assert found["bool"].tolist() == [False, True]


def test_numbers_are_fed_as_the_signature_has_them(call):
    assert call("add", {"x": [1, 2, 3.5]})["sum"] == np.float32(6.5)


def test_an_answer_is_the_callers_own(call):
    kept = call("say", {"text": [b"a" * 50]})
    call("say", {"text": [b"b" * 70]})
    kept["int32"] += 1
    assert kept["int32"] == [51] and kept["same"] == [b"a" * 50]


def test_several_threads_may_call_at_once(call):
    texts = [[b"%d" % i * 30] * 20 for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: call("say", {"text": text}), texts))
    assert [one["same"].tolist() for one in found] == texts


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_neither_calls_nor_failures_nor_loads_keep_memory(path, call):
    rows = [os.urandom(2**20) for _ in range(8)]

    def use():
        call("say", {"text": rows})
        with pytest.raises(tf.errors.InvalidArgumentError):
            call("strict", {"text": [rows]})

    for _ in range(3):
        use()
    before = resident_mb()
    for _ in range(75):  # 600 MB in, and 1,200 MB out
        use()
    for _ in range(20):
        with loaded(path) as another:
            another("say", {"text": rows})
    assert (
        resident_mb() - before < 300
    )  # threads of TensorFlow keep some for themselves


# Failures ---------------------------------------------------------------------


def test_the_graph_itself_refuses_a_wrong_rank(call):
    for strings in (b"a", [[b"a"]]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
            call("strict", {"text": strings})
    assert call("strict", {"text": [b"a"]})["same"] == [b"a"]  # and goes on


def test_an_unknown_signature_is_said_with_those_that_there_are(call):
    message = "no signature 'sya', only: add, deepen, say, strict"
    with pytest.raises(tf.errors.NotFoundError, match=message):
        call("sya", {"text": [b"a"]})


@pytest.mark.parametrize(
    "feeds, received",
    [({}, "nothing"), ({"txt": b""}, "txt"), ({"text": b"", "x": b""}, "text, x")],
)
def test_inputs_that_are_not_the_signatures_are_refused(call, feeds, received):
    message = f"'say' takes text; received {received}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call("say", feeds)


@pytest.mark.parametrize("strings", ["a", ["a"], [b"a", None], [[b"a"], [b"a", b"b"]]])
def test_strings_are_bytes_in_lists_of_one_length(call, strings):
    with pytest.raises((TypeError, ValueError)):
        call("say", {"text": strings})


def test_a_folder_without_a_model_is_not_found(tmp_path):
    with pytest.raises(tf.errors.NotFoundError, match="Could not find SavedModel"):
        with loaded(tmp_path):
            pass


def test_a_model_without_its_variables_is_not_found(path, tmp_path):
    class Weighty(tf.Module):
        def __init__(self):
            self.weight = tf.Variable(1.0)

        @tf.function(input_signature=[SHAPELESS], autograph=False)
        def say(self, text):
            return {"weight": self.weight + tf.cast(tf.size(text), tf.float32)}

    model = Weighty()
    tf.saved_model.save(model, str(tmp_path), {"say": model.say})
    with loaded(tmp_path) as call:
        assert call("say", {"text": [b"a", b"b"]}) == {"weight": 3.0}
    shutil.rmtree(tmp_path / "variables")
    with pytest.raises(tf.errors.OpError):
        with loaded(tmp_path) as call:
            call("say", {"text": [b"a", b"b"]})


@pytest.mark.parametrize("damage", [lambda pb: pb[: len(pb) // 2], lambda _: b"junk"])
def test_a_damaged_graph_is_no_model(path, tmp_path, damage):
    content = (path / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(damage(content))
    with pytest.raises((tf.errors.DataLossError, tf.errors.OutOfRangeError)):
        with loaded(tmp_path):
            pass


@pytest.mark.parametrize("name", ["nowhere:0", "say_text:1", "say_text:x", ""])
def test_a_signature_that_names_no_tensor_is_refused_when_called(path, tmp_path, name):
    content = (path / "saved_model.pb").read_bytes()
    model = saved_model_pb2.SavedModel.FromString(content)
    model.meta_graphs[0].signature_def["say"].outputs["bool"].name = name
    copy = shutil.copytree(path, tmp_path / "copy")
    (copy / "saved_model.pb").write_bytes(model.SerializeToString())
    with loaded(copy) as call:
        with pytest.raises(tf.errors.UnimplementedError, match="no plain tensor"):
            call("say", {"text": [b"a"]})
        assert call("strict", {"text": [b"a"]})["same"] == [b"a"]


def test_a_model_that_was_closed_answers_nothing(path):
    with loaded(path) as call:
        call("say", {"text": b"a"})
    with pytest.raises(tf.errors.NotFoundError, match="only: none"):
        call("say", {"text": b"a"})


# Against the loaders of Python ------------------------------------------------


def test_what_only_python_can_load_is_found_out(tmp_path):
    class Holder(tf.Module):
        """Keras 3 keeps its variables where tf.Module does not look for them."""

        def __init__(self):
            self.model = keras.Sequential([keras.Input([1]), keras.layers.Dense(3)])

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, name="text")],
            autograph=False,
        )
        def serve(self, text):
            lengths = tf.cast(tf.strings.length(text), tf.float32)
            return {"y": self.model(lengths[:, None])}

    holder = Holder()
    tf.saved_model.save(holder, str(tmp_path), {"serving_default": holder.serve})
    serve = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    assert serve(text=tf.constant([b"a"]))["y"].shape == (1, 3)

    with pytest.raises(tf.errors.FailedPreconditionError, match="not find variable"):
        with loaded(tmp_path) as call:
            call("serving_default", {"text": [b"a"]})


def test_a_trained_export_answers_as_in_a_session_of_python(tmp_path_factory):
    path = table_factory.trained_run(tmp_path_factory)[0] / "export" / "1"
    rows = {
        "text": [b"warm fire", b"", b"grass"],
        "image": [table_factory.image(), b"junk", b""],
        "audio": [table_factory.tone(), b"", b"junk"],
    }
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        with loaded(path) as call:
            for signature in ("serving_default", "embed"):
                definition = meta.signature_def[signature]
                fed = {definition.inputs[k].name: v for k, v in rows.items()}
                fetched = {k: v.name for k, v in definition.outputs.items()}
                expected, found = session.run(fetched, fed), call(signature, rows)
                assert set(found) == set(expected)
                for key, value in expected.items():
                    assert found[key].dtype == value.dtype
                    np.testing.assert_array_equal(found[key], value)
            empty = call("serving_default", {m: [] for m in rows})
    assert empty["probabilities"].shape == (0, 2) and empty["label"].shape == (0,)


# What a server asks -----------------------------------------------------------


def test_the_operations_of_a_signature_are_its_own_and_those_of_its_functions(path):
    session = Session(path)
    operations = session.operations
    session.close()
    assert {"Sum", "StridedSlice"} <= operations["add"]
    assert "Pack" in operations["deepen"]
    assert "Pack" not in operations["add"]
    assert "Sum" not in operations["deepen"]


def test_an_output_of_more_ranks_than_numpy_has_is_an_error(call):
    assert call("deepen", {"x": np.zeros([1] * 31, np.float32)})["y"].ndim == 32
    with pytest.raises(tf.errors.UnimplementedError, match="33 dimensions"):
        call("deepen", {"x": np.zeros([1] * 32, np.float32)})


def test_a_model_that_is_not_understood_is_closed(path, monkeypatch):
    closed, delete = [], functions().TF_DeleteSession
    monkeypatch.setattr(
        functions(), "TF_DeleteSession", lambda *a: closed.append(delete(*a))
    )
    monkeypatch.setattr(saved_model_session, "_operations", lambda meta: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Session(path)
    assert closed == [None]


def test_an_output_that_is_no_array_is_an_error_of_its_own(tmp_path):
    class Listing(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
            autograph=False,
        )
        def list(self, x):
            return {"y": tf.raw_ops.OptionalFromValue(components=[x])}

    listing = Listing()
    tf.saved_model.save(listing, str(tmp_path), {"list": listing.list})
    session = Session(tmp_path)
    definition = session.signatures["list"]
    feeds = {definition.inputs["x"].name: np.ones(1, np.float32)}
    with pytest.raises(tf.errors.UnimplementedError, match="of type variant"):
        session.run(feeds, [definition.outputs["y"].name])
    session.close()

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.errors import UserError
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.layers.saved_model import SavedModelLayer, saved_models

X = np.arange(6, dtype="float32").reshape(2, 3)
VECTORS = X @ np.array([[1, 2], [3, 4], [5, 6]], "float32")
SPEC = tf.TensorSpec([None, 3], tf.float32, name="rows")
OTHERS = tf.TensorSpec([None, 3], tf.float32, name="others")
PAIR = {"signature": "pair"}


class Encoder(tf.Module):
    """Rows to vectors and their sums, by a call and by two signatures."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.matrix = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        self.shift = tf.Variable(shift)

    @tf.function(input_signature=[SPEC], autograph=False)
    def __call__(self, rows):
        return rows @ self.matrix + self.shift

    @tf.function(input_signature=[SPEC], autograph=False)
    def pair(self, rows):
        vectors = self(rows)
        return {"vectors": vectors, "sums": tf.reduce_sum(vectors, axis=1)}

    @tf.function(input_signature=[SPEC, OTHERS], autograph=False)
    def total(self, rows, others):
        return {"vectors": self(rows + others)}


def save(folder, **settings):
    module = Encoder(**settings)
    signatures = {"pair": module.pair, "total": module.total}
    tf.saved_model.save(module, str(folder), signatures)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("saved_model"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, VECTORS),
        ({"output_name": "0"}, VECTORS),
        (
            {**PAIR, "input_name": "rows", "output_name": "vectors"},
            VECTORS,
        ),
        ({**PAIR, "output_name": "vectors"}, VECTORS),
        ({**PAIR, "output_name": "sums"}, VECTORS.sum(axis=1)),
    ],
)
def test_call_and_signatures_give_their_outputs(settings, expected, folder):
    layer = SavedModelLayer(folder, **settings)
    np.testing.assert_allclose(layer(X), expected)
    assert layer.row_shape == expected.shape[1:]
    assert layer.input_rank == 2


def build_model(folder):
    rows = keras.Input((3,), dtype="uint8", name="rows")
    encoder = keras.Model(rows, SavedModelLayer(folder)(rows), name="encoder")
    return keras.Model({"rows": rows}, keras.layers.Dense(1)(encoder(rows)))


def test_a_saved_layer_needs_its_folder_no_more(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "my [1] folder")
    model = build_model(copy)
    path, expected = tmp_path / "model.keras", model({"rows": X})
    model.save(path)
    shutil.rmtree(copy)

    loaded = keras.models.load_model(path)

    np.testing.assert_array_equal(loaded({"rows": X}), expected)
    loaded.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_array_equal(again({"rows": X}), expected)
    for weight, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_a_model_with_such_a_layer_is_exported(folder, tmp_path):
    model, served = build_model(folder), tf.Module()
    served.saved_models = list(saved_models(model))
    served.weights = [v.value for v in model.variables]
    serve = tf.function(lambda rows: {"y": model({"rows": rows})}, [SPEC])
    tf.saved_model.save(served, str(tmp_path), serve)
    with load_saved_model(tmp_path) as call:
        output = call("serving_default", {"rows": X})["y"]
    np.testing.assert_allclose(output, model({"rows": X}), rtol=1e-6)


def test_weights_differ_where_the_files_do(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    other = save(tmp_path / "other", shift=1.0)
    first, same, different = (
        SavedModelLayer(path).get_weights() for path in (folder, copy, other)
    )
    np.testing.assert_array_equal(first, same)
    assert (first[0] != different[0]).any()
    assert first[0].shape == (32,)


def test_nothing_is_trained(folder):
    layer = SavedModelLayer(folder)
    layer.trainable = True
    assert not layer.trainable_variables


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"signature": "serve"}, "no signature 'serve'; it has 'pair', 'total'"),
        ({**PAIR, "input_name": "x"}, "no input 'x'; it has 'rows'"),
        ({"input_name": "x"}, "no signature 'serving_default'; it has 'pair'"),
        ({"signature": "total"}, "no single input; it has 'others', 'rows'"),
        (
            {**PAIR, "output_name": "x"},
            "no output 'x'; it has 'sums', 'vectors'",
        ),
        (PAIR, "no single output; it has 'sums', 'vectors'"),
        ({"output_name": "1"}, "no output '1'; it has '0'"),
    ],
)
def test_a_wrong_name_is_refused_with_those_there_are(settings, reason, folder):
    with pytest.raises(UserError, match=reason):
        SavedModelLayer(folder, **settings)(X)


def test_another_input_or_folder_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"does not take an input of shape \(2, 4\)"):
        SavedModelLayer(folder)(np.zeros((1, 4), "float32"))
    with pytest.raises(UserError, match="no folder of a SavedModel.*saved_model.pb"):
        SavedModelLayer(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"cannot be loaded"):
        SavedModelLayer(tmp_path)


def test_a_model_without_a_row_for_each_of_its_input_is_refused(tmp_path):
    module = tf.Module()
    serve = tf.function(lambda rows: {"mean": tf.reduce_mean(rows, axis=0)}, [SPEC])
    tf.saved_model.save(module, str(tmp_path), serve)
    with pytest.raises(UserError, match=r"gives \(3,\) for two rows"):
        SavedModelLayer(tmp_path)(X)

"""SavedModel with many types, ranks and operations, independent of mmkeras."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

NAME = "foreign"
_NUMBERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_NUMBERS += ("half", "bfloat16", "float", "double", "complex64", "complex128", "bool")


def save(base: Path) -> Path:
    """Writes version 1 of the model under `base`; returns `base`."""
    file = base / "1" / "saved_model.pb"
    module = _Foreign()
    names = [name for name in dir(module) if name.startswith("call_")]
    functions = {name.removeprefix("call_"): getattr(module, name) for name in names}
    functions["serving_default"] = functions["dense"]
    tf.saved_model.save(module, str(file.parent), signatures=functions)
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for name in ("classify", "regress"):
        signature = saved.meta_graphs[0].signature_def[name]
        signature.method_name = f"tensorflow/serving/{name}"
    file.write_bytes(saved.SerializeToString())
    return base


def _function(**specs):
    """Returns a tf.function decorator for named inputs, each (dtype, shape)."""
    signature = {n: tf.TensorSpec(s, tf.as_dtype(t), n) for n, (t, s) in specs.items()}
    return lambda call: tf.function(call, input_signature=list(signature.values()))


class _Foreign(tf.Module):
    """Module with one signature per method `call_NAME`."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(0)

        def variable(*shape):
            return tf.Variable(random.normal(size=shape), dtype=tf.float32)

        self.kernel, self.bias = variable(3, 3, 3, 4), variable(4)
        self.weights, self.table = variable(4, 3), variable(10, 4)
        self.lstm = keras.layers.LSTM(4)
        self.lstm.build((None, 5, 3))
        for name in _NUMBERS:
            call = _function(x=(name, [None, 2]))(lambda x: {"y": x, "n": tf.shape(x)})
            setattr(self, f"call_{name}", call)

    @_function(pixels=("float", [None, 8, 8, 3]))
    def call_conv(self, pixels):
        x = tf.nn.bias_add(tf.nn.conv2d(pixels, self.kernel, 2, "SAME"), self.bias)
        x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "SAME")
        return {"y": tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ self.weights)}

    @_function(numbers=("float", [None, 4]))
    def call_dense(self, numbers):
        return {"y": tf.nn.relu(numbers @ self.weights)}

    @_function(series=("float", [None, 5, 3]))
    def call_lstm(self, series):
        return {"y": self.lstm(series)}

    @_function(ids=("int64", [None, 2]))
    def call_ids(self, ids):
        return {"y": tf.gather(self.table, ids)}

    @_function(x=("string", [None]))
    def call_words(self, x):
        return {"upper": tf.strings.upper(x), "length": tf.strings.length(x)}

    @_function(x=("string", [None]))
    def call_ragged(self, x):
        parts = tf.strings.split(x)
        return {"y_bytes": parts.to_tensor(), "rows": parts.row_lengths()}

    @_function(x=("string", [None]))
    def call_pixels(self, x):
        def decoded(data):
            return tf.io.decode_image(data, 3, expand_animations=False)[0, 0]

        return {"y": tf.map_fn(decoded, x, fn_output_signature=tf.uint8)}

    @_function(x=("float", None))
    def call_anything(self, x):
        return {"y": tf.exp(x) + 1.0, "rank": tf.rank(x)}

    @_function(x=("float", None))
    def call_anything_dense(self, x):
        return {"y": tf.raw_ops.MatMul(a=x, b=self.weights)}

    @_function(x=("float", None))
    def call_anything_conv(self, x):
        y = tf.raw_ops.Conv2D(
            input=x, filter=self.kernel, strides=[1] * 4, padding="SAME"
        )
        return {"y": tf.nn.relu(tf.nn.bias_add(y, self.bias))}

    @_function(x=("string", None))
    def call_any_words(self, x):
        return {"y": tf.strings.length(x)}

    @_function(x=("double", []))
    def call_scalar(self, x):
        return {"y": x * 2}

    @_function(x=("float", [None, None]))
    def call_matrix(self, x):
        return {"y": tf.matmul(x, x, transpose_b=True), "row": tf.reduce_sum(x, 1)}

    @_function(a=("float", [None, 2]), b=("int32", [None, 3]), c=("string", [None]))
    def call_many(self, a, b, c):
        joined = tf.concat([a, tf.cast(b, tf.float32)], -1)
        return {"y": joined, "c": c, "size": tf.size(b)}

    @_function(inputs=("string", [None]))
    def call_classify(self, inputs):
        x = self._parsed(inputs)
        names = tf.repeat([[b"a", b"b"]], tf.shape(x)[0], axis=0)
        return {"classes": names, "scores": tf.concat([x, 1 - x], -1)}

    @_function(inputs=("string", [None]))
    def call_regress(self, inputs):
        return {"outputs": self._parsed(inputs)}

    def _parsed(self, examples):
        features = {"x": tf.io.FixedLenFeature([1], tf.float32, [0.5])}
        return tf.io.parse_example(examples, features)["x"]

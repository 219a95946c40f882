"""Small SavedModels for tests of serving."""

from pathlib import Path

import tensorflow as tf

_EXAMPLES = tf.TensorSpec([None], tf.string, name="inputs")
_FLOATS = tf.TensorSpec([None], tf.float32, name="x")


class Halves(tf.Module):
    """y = x / 2 + bias with every kind of signature."""

    def __init__(self, bias: float = 2.0):
        super().__init__()
        self.bias = tf.Variable(bias)
        self.kernel = tf.Variable(tf.ones([3, 2]))

    def _halves(self, x):
        return x / 2 + self.bias

    def _parsed(self, inputs):
        features = {"x": tf.io.FixedLenFeature([], tf.float32)}
        return tf.io.parse_example(inputs, features)["x"]

    @tf.function(input_signature=[_FLOATS])
    def halve(self, x):
        return {"y": self._halves(x)}

    @tf.function(input_signature=[_FLOATS, tf.TensorSpec([None], tf.float32, name="b")])
    def add(self, x, b):
        return {"sum": x + b, "difference": x - b}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def dense(self, x):
        return {"y": tf.nn.softmax(tf.nn.relu(tf.matmul(x, self.kernel)))}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, name="n")])
    def total(self, n):
        return {"total": tf.reduce_sum(n, axis=1), "rows": tf.shape(n)[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def echo(self, s):
        return {"s_bytes": s, "length": tf.strings.length(s)}

    @tf.function(input_signature=[_EXAMPLES])
    def regress(self, inputs):
        return {"outputs": self._halves(self._parsed(inputs))}

    @tf.function(input_signature=[_EXAMPLES])
    def classify(self, inputs):
        high = tf.sigmoid(self._halves(self._parsed(inputs)))
        names = tf.tile([["low", "high"]], [tf.shape(high)[0], 1])
        return {"classes": names, "scores": tf.stack([1 - high, high], axis=1)}


def save_halves(base: Path, version: int = 1, bias: float = 2.0) -> Path:
    """Saves a version of `Halves` by a rename; returns `base`."""
    model = Halves(bias)
    signatures = {
        "serving_default": model.halve,
        "add": model.add,
        "dense": model.dense,
        "total": model.total,
        "echo": model.echo,
        "regress": model.regress,
        "classify": model.classify,
    }
    tmp_folder = base / f".{version}"
    tf.saved_model.save(model, str(tmp_folder), signatures)
    tmp_folder.rename(base / str(version))
    return base


def save_shared(base: Path) -> Path:
    """Saves a TensorFlow 1 model whose signatures share an input; returns `base`.

    `regress` returns x / 2 + 2, and `classify` the same as its only score.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = v1.placeholder(tf.string, [None], name="examples")
        features = {"x": tf.io.FixedLenFeature([], tf.float32)}
        halves = tf.io.parse_example(inputs, features)["x"] / 2 + 2
        infos = {
            "inputs": v1.saved_model.build_tensor_info(inputs),
            "outputs": v1.saved_model.build_tensor_info(halves),
            "scores": v1.saved_model.build_tensor_info(halves[:, None]),
        }
        signatures = {
            name: v1.saved_model.build_signature_def(
                {"inputs": infos["inputs"]},
                {output: infos[output]},
                f"tensorflow/serving/{name}",
            )
            for name, output in (("regress", "outputs"), ("classify", "scores"))
        }
        builder = v1.saved_model.Builder(str(base / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    return base


def floats(value: float) -> tf.train.Example:
    """Returns an example for `regress` and `classify`."""
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(value)
    return example

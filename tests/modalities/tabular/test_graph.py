import numpy as np
import pytest
import tensorflow as tf

from tests.modalities.tabular.tables import MONDAY, ROWS, STATE, make_branch

# Numbers of price and sold, their flags, indices of color and size.
EXPECTED = [
    [1.5, *MONDAY, 0, 0, 3, 2],
    [0, *[0] * 8, 1, 1, 0, 0],
    [0, *[0] * 8, 1, 1, 1, 1],
]


@pytest.fixture(scope="module")
def graph():
    return make_branch().graph(STATE)


def test_a_row_is_numbers_then_flags_then_categories(graph):
    x, _ = graph(ROWS)
    assert x.dtype == tf.float32
    assert graph.input_spec.is_compatible_with(x[0])
    np.testing.assert_allclose(x, EXPECTED, atol=1e-4)


def test_unusable_values_differ_from_absent_ones(graph):
    _, usable = graph(ROWS)
    for name in ("price", "sold"):
        np.testing.assert_array_equal(usable[name], [[1, 0, 0], [1, 0, 1]])
    for name in ("color", "size"):  # an unseen category can be used
        np.testing.assert_array_equal(usable[name], [[1, 0, 1], [1, 0, 1]])


def test_training_and_serving_give_the_same_input(graph):
    rows = tf.data.Dataset.from_tensor_slices(ROWS)
    rows = rows.map(lambda row: graph.finish_row(graph.decode(row, {})))
    x = graph.finish_batch(next(iter(rows.batch(3))))
    np.testing.assert_array_equal(x, graph(ROWS)[0])


@pytest.mark.parametrize("scale", ["standard", "quantile"])
def test_an_export_needs_neither_tables_nor_python(tmp_path, scale):
    quantiles = {"quantiles": np.linspace([0.0], [20.0], 5).tolist()}
    state = STATE if scale == "standard" else {**STATE, "price": quantiles}
    graph = make_branch().graph(state)
    module, specs = (
        tf.Module(),
        {name: tf.TensorSpec([None], x.dtype, name=name) for name, x in ROWS.items()},
    )

    def serve(**values):
        x, usable = graph(values)
        return {"x": x, **{name: ok for name, (ok, _) in usable.items()}}

    module.serve = tf.function(serve, autograph=False)
    signature = module.serve.get_concrete_function(**specs)
    assert not {op.type for op in signature.graph.get_operations()} & {
        "PyFunc",
        "EagerPyFunc",
        "HashTableV2",
    }
    tf.saved_model.save(module, tmp_path, signatures=signature)
    served = tf.saved_model.load(tmp_path).signatures["serving_default"](**ROWS)
    x, usable = graph(ROWS)
    np.testing.assert_array_equal(served["x"], x)
    for name, (ok, _) in usable.items():
        np.testing.assert_array_equal(served[name], ok)

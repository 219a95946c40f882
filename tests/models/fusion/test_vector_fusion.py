import keras
import numpy as np
import pytest

from mmkeras.config import FusionConfig
from mmkeras.models.fusion import fuse
from mmkeras.models.fusion.vector_fusion import AppendOne, SumRanks

WIDTHS = (3, 5, 2)
KINDS = ("concat", "interaction", "gated", "tensor", "low_rank", "late")


def built(kind, widths=WIDTHS, **settings):
    keras.utils.set_random_seed(1)
    settings = {"units": 4, "width": 3, "rank": 2, "dropout": 0.0} | settings
    inputs = [keras.Input((width,)) for width in widths]
    present = keras.Input((len(widths),))
    config = FusionConfig(kind=kind, **settings)
    return keras.Model([*inputs, present], fuse(inputs, present, config))


def rows(count=6, widths=WIDTHS, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(count, width)).astype("float32") for width in widths]


def gelu(x):
    return np.array(keras.activations.gelu(x))


def all_there(count=6, modalities=3):
    return np.ones((count, modalities), "float32")


@pytest.mark.parametrize(
    ("kind", "width", "parameters"),
    [  # absence embeddings are 10 of them
        ("concat", 4, 10 + 44),
        ("interaction", 7 * 3, 10 + 39),
        ("gated", 4, 10 + (16 + 24 + 12) + 3 * 44),
        ("tensor", 4, 10 + 39 + 65 * 4 - 4 + 4),
        ("low_rank", 4, 10 + 39 + 3 * 32 + 2 + 4),
        ("late", 10, 0),
    ],
)
def test_a_fusion_has_its_width_and_its_parameters(kind, width, parameters):
    model = built(kind)
    assert model.output_shape == (None, width)
    assert model.count_params() == parameters


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_an_absent_branch_cannot_change_the_result(kind):
    model, vectors, present = built(kind), rows(), all_there()
    present[:3, 1] = 0
    before = np.array(model([*vectors, present]))
    for content in (0.0, 1e30, np.nan):
        vectors[1][:3] = content
        np.testing.assert_array_equal(model([*vectors, present]), before)
    vectors[1][3:] += 1
    assert not np.allclose(model([*vectors, present])[3:], before[3:])


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_presence_takes_what_it_is_given(kind):
    model, vectors = built(kind, presence=False), rows()
    known = np.array(model([*vectors, all_there()]))
    np.testing.assert_array_equal(model([*vectors, np.zeros((6, 3))]), known)
    assert not any("absence" in weight.path for weight in model.weights)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_branches_are_fused_as_well(kind, count):
    model = built(kind, WIDTHS[:count])
    result = np.array(model([*rows()[:count], all_there(modalities=count)]))
    assert result.shape[0] == 6 and np.isfinite(result).all()
    assert np.ptp(result, axis=0).any()


def test_interaction_has_each_term_of_the_products_once():
    model, vectors = built("interaction"), rows()
    text, image, audio = (
        np.tanh(v @ kernel.numpy() + bias.numpy())
        for v, (kernel, bias) in zip(
            vectors,
            [model.get_layer(f"project_{i}").weights for i in range(3)],
            strict=True,
        )
    )
    terms = [text, image, audio, text * image, text * audio, image * audio]
    expected = np.concatenate([*terms, text * image * audio], axis=1)
    np.testing.assert_allclose(model([*vectors, all_there()]), expected, rtol=1e-4)


def test_a_closed_gate_lets_nothing_through():
    model, vectors = built("gated"), rows()
    model.get_layer("gate_1").bias.assign(np.full(4, -1e9, "float32"))
    for i in (0, 2):  # so that branch 1 has no say in the other gates
        kernel = model.get_layer(f"gate_{i}").kernel
        kernel.assign(np.zeros(kernel.shape))
    before = np.array(model([*vectors, all_there()]))
    vectors[1] += 10
    np.testing.assert_allclose(model([*vectors, all_there()]), before, rtol=1e-5)


def test_tensor_fusion_is_the_outer_product_of_the_vectors_with_a_one():
    model, vectors = built("tensor"), rows()
    parts = []
    for i, vector in enumerate(vectors):
        kernel, bias = (w.numpy() for w in model.get_layer(f"project_{i}").weights)
        part = gelu(vector @ kernel + bias)
        parts.append(np.concatenate([np.ones((6, 1)), part], axis=1))
    product = np.einsum("bi,bj,bk->bijk", *parts).reshape(6, -1)
    kernel, bias = (w.numpy() for w in model.get_layer("fused").weights)
    expected = np.maximum(product @ kernel + bias, 0)
    np.testing.assert_allclose(model([*vectors, all_there()]), expected, rtol=1e-3)


def test_a_tensor_too_large_is_refused():
    with pytest.raises(ValueError, match="would have 1,030,301 numbers"):
        built("tensor", width=100)


def test_low_rank_fusion_is_the_tensor_fusion_of_a_low_rank_tensor():
    model, vectors = built("low_rank"), rows()
    ones, factors = [], []
    for i, vector in enumerate(vectors):
        kernel, bias = (w.numpy() for w in model.get_layer(f"project_{i}").weights)
        part = gelu(vector @ kernel + bias)
        ones.append(np.concatenate([part, np.ones((6, 1))], axis=1))
        kernel, bias = (w.numpy() for w in model.get_layer(f"factor_{i}").weights)
        factors.append(np.vstack([kernel, bias]).reshape(4, 2, 4))  # (1 + D, R, units)
    weigh, bias = (w.numpy() for w in model.get_layer("fused").weights)
    tensor = np.einsum("r,iru,jru,kru->ijku", weigh[0], *factors)
    expected = np.einsum("bi,bj,bk,ijku->bu", *ones, tensor) + bias
    result = model([*vectors, all_there()])
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_every_weight(kind, dropout):
    import tensorflow as tf

    model, vectors = built(kind, dropout=dropout), rows(32)
    present = all_there(32)
    present[np.arange(32), np.arange(32) % 3] = 0
    with tf.GradientTape() as tape:
        # Squares, so that rows cannot cancel out; of what is not 0 where data is not.
        loss = model([*vectors, present], training=True) - 1
        loss = tf.reduce_sum(loss**2)
    gradients = tape.gradient(loss, model.trainable_variables)
    for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.abs(np.array(gradient)).max() > 0, weight.path


def test_each_low_rank_factor_is_a_weight_that_training_changes():
    model, vectors = built("low_rank"), rows(32)
    factors = [model.get_layer(f"factor_{i}").kernel for i in range(3)]
    before = [kernel.numpy() for kernel in factors]
    model.compile("sgd", "mse")
    model.train_on_batch([*vectors, all_there(32)], np.ones((32, 4)))
    for kernel, old in zip(factors, before, strict=True):
        by_rank = np.abs(kernel.numpy() - old).reshape(-1, 2, 4).max(axis=(0, 2))
        assert (by_rank > 0).all()


def test_the_layers_are_rebuilt_from_their_config():
    for layer in (AppendOne(name="one"), SumRanks(3, name="sum")):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
    assert SumRanks(3).get_config()["rank"] == 3

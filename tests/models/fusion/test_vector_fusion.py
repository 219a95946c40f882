import keras
import numpy as np
import pytest

from mmkeras.models.fusion.vector_fusion import AppendOne, Standardize, SumRanks
from tests.layer_test import run_layer_test
from tests.models.fusion.fusion_models import (
    branch_inputs,
    build_fusion,
    presence,
    shared_fusion,
)

VECTORS = branch_inputs("concat")
INPUTS = [*VECTORS, presence()]


def gelu(x):
    return np.array(keras.activations.gelu(x))


def projections(model, activation):
    """The projected branches, (6, width) each."""
    weights = [model.get_layer(f"project_{i}").get_weights() for i in range(3)]
    return [activation(v @ w + b) for v, (w, b) in zip(VECTORS, weights, strict=True)]


def test_layers():
    run_layer_test(AppendOne, {}, VECTORS[0], (6, 4))
    settings = {"limit": 0.5}
    run_layer_test(Standardize, settings, VECTORS[0], (6, 3), expected_weights=(0, 2))
    ranks = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    run_layer_test(SumRanks, {"rank": 2}, ranks, (4, 3), expected_weights=(2, 0))


def test_interaction_has_each_term_of_the_products_once():
    model = shared_fusion("interaction")
    text, image, audio = projections(model, np.tanh)
    terms = [text, image, audio, text * image, text * audio, image * audio]
    expected = np.concatenate([*terms, text * image * audio], axis=1)
    np.testing.assert_allclose(model(INPUTS), expected, rtol=1e-4)


def test_a_closed_gate_blocks_its_branch():
    model = build_fusion("gated")
    model.get_layer("gate_1").bias.assign(np.full(4, -1e9, "float32"))
    for i in (0, 2):  # so that branch 1 cannot open the other gates
        kernel = model.get_layer(f"gate_{i}").kernel
        kernel.assign(np.zeros(kernel.shape))
    text, image, audio, present = INPUTS
    before = np.array(model(INPUTS))
    after = model([text, image + 10, audio, present])
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_tensor_fusion_is_the_outer_product_of_the_vectors_with_a_one():
    model = shared_fusion("tensor")
    parts = [
        np.concatenate([np.ones((6, 1)), part], axis=1)
        for part in projections(model, gelu)
    ]
    product = np.einsum("bi,bj,bk->bijk", *parts).reshape(6, -1)
    kernel, bias = model.get_layer("fused").get_weights()
    expected = np.maximum(product @ kernel + bias, 0)
    np.testing.assert_allclose(model(INPUTS), expected, rtol=1e-3)


def test_a_tensor_too_large_is_refused():
    with pytest.raises(ValueError, match="config.width.*100.*1,030,301.*1,000,000"):
        build_fusion("tensor", width=100)


def test_low_rank_fusion_is_the_tensor_fusion_of_a_low_rank_tensor():
    model = shared_fusion("low_rank")
    ones = [
        np.concatenate([part, np.ones((6, 1))], axis=1)
        for part in projections(model, gelu)
    ]
    factors = [
        np.vstack(model.get_layer(f"factor_{i}").get_weights()).reshape(4, 2, 4)
        for i in range(3)
    ]  # (1 + D, R, units)
    rank_weights, bias = model.get_layer("fused").get_weights()
    tensor = np.einsum("r,iru,jru,kru->ijku", rank_weights[0], *factors)
    expected = np.einsum("bi,bj,bk,ijku->bu", *ones, tensor) + bias
    np.testing.assert_allclose(model(INPUTS), expected, rtol=1e-3, atol=1e-4)


def test_training_changes_each_rank_of_each_low_rank_factor():
    model = build_fusion("low_rank", dropout=0.0)
    factors = [model.get_layer(f"factor_{i}").kernel for i in range(3)]
    before = [kernel.numpy() for kernel in factors]
    model.compile("sgd", "mse")
    inputs = [*branch_inputs("low_rank", 32), presence(32)]
    model.train_on_batch(inputs, np.ones((32, 4)))
    for kernel, old in zip(factors, before, strict=True):
        by_rank = np.abs(kernel.numpy() - old).reshape(-1, 2, 4).max(axis=(0, 2))
        assert (by_rank > 0).all()

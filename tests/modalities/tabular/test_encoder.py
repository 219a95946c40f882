import keras
import numpy as np
import pytest

from mmkeras.config.tabular import TabularConfig
from mmkeras.modalities.tabular.embedding import (
    CategoryEmbedding,
    NumberTokens,
    PeriodicEmbedding,
    RowToken,
)
from mmkeras.modalities.tabular.encoder import build_tabular_encoder
from tests.layer_test import run_layer_test
from tests.modalities.tabular.tables import ROWS, STATE, make_branch

KINDS = [{"encoder": "mlp"}, {"encoder": "ft_transformer"}]
X = make_branch().graph(STATE)(ROWS)[0].numpy()


def build(tokens=False, columns="price color sold size", **settings):
    keras.utils.set_random_seed(1)
    branch = make_branch(columns, **settings)
    x = keras.Input((branch.width,))
    return keras.Model(x, branch.build_encoder(x, STATE, tokens))


# A change of these numbers changes every saved run.
@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        (KINDS[0], 7 * 8 + (9 + 2 + 2 * 8 + 9 * 4) * 8 + 8 + 9 * (2 * 16 + 16 * 4 + 4)),
        (KINDS[1], (7 + 9 + 2 + 2 + 1) * 8 + 872 + 16),
    ],
)
def test_an_encoder_has_its_width_and_its_parameters(settings, parameters):
    encoder = build(**settings)
    assert encoder.output_shape == (None, 8)
    assert encoder.count_params() == parameters


def test_auto_is_a_transformer_where_fusion_takes_tokens():
    names = [layer.name for layer in build().layers[-1].layers]
    assert "tabular_dense1" in names and "tabular_row" not in names
    tokens, mask = build(tokens=True)(X)
    assert tokens.shape == (3, 5, 8)  # the row and four columns
    assert np.array(mask).all() and mask.shape == (3, 5)
    assert build(tokens=True, encoder="mlp")(X).shape == (3, 8)


@pytest.mark.parametrize("tokens", [False, True])
def test_without_units_it_has_no_weights_and_the_features_of_the_baseline(tokens):
    encoder = build(units=0, tokens=tokens)
    assert not encoder.weights
    np.testing.assert_array_equal(encoder(X), make_branch().linear_features(X, STATE))


@pytest.mark.parametrize("settings", KINDS)
def test_absent_and_unseen_values_are_values_of_their_own(settings):
    vectors = np.array(build(**settings)(X))
    assert np.isfinite(vectors).all()
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(vectors[first], vectors[second], atol=1e-5)


@pytest.mark.parametrize("settings", [*KINDS, {"units": 0}])
def test_a_saved_encoder_is_the_same(tmp_path, settings):
    encoder = build(**settings)
    encoder.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored(X), encoder(X))


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("columns", ["price", "color", "sold size"])
def test_any_columns_make_a_branch(settings, columns):
    branch = make_branch(columns)
    x = branch.graph(STATE)(ROWS)[0].numpy()
    assert build(columns=columns, **settings)(x).shape == (3, 8)


def test_each_column_changes_its_own_token_before_attention():
    numbers = NumberTokens([1, 2], 4)
    x, flags = np.float32([[1, 2, 3]]), np.float32([[0, 0]])
    before = np.array(numbers(x, flags))
    for new, changed in (
        ((x + np.float32([[1, 0, 0]]), flags), [True, False]),
        ((x + np.float32([[0, 1, 0]]), flags), [False, True]),
        ((x, np.float32([[0, 1]])), [False, True]),
    ):
        after = np.array(numbers(*new))
        assert np.any(after != before, axis=2)[0].tolist() == changed


def test_the_weights_of_a_token_differ_at_the_start():
    layer = NumberTokens([1, 1], 8)
    layer.build((None, 2), (None, 2))
    weights = [keras.ops.convert_to_numpy(weight) for weight in layer.weights]
    assert len(np.unique(weights)) == 3 * 2 * 8


def test_categories_of_two_columns_have_vectors_of_their_own():
    vectors = CategoryEmbedding([2, 3], 4)(np.float32([[0, 0], [1, 1], [0, 2]]))
    vectors = np.array(vectors)
    assert len(np.unique(vectors.reshape(-1, 4), axis=0)) == 5
    np.testing.assert_array_equal(vectors[0, 0], vectors[2, 0])


def test_many_categories_are_told_apart_in_half_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder = build_tabular_encoder(TabularConfig(), [], [1000])
        vectors = encoder(np.float32([[601], [602]]))
        vectors = np.array(keras.ops.cast(vectors, "float32"))
    finally:
        keras.config.set_dtype_policy(policy)
    assert not np.array_equal(*vectors)


@pytest.mark.parametrize(
    ("layer", "settings", "inputs", "shape", "weights"),
    [
        (
            CategoryEmbedding,
            {"counts": [2, 3], "units": 4},
            np.float32([[0, 0], [1, 1], [0, 2]]),
            (3, 2, 4),
            1,
        ),
        (
            NumberTokens,
            {"widths": [1, 2], "units": 4},
            (np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)),
            (2, 2, 4),
            3,
        ),
        (PeriodicEmbedding, {"units": 4}, np.ones((2, 3), np.float32), (2, 12), 4),
        (RowToken, {}, np.ones((2, 3, 4), np.float32), (2, 4, 4), 1),
    ],
)
def test_layers_keep_the_contract_of_keras(layer, settings, inputs, shape, weights):
    run_layer_test(layer, settings, inputs, shape, expected_weights=(weights, 0))

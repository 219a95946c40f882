import keras
import numpy as np
import pytest

from mmkeras.config import FusionConfig
from mmkeras.models.fusion import fuse
from mmkeras.models.fusion.missing_modality import MissingToken

SHAPES = ((4, 3), (6, 5), (2, 7))  # tokens, width
KINDS = ("cross_attention", "mult", "mean_tokens")


def built(kind, shapes=SHAPES, **settings):
    keras.utils.set_random_seed(1)
    settings = {"units": 4, "width": 8, "heads": 2, "dropout": 0.0} | settings
    branches = [
        (keras.Input(shape), keras.Input(shape[:1], dtype="bool")) for shape in shapes
    ]
    present = keras.Input((len(shapes),))
    config = FusionConfig(kind=kind, **settings)
    inputs = [x for branch in branches for x in branch]
    return keras.Model([*inputs, present], fuse(branches, present, config))


def rows(count=6, shapes=SHAPES, seed=0):
    """Tokens and masks, one after the other; the last token of some rows is none."""
    rng, inputs = np.random.default_rng(seed), []
    for length, width in shapes:
        mask = np.ones((count, length), bool)
        mask[: count // 2, -1] = False
        inputs += [rng.normal(size=(count, length, width)).astype("float32"), mask]
    return inputs


def all_there(count=6, modalities=3):
    return np.ones((count, modalities), "float32")


@pytest.mark.parametrize("kind", KINDS)
def test_a_fusion_gives_one_vector_a_row(kind):
    model = built(kind)
    result = np.array(model([*rows(), all_there()]))
    assert result.shape == (6, 4) and np.isfinite(result).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_an_absent_branch_cannot_change_the_result(kind):
    model, inputs, present = built(kind), rows(), all_there()
    present[:3, 1] = 0
    before = np.array(model([*inputs, present]))
    for content in (0.0, 1e20, np.nan):
        inputs[2][:3] = content
        inputs[3][:3] = False
        np.testing.assert_array_equal(model([*inputs, present]), before)
    inputs[2][3:] += 1
    assert not np.allclose(model([*inputs, present])[3:], before[3:], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_cannot_change_the_result(kind):
    model, inputs = built(kind), rows()
    before = np.array(model([*inputs, all_there()]))
    for tokens, mask in zip(inputs[::2], inputs[1::2], strict=True):
        tokens[~mask] = 100.0
    np.testing.assert_allclose(
        model([*inputs, all_there()]), before, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_presence_takes_what_it_is_given(kind):
    model, inputs = built(kind, presence=False), rows()
    known = np.array(model([*inputs, all_there()]))
    np.testing.assert_array_equal(model([*inputs, np.zeros((6, 3))]), known)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_branches_are_fused_as_well(kind, count):
    model = built(kind, SHAPES[:count])
    inputs = rows()[: 2 * count]
    result = np.array(model([*inputs, all_there(modalities=count)]))
    assert np.isfinite(result).all() and np.ptp(result, axis=0).any()


@pytest.mark.parametrize("kind", ["cross_attention", "mult"])
def test_each_modality_reads_all_others(kind):
    """With the dense layer taken away, what is left of modality 0 knows the others."""
    model = built(kind)
    part = keras.Model(model.inputs, model.get_layer("pool_0").output)
    inputs = rows()
    before = np.array(part([*inputs, all_there()]))
    for place in (2, 4):
        changed = list(inputs)
        changed[place] = inputs[place] + 1
        assert not np.allclose(part([*changed, all_there()]), before, atol=1e-4)


def test_the_mean_of_aligned_tokens_weighs_modalities_alike_whatever_their_lengths():
    model = built("mean_tokens")
    inputs = rows()
    mean = keras.Model(model.inputs, model.get_layer("mean").output)
    pooled = [
        np.array(
            keras.Model(model.inputs, model.get_layer(f"pool_{i}").output)(
                [*inputs, all_there()]
            )
        )
        for i in range(3)
    ]
    result = mean([*inputs, all_there()])
    np.testing.assert_allclose(result, np.mean(pooled, axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_every_weight(kind, dropout):
    import tensorflow as tf

    model, inputs = built(kind, dropout=dropout), rows(32)
    present = all_there(32)
    present[np.arange(32), np.arange(32) % 3] = 0
    with tf.GradientTape() as tape:
        loss = model([*inputs, present], training=True) - 1
        loss = tf.reduce_sum(loss**2)
    gradients = tape.gradient(loss, model.trainable_variables)
    for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.abs(np.array(gradient)).max() > 0, weight.path


def test_an_absent_row_has_one_learned_token():
    layer = MissingToken()
    tokens, mask = np.ones((2, 3, 2), "float32"), np.ones((2, 3), bool)
    mask[0, 2] = False
    layer(tokens, mask, np.ones((2, 1), "float32"))
    layer.embedding.assign([5.0, 6.0])

    filled, there = layer(tokens, mask, np.float32([[1], [0]]))

    np.testing.assert_array_equal(filled[0], np.ones((3, 2)))
    np.testing.assert_array_equal(filled[1][0], [5, 6])
    np.testing.assert_array_equal(there, [[True, True, False], [True, False, False]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_fusion_answers_the_same(kind, tmp_path):
    model = built(kind)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", compile=False)
    inputs = [*rows(), all_there()]
    np.testing.assert_array_equal(loaded(inputs), model(inputs))

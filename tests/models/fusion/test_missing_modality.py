import keras
import numpy as np
import pytest

from mmkeras.config import FusionConfig
from mmkeras.models.fusion import fuse
from mmkeras.models.fusion.missing_modality import MissingEmbedding, ModalityDropout

CONFIG = FusionConfig(units=4)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    a, b = keras.Input((3,)), keras.Input((5,))
    present = keras.Input((2,))
    return keras.Model([a, b, present], fuse([a, b], present, CONFIG))


def test_an_absent_branch_cannot_change_the_result(model):
    rng = np.random.default_rng(0)
    a, present = rng.normal(size=(1, 3)), np.array([[1.0, 0.0]])

    results = [
        np.array(model([a, b, present]))
        for b in (np.zeros((1, 5)), np.full((1, 5), 1e30), np.full((1, 5), np.nan))
    ]

    assert results[0].shape == (1, 4)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_branch_that_is_there_changes_the_result(model):
    a, present = np.ones((1, 3)), np.ones((1, 2))
    one, other = (model([a, b, present]) for b in (np.ones((1, 5)), -np.ones((1, 5))))
    assert not np.allclose(one, other)


def test_one_rows_absence_is_no_other_rows(model):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 5))
    both = np.array(model([a, b, np.ones((2, 2))]))
    one = np.array(model([a, b, np.array([[1.0, 1.0], [0.0, 1.0]])]))
    np.testing.assert_allclose(one[0], both[0], rtol=1e-6)
    assert not np.allclose(one[1], both[1])


def test_a_learned_vector_stands_where_a_branch_is_absent():
    layer = MissingEmbedding()
    vector = np.ones((2, 3), "float32")
    layer(vector, np.ones((2, 1), "float32"))
    layer.embedding.assign([5.0, 6.0, 7.0])

    result = layer(vector, np.float32([[1], [0]]))

    np.testing.assert_array_equal(result, [[1, 1, 1], [5, 6, 7]])


def test_a_mask_of_the_wrong_width_is_refused():
    with pytest.raises(ValueError, match="one column per branch: 1 branches"):
        fuse([keras.Input((3,))], keras.Input((2,)), CONFIG)


def test_one_branch_alone_needs_no_concatenation():
    a, present = keras.Input((3,)), keras.Input((1,))
    model = keras.Model([a, present], fuse([a], present, CONFIG))
    assert model([np.ones((2, 3)), np.ones((2, 1))]).shape == (2, 4)


def hidden(present, rate=0.3, training=True):
    layer = ModalityDropout(rate, seed=1)
    return np.array(layer(np.float32(present), training=training))


def test_nothing_is_hidden_when_serving():
    present = np.random.default_rng(0).integers(0, 2, (50, 3))
    np.testing.assert_array_equal(hidden(present, training=False), present)
    np.testing.assert_array_equal(hidden(present, rate=0), present)


@pytest.mark.parametrize("rate", [0.3, 0.99])
def test_the_last_modality_of_a_row_is_never_hidden(rate):
    present = np.random.default_rng(0).integers(0, 2, (500, 3))
    kept = hidden(present, rate)
    assert (kept.any(axis=1) == present.any(axis=1)).all()
    assert (kept <= present).all()


def test_modalities_are_hidden_at_the_given_rate_each_on_its_own():
    kept = hidden(np.ones((20_000, 3)))
    # All three at once would be hidden 2.7 % of the time, and those rows are kept.
    np.testing.assert_allclose(1 - kept.mean(axis=0), 0.3 - 0.027, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(kept.T)[0, 1], 0, atol=0.1)


def test_the_layers_are_rebuilt_from_their_config():
    for layer in (ModalityDropout(0.25, seed=3, name="m"), MissingEmbedding(name="a")):
        assert type(layer).from_config(layer.get_config()).get_config() == (
            layer.get_config()
        )
    assert ModalityDropout(0.25, seed=3).get_config()["rate"] == 0.25

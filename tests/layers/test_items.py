import keras
import numpy as np

from mmkeras.layers.items import ItemMean, Merged, encode_items

RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=(2, 3, 5)).astype("float32")
ITEMS[..., 0] = [[1, 1, 1], [1, 0, 0]]  # which are there


def test_items_become_rows_of_their_shape():
    rows = np.array(Merged((2, 2))(ITEMS))
    np.testing.assert_array_equal(rows, ITEMS[..., 1:].reshape(6, 2, 2))


def test_items_that_are_absent_are_left_out_of_the_mean_and_zeros_are_not():
    encoded = np.arange(6, dtype="float32")[:, None] * np.ones(2, "float32")
    mean = np.array(ItemMean()(ITEMS, encoded))
    np.testing.assert_allclose(mean, [[1, 1], [3, 3]])
    assert not np.array(ItemMean()(np.zeros_like(ITEMS), encoded)).any()
    zeros = ITEMS * (np.arange(5) == 0)
    np.testing.assert_allclose(ItemMean()(zeros, encoded), mean)


def test_a_token_is_averaged_over_the_items_that_have_it():
    tokens = np.ones((6, 2, 1), "float32") * np.arange(6)[:, None, None]
    mask = np.array([[1, 1], [1, 0], [1, 0], [1, 1], [1, 1], [1, 1]], bool)
    mean, valid = ItemMean()(ITEMS, tokens.astype("float32"), mask)
    np.testing.assert_allclose(np.array(mean)[..., 0], [[1, 0], [3, 3]])
    assert np.array(valid).all()
    _, valid = ItemMean()(ITEMS, tokens.astype("float32"), np.zeros_like(mask))
    assert not np.array(valid).any()


def test_each_item_is_encoded_by_itself_and_saved(tmp_path):
    keras.utils.set_random_seed(1)
    one = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model = encode_items(one, 3, (4,), "float32", "rows_encoder")
    expected = np.mean([one(ITEMS[:1, i, 1:]) for i in range(3)], axis=0)
    np.testing.assert_allclose(model(ITEMS)[:1], expected, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(ITEMS), model(ITEMS))

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from mmkeras.config import AudioConfig, Config, ImageConfig, VectorConfig
from mmkeras.modalities.audio.column import Audio
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.columns import build_columns
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.column import Image
from mmkeras.modalities.items import pack_items, unpack_items
from mmkeras.modalities.vector.column import Vector
from tests.table_factory import image, tone, vector

RED, BLUE = image((255, 0, 0), size=(32, 32)), image((0, 0, 255), size=(32, 32))
BLACK = image((0, 0, 0), size=(32, 32))


@pytest.fixture
def photos():
    column = Image("photos", ImageConfig(encoder="small_cnn", size_px=32, width=2))
    column.key, column.items = "photos", 3
    return column


@pytest.fixture
def files(tmp_path):
    for name, content in (("red", RED), ("blue", BLUE)):
        (tmp_path / f"{name}.png").write_bytes(content)
    return FileReader(tmp_path)


def test_several_files_of_a_cell_are_read_and_one_stays_as_it_is(photos, files):
    content = photos.read("red.png;blue.png", files)
    assert unpack_items(content.data) == [RED, BLUE]
    assert content.metadata["width_px"] == 32
    assert photos.read("red.png", files).data == RED
    assert photos.read(("red.png", BLUE), files).data == content.data


def test_more_files_than_in_training_and_a_broken_one_are_unreadable(photos, files):
    with pytest.raises(Unreadable, match="4 files, more than columns.photos.items=3"):
        photos.read("red.png;" * 4, files)
    for cell, reason in ((";", "not found"), ((), "without a file")):
        with pytest.raises(Unreadable, match=reason):
            photos.read(cell, files)
    with pytest.raises(Unreadable, match="not found"):
        photos.read("red.png;gone.png", files)


def test_a_silent_file_beside_another_is_a_warning(files):
    column = Audio("sounds", AudioConfig())
    column.items = 2
    content = column.read((tone(), tone(hz=0)), files)
    assert content.warning == "is silent" == column.read(tone(hz=0), files).warning
    assert content.metadata == column.read(tone(), files).metadata


def test_the_graph_flags_each_file_and_gives_zeros_where_none_is(photos):
    both, broken = pack_items([RED, BLUE]), pack_items([RED, b"broken"])
    rows = [both, RED, b"", broken, pack_items([RED] * 4), pack_items([BLACK, RED])]
    items, usable = photos.graph({"photos": {}})({"photos": tf.constant(rows)})
    assert items.shape == (6, *photos.input({})[0]) == (6, 3, 1 + 32 * 32 * 3)
    first = items.numpy()[..., :4].tolist()  # flag and corner
    red, blue, black = [1, 255, 0, 0], [1, 0, 0, 255], [1, 0, 0, 0]
    none = [0] * 4
    assert first[:3] == [[red, blue, none], [red, none, none], [none] * 3]
    assert first[3:] == [[none] * 3, [none] * 3, [black, red, none]]
    is_usable = [True, True, False, False, False, True]
    assert usable["photos"][0].numpy().tolist() == is_usable


def test_augmentation_leaves_missing_files_missing(photos, tiny):
    graph = photos.graph({"photos": {}})
    batch = np.zeros((2, *graph.input_spec.shape), np.uint8)
    batch[:, 0], batch[:, :2, 0] = 100, 1  # the second is black
    result = graph.finish_batch(tf.constant(batch), tf.constant([1, 2]), tiny.augment)
    result = np.asarray(result)
    assert result.shape == batch.shape and result[:, :, 0].tolist() == [[1, 1, 0]] * 2
    assert result[:, 0, 1:].any() and not result[:, 2].any()


def pack(*files):
    """Input of the model for three files, of which some are None."""
    items = np.zeros((3, 1 + 32 * 32 * 3), np.uint8)
    for i, colour in enumerate(files):
        items[i] = [1, *colour * (32 * 32)] if colour else 0
    return items


def test_the_encoding_of_a_row_is_the_mean_of_those_of_its_files(photos):
    encoder = photos.build_backbone(tokens=False)
    red, black = (255, 0, 0), (0, 0, 0)
    rows = [pack(red), pack(black), pack(red, black), pack()]
    one, other, both, nothing = np.array(encoder(np.array(rows)))
    np.testing.assert_allclose(both, (one + other) / 2, rtol=1e-5, atol=1e-6)
    assert np.abs(one - other).max() > 1e-4 and not nothing.any()
    # With one file per cell black is what it is here.
    photos.items = 1
    alone = photos.build_backbone(tokens=False)
    alone.set_weights(encoder.get_weights())
    zeros = np.zeros((1, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(alone(zeros)[0], other, rtol=1e-5, atol=1e-6)


def test_the_encoder_of_a_user_takes_one_file(photos):
    x = keras.Input(photos.input({})[0], dtype="uint8")
    mean = keras.layers.GlobalAveragePooling2D()
    encoded = photos.apply_encoder(lambda x: mean(ops.cast(x, "float32")), x, {})
    rows = np.array([pack((200, 0, 2), (100, 0, 0)), pack((0, 0, 4))])
    result = keras.Model(x, encoded)(rows)
    np.testing.assert_allclose(result, [[150, 0, 1], [0, 0, 4]])


def test_linear_features_are_the_mean_over_the_files(photos):
    rows = np.array([pack((200, 0, 2), (100, 0, 0)), pack((0, 0, 4)), pack()])
    features = photos.linear_features(rows, {})
    assert features.shape == (3, 768)
    expected = [[150, 0, 1], [0, 0, 4], [0, 0, 0]]
    np.testing.assert_allclose(features.reshape(3, 256, 3)[:, 7], expected)


def test_statistics_are_over_all_files():
    column = Vector("v", VectorConfig(), width=2)
    column.items = 2
    statistic = column.statistics()
    data = pack_items([vector([1, 2]), vector([3, 4])])
    for content, expected in ((data, [[1, 2], [3, 4]]), (vector([5, 6]), [[5, 6]])):
        result = statistic.vector(tf.constant(content))
        np.testing.assert_array_equal(result, expected)
    assert statistic.is_sequence


def test_corruption_changes_each_file_and_occlusion_the_first(photos):
    data = pack_items([RED, BLUE])
    assert len(unpack_items(photos.corrupt(data, 0.1, [0, 0]))) == 2
    seen = []

    def effects(contents):
        seen.extend(map(unpack_items, contents))
        return np.zeros(len(seen))

    photos.explain(data, effects)
    assert all(second == BLUE for _, second in seen) and len(seen) == 49


def test_columns_that_share_an_encoder_have_the_same_number_of_files():
    entries = {"front": {"type": "image", "items": 3}, "back": "image"}
    config = Config(columns=entries, image=ImageConfig(encoder="small_cnn", share=True))
    assert [column.items for column in build_columns(config)] == [3, 3]

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import AugmentConfig, ImageConfig
from mmkeras.modalities.image.column import Image
from tests import table_factory


@pytest.fixture(scope="module")
def graph():
    return Image("photo", ImageConfig(size_px=32)).graph({"photo": {}})


def test_an_image_becomes_pixels(graph):
    assert graph.input_spec == tf.TensorSpec([32, 32, 3], tf.uint8)
    assert graph.decoded_bytes(99) == 32 * 32 * 3
    rows = {"photo": tf.constant([table_factory.image(), b""])}
    pixels, usable = graph(rows)
    assert (pixels[0].numpy() == (220, 30, 40)).all() and not pixels[1].numpy().any()
    assert [x.numpy().tolist() for x in usable["photo"]] == [[True, False]] * 2


def test_only_formats_that_occur_are_decoded(graph):
    png, bmp = table_factory.image(), table_factory.image(kind="BMP")
    assert graph.decode_bytes(bmp).numpy().any()
    assert graph.decode_bytes(png, ("png",)).numpy().any()
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph.decode_bytes(bmp, ("png",))


def test_only_training_changes_pixels(graph):
    pixels = tf.constant(
        np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    )
    assert graph.finish_batch(pixels) is pixels
    seed, augment = tf.constant([1, 2]), AugmentConfig(colour=0.5)
    first, again = (graph.finish_batch(pixels, seed, augment).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != pixels.numpy()).mean() > 0.5

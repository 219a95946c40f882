from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.config import FusionConfig
from mmkeras.errors import UserError
from mmkeras.models.model import HEAD, backbones, build_model


def own_model(size_px=32):
    x = inputs = keras.Input((size_px, size_px, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(5, 3, name="mine")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, x, name="own")


def unpooled():
    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1.0)])


class Subclass(keras.Model):
    """A model that Keras cannot make from its settings."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(keras.ops.mean(x, (1, 2)))


def python_function(shape):
    mean = keras.layers.Lambda(lambda x: keras.ops.mean(x, (1, 2)))
    return keras.Sequential([keras.Input(shape), mean])


@pytest.mark.parametrize("encoder", [own_model(), lambda shape: own_model(shape[0])])
def test_an_encoder_of_the_user_replaces_that_of_the_settings(encoder, tiny, state):
    model = build_model(tiny, state, {"image": encoder})
    assert "image" not in backbones(model)
    weights = model.get_layer(HEAD).get_layer("own").get_weights()
    assert weights[0].shape == (3, 3, 3, 5)
    if isinstance(encoder, keras.Model):  # a copy with the same weights
        np.testing.assert_array_equal(weights[0], encoder.get_weights()[0])
        model.get_layer(HEAD).get_layer("own").set_weights([w * 0 for w in weights])
        assert encoder.get_weights()[0].any()


def my_loss(y_true, y_pred):
    return keras.ops.mean(y_true - y_pred)


def test_a_copy_is_not_compiled_and_as_frozen_as_the_model(tiny, state):
    inner = own_model()
    x = inputs = keras.Input((32, 32, 3))
    encoder = keras.Model(inputs, keras.layers.Dense(4)(inner(x)), name="outer")
    inner.get_layer("mine").trainable = False
    encoder.compile("adam", my_loss)
    copy = build_model(tiny, state, {"image": encoder}).get_layer(HEAD)
    outer = copy.get_layer("outer")
    assert not outer.compiled and [w.shape for w in outer.trainable_weights] == [
        (5, 4),
        (4,),
    ]
    assert outer.trainable and encoder.compiled


def test_a_vector_is_one_token_where_fusion_takes_tokens(tiny, state):
    config = replace(tiny, fusion=FusionConfig(kind="mean_tokens", width=4, units=8))
    assert build_model(config, state, {"image": own_model()}).count_params()


@pytest.mark.parametrize(
    ("encoders", "parts"),
    [
        ({"imag": own_model()}, ["'imag'", "Did you mean 'image'?"]),
        ({"image": "resnet"}, ["of type str", "keras.Model"]),
        ({"image": own_model(16)}, ["encoders['image']", "(None, 32, 32, 3)"]),
        ({"image": lambda shape: len(shape)}, ["must return a keras.Model, not int"]),
        ({"image": lambda shape: 1 / 0}, ["['image'] failed: ZeroDivisionError"]),
        ({"image": Subclass()}, ["['image'] cannot be saved and loaded"]),
        (
            {"image": python_function},
            ["['image'] cannot be saved and loaded", "Lambda"],
        ),
        (
            {"image": unpooled()},
            ["must return (B, D)", "(None, 32, 32, 3)"],
        ),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(encoders, parts, tiny, state):
    with pytest.raises(UserError) as error:
        build_model(tiny, state, encoders)
    assert all(part in str(error.value) for part in parts)

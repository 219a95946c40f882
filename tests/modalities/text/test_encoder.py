import keras
import numpy as np
import pytest

from mmkeras.config import TextConfig
from mmkeras.modalities.text.encoder import build_text_encoder

KINDS = ("lstm", "gru", "transformer", "bert")
IDS = np.int32([[3, 5, 1, 9, 2], [7, 4, 0, 0, 0]])


def build(kind, tokens=False, **settings):
    keras.utils.set_random_seed(1)
    settings = {"units": 8, "layers": 1, "heads": 2, "max_tokens": 5} | settings
    config = TextConfig(encoder=kind, **settings)
    return build_text_encoder(config, 5, 10, tokens)


# A change of these numbers changes every saved run.
@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("lstm", 80 + 544),
        ("gru", 80 + 432),
        ("transformer", 80 + 40 + 872 + 16),
        ("bert", 80 + 40 + 872 + 16),
    ],
)
def test_an_encoder_of_tokens_has_its_width_and_its_parameters(kind, parameters):
    encoder = build(kind)
    assert encoder.output_shape == (None, 8)
    assert encoder.count_params() == parameters


def test_dropout_acts_in_training_alone():
    encoder = build_text_encoder(TextConfig(dropout=0.9), 512)
    x = np.ones((1, 512), np.float32)
    np.testing.assert_array_equal(encoder(x), encoder(x, training=False))
    assert not np.allclose(encoder(x), encoder(x, training=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "max", "last", "attention"])
def test_padding_to_the_longest_text_does_not_change_a_shorter_one(kind, pooling):
    encoder = build(kind, pooling=pooling)
    short = np.array(encoder(IDS[1:]))
    np.testing.assert_allclose(encoder(IDS)[1:], short, rtol=1e-5, atol=1e-6)
    longer = np.array(encoder(np.int32([[7, 4, 6, 0, 0]])))
    assert not np.allclose(longer, short, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_tokens_matters(kind):
    first, second = np.array(build(kind)(np.int32([[3, 5, 9, 0, 0], [9, 5, 3, 0, 0]])))
    assert not np.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_come_with_their_mask(kind):
    tokens, mask = build(kind, tokens=True)(IDS)
    assert tokens.shape == (2, 5, 8)
    np.testing.assert_array_equal(mask, IDS != 0)


def test_sizes_of_bert_from_scratch_come_from_the_settings():
    encoder = build("bert", layers=2, units=12)
    assert encoder.output_shape == (None, 12)
    blocks = [layer.name for layer in encoder.layers if layer.name.endswith("_mix")]
    assert blocks == ["block1_mix", "block2_mix"]

from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.config import TextConfig
from mmkeras.errors import UserError
from mmkeras.modalities.text.encoder import build_text_encoder

KINDS = ("lstm", "gru", "transformer", "bert")
NUMBERS = np.int32([[3, 5, 1, 9, 2], [7, 4, 0, 0, 0]])


def built(kind, tokens=False, **settings):
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
        ("bert", 1_024),
    ],
)
def test_an_encoder_of_tokens_has_its_width_and_its_parameters(kind, parameters):
    encoder = built(kind)
    assert encoder.output_shape == (None, 8)
    assert encoder.count_params() == parameters


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "max", "last", "attention"])
def test_the_longest_texts_padding_is_nothing_to_a_shorter_one(kind, pooling):
    encoder = built(kind, pooling=pooling)
    together = np.array(encoder(NUMBERS))
    alone = np.array(encoder(NUMBERS[1:]))
    np.testing.assert_allclose(together[1:], alone, rtol=1e-5, atol=1e-6)
    longer = np.array(encoder(np.int32([[7, 4, 6, 0, 0]])))
    assert not np.allclose(longer, alone, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_tokens_matters(kind):
    encoder = built(kind)
    one, other = (
        np.array(encoder(np.int32([n]))) for n in ([3, 5, 9, 0, 0], [9, 5, 3, 0, 0])
    )
    assert not np.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_come_with_their_mask(kind):
    tokens, mask = built(kind, tokens=True)(NUMBERS)
    assert tokens.shape == (2, 5, 8)
    np.testing.assert_array_equal(mask, NUMBERS != 0)


def test_bert_takes_the_weights_of_a_file_and_says_what_does_not_fit(tmp_path):
    import keras_hub

    config = TextConfig(encoder="bert", units=8, layers=1, heads=2, max_tokens=5)
    backbone = keras_hub.models.BertBackbone(10, 1, 2, 8, 32, max_sequence_length=5)
    path = str(tmp_path / "bert.weights.h5")
    backbone.save_weights(path)
    encoder = build_text_encoder(
        replace(config, weights=path, dropout=0.0), 5, 10, True
    )

    expected = backbone.predict_on_batch(
        {
            "token_ids": NUMBERS,
            "segment_ids": np.zeros_like(NUMBERS),
            "padding_mask": (NUMBERS != 0).astype("int32"),
        }
    )["sequence_output"]
    np.testing.assert_allclose(encoder(NUMBERS)[0], expected, rtol=1e-5, atol=1e-6)

    with pytest.raises(UserError, match="does not fit the sizes of the settings"):
        build_text_encoder(replace(config, weights=path, units=4), 5, 10)
    with pytest.raises(UserError, match="text.weights='nowhere' is no file"):
        build_text_encoder(replace(config, weights="nowhere"), 5, 10)

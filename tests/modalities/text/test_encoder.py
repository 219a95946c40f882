import keras
import numpy as np
import pytest

from mmkeras.config import TextConfig
from mmkeras.errors import UserError
from mmkeras.modalities.kerashub import keras_hub
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
        ("bert", 1_024),
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


def test_bert_loads_a_weights_file_of_its_sizes(tmp_path):
    backbone = keras_hub().models.BertBackbone(10, 1, 2, 8, 32, max_sequence_length=5)
    path = str(tmp_path / "bert.weights.h5")
    backbone.save_weights(path)
    encoder = build("bert", True, weights=path, dropout=0.0)

    mask, segments = (IDS != 0).astype("int32"), np.zeros_like(IDS)
    inputs = {"token_ids": IDS, "segment_ids": segments, "padding_mask": mask}
    expected = backbone.predict_on_batch(inputs)["sequence_output"]
    np.testing.assert_allclose(encoder(IDS)[0], expected, rtol=1e-5, atol=1e-6)

    with pytest.raises(UserError, match=f"{path}' do not fit the sizes.*text.units"):
        build("bert", weights=path, units=4)
    with pytest.raises(UserError, match="text.weights='nowhere' is no file; give none"):
        build("bert", weights="nowhere")

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config.presets import CAPTIONS, PRESETS
from mmkeras.export.saved_model import export
from mmkeras.modalities.preprocessing_state import TextStatistics
from mmkeras.models.model import build_model
from tests.preset_models import (
    FROM_SCRATCH,
    model_inputs,
    preset_config,
    preset_state,
    tiny_preset,
    untrained_model,
)

# Of three modalities, 512 tokens and four classes. A change of one of these numbers
# changes every saved run of the preset.
PARAMETERS = {
    "resnet50-concat": 24_033_413,
    "small-concat": 356_373,
    "linear": 8_471,
    "interaction": 320_853,
    "cnn-lstm": 1_161_637,
    "cnn-rnn": 824_261,
    "bert-vit": 320_341,
    "early": 198_789,
    "late": 283_748,
    "cross-attention": 401_285,
    "gated": 578_197,
    "tensor-fusion": 920_773,
    "low-rank": 419_545,
    "mult": 1_171_013,
}
CAPTION_PARAMETERS = 1_014_332  # of 20 token ids, of at most 9 tokens per text


def test_every_preset_has_its_name_and_its_parameters_pinned():
    assert set(PARAMETERS) == set(FROM_SCRATCH) and CAPTIONS in PRESETS
    assert all(make().preset == name for name, make in PRESETS.items())


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_a_preset_has_its_parameters_and_the_gradient_reaches_each(name):
    keras.utils.set_random_seed(1)
    config = preset_config(name)
    model = build_model(config, preset_state(config))
    assert model.count_params() == PARAMETERS[name]
    with tf.GradientTape() as tape:
        probabilities = model(model_inputs(model), training=True)
        loss = tf.reduce_sum(tf.math.log(probabilities[:, 0]))
    check_gradients(model, tape.gradient(loss, model.trainable_variables))


def check_gradients(model, gradients):
    for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, weight.path
        largest = np.abs(np.array(tf.convert_to_tensor(gradient))).max()
        assert largest > 0, weight.path


def test_the_preset_of_texts_has_its_parameters_and_the_gradient_reaches_each():
    keras.utils.set_random_seed(1)
    config = preset_config(CAPTIONS)
    config = replace(config, generate=replace(config.generate, max_tokens=9))
    words = tuple(f"w{i}" for i in range(16))
    texts = TextStatistics(vocabulary=words, longest=9, most_frequent="w0")
    state = replace(preset_state(config), task=config.task, texts=texts)
    model = build_model(config, replace(state, classes=(), class_rows=()))
    assert model.count_params() == CAPTION_PARAMETERS
    with tf.GradientTape() as tape:
        logits = model(model_inputs(model), training=True)
        loss = tf.reduce_sum(tf.nn.log_softmax(logits)[..., 5])
    check_gradients(model, tape.gradient(loss, model.trainable_variables))


# Their branches cover TF-IDF with statistics, WordPiece with tokens, and averaging.
EXPORTED = ("bert-vit", "late")  # the shared run is exported with small-concat
REST = [name for name in FROM_SCRATCH if name not in EXPORTED]


@pytest.mark.parametrize(
    "name", [*EXPORTED, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)]
)
def test_a_preset_is_exported_with_raw_bytes_and_verified(name, row, tmp_path):
    keras.utils.set_random_seed(1)
    trained_model = untrained_model(tiny_preset(name), tokens=16)
    assert export(trained_model, [row], tmp_path / "export").name == "1"


@pytest.mark.parametrize("name", REST)
def test_a_preset_is_saved_and_loaded_by_keras(name, tmp_path):
    keras.utils.set_random_seed(1)
    model = untrained_model(tiny_preset(name)).model
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    inputs = model_inputs(model)
    np.testing.assert_allclose(loaded(inputs), model(inputs), atol=1e-6)

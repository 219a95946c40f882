from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config.presets import PRESETS
from mmkeras.export.inference import TrainedModel
from mmkeras.export.saved_model import export
from mmkeras.modalities.preprocessing_state import MULTICLASS, PreprocessingState
from mmkeras.modalities.preprocessor import Preprocessor, with_widths
from mmkeras.models.model import build_model

# Of three modalities, 512 tokens and four classes. A change of one of these numbers
# changes every saved run of the preset.
PARAMETERS = {
    "resnet50-concat": 24_033_413,
    "small-concat": 356_373,
    "interaction": 320_853,
    "cnn-lstm": 1_161_637,
    "cnn-rnn": 824_261,
    "bert-vit": 320_469,
    "early": 198_789,
    "late": 283_748,
    "cross-attention": 401_285,
    "gated": 578_197,
    "tensor-fusion": 920_773,
    "low-rank": 419_545,
    "mult": 1_171_013,
}


def settings(name):
    config = PRESETS[name]()
    return replace(config, image=replace(config.image, weights="none"))


def tiny(name):
    """The preset's own architecture at its smallest."""
    config = settings(name)
    text, audio = config.text, config.audio
    return replace(
        config,
        image=replace(config.image, size_px=32, width=2, units=8, layers=1, heads=2),
        text=replace(text, max_tokens=8, units=min(text.units, 8), layers=1, heads=2),
        audio=replace(
            audio,
            rate_hz=8000,
            clip_s=0.25,
            bands=8,
            high_hz=3800.0,
            mfccs=4,
            units=min(audio.units, 4),
        ),
        fusion=replace(config.fusion, units=8, width=8, heads=2),
    )


def learned(config, tokens=512):
    found = PreprocessingState(
        modalities=("text", "image", "audio"),
        task=MULTICLASS,
        classes=("a", "b", "c", "d"),
        class_rows=(1, 1, 1, 1),
        vocabulary=("the", "cow", *(f"w{i}" for i in range(tokens - 2))),
        idf=(1.0,) * tokens,
    )
    return with_widths(found, config)


def rows(model, count=8):
    """Random inputs; of some rows one modality, of one row all are absent."""
    rng, inputs = np.random.default_rng(0), {}
    for name, x in model.input.items():
        shape = (count, *x.shape[1:])
        if x.dtype == "int32":
            inputs[name] = rng.integers(1, 20, shape).astype("int32")
            inputs[name][::2, shape[1] // 2 :] = 0
        elif x.dtype == "uint8":
            inputs[name] = rng.integers(0, 256, shape).astype("uint8")
        else:
            inputs[name] = rng.normal(size=shape).astype("float32")
    present = np.ones((count, 3), "float32")
    present[1:4] -= np.eye(3)
    present[5] = 0
    return {**inputs, "present": present}


def test_every_preset_has_its_name_and_its_parameters_pinned():
    assert set(PARAMETERS) == set(PRESETS)
    assert all(make().preset == name for name, make in PRESETS.items())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_its_parameters_and_the_gradient_reaches_each(name):
    keras.utils.set_random_seed(1)
    config = settings(name)
    model = build_model(config, learned(config))
    assert model.count_params() == PARAMETERS[name]
    with tf.GradientTape() as tape:
        probabilities = model(rows(model), training=True)
        loss = tf.reduce_sum(tf.math.log(probabilities[:, 0]))
    gradients = tape.gradient(loss, model.trainable_variables)
    for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, weight.path
        largest = np.abs(np.array(tf.convert_to_tensor(gradient))).max()
        assert largest > 0, weight.path


@pytest.mark.e2e
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_exported_with_raw_bytes_and_proved(name, row, tmp_path):
    keras.utils.set_random_seed(1)
    config = tiny(name)
    found = learned(config, tokens=16)
    trained_model = TrainedModel(
        preprocessor=Preprocessor(config, found), model=build_model(config, found)
    )
    assert export(trained_model, [row], tmp_path / "export").name == "1"

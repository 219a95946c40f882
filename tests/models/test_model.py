import os
import pickle
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import Config, ImageConfig
from mmkeras.config.presets import small_concat
from mmkeras.modalities.preprocessing_state import (
    BINARY,
    MULTICLASS,
    MULTILABEL,
    PreprocessingState,
)
from mmkeras.models.model import build_model, set_temperature, with_outputs

MODALITIES = ("text", "image", "audio")


def rows(config, state, count=8, seed=0):
    rng = np.random.default_rng(seed)
    size = config.image.size_px
    inputs = {
        "image": rng.integers(0, 256, (count, size, size, 3), np.uint8),
        **{
            m: rng.normal(size=(count, width)).astype("float32")
            for m, width in state.widths.items()
        },
    }
    present = np.ones((count, 3), "float32")
    present[1:4] -= np.eye(3)
    return {**inputs, "present": present}


@pytest.fixture(scope="module")
def model(tiny, state):
    keras.utils.set_random_seed(1)
    return build_model(tiny, state)


@pytest.fixture(scope="module")
def batch(tiny, state):
    return rows(tiny, state)


def reference(task=MULTICLASS, classes=("a", "b", "c")):
    found = PreprocessingState(
        modalities=MODALITIES,
        task=task,
        classes=classes,
        class_rows=(1,) * len(classes),
        widths={"text": 512, "audio": 128},
    )
    return build_model(Config(image=ImageConfig(weights="none")), found)


def shapes(model):
    """Output width by layer, of the model and of the models inside."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.update(shapes(layer))
        if layer.name != "head":
            found[layer.name] = layer.output.shape[1:]
    return found


def test_the_reference_model_is_as_its_paper_has_it():
    model = reference()

    assert {name: x.shape[1:] for name, x in model.input.items()} == {
        "text": (512,),
        "image": (224, 224, 3),
        "audio": (128,),
        "present": (3,),
    }
    width = shapes(model)
    assert width["image_encoder"] == (2048,)
    assert width["text_dense"] == (256,)
    assert width["audio_dense"] == (64,)
    assert width["concatenate"] == (2368,)
    assert width["fused"] == (128,)
    assert width["logits"] == (3,)
    head = model.get_layer("head")
    joined = [x.shape[1] for x in head.get_layer("concatenate").input]
    assert joined == [256, 2048, 64]  # text, image, audio
    for name in ("text_encoder", "audio_encoder"):
        assert head.get_layer(name).layers[-1].activation is keras.activations.relu
    assert head.get_layer("fused").activation is keras.activations.relu
    # ResNet50, text, audio, absence embeddings, fused, logits, temperature
    parts = (23_587_712, 131_328, 8_256, 2_368, 303_232, 387, 1)
    assert model.count_params() == sum(parts) == 24_033_284


def test_small_concat_keeps_the_widths_of_text_and_audio(state):
    widths = {"text": 512, "audio": 128}
    model = build_model(small_concat(), replace(state, widths=widths))
    joined = model.get_layer("head").get_layer("concatenate").input
    assert [x.shape[1] for x in joined] == [256, 256, 64]
    # image, text, audio, absence embeddings, fused, logits, temperature
    parts = (141_840, 131_328, 8_256, 576, 73_856, 387, 1)
    assert model.count_params() == sum(parts)


@pytest.mark.parametrize(
    ("task", "classes", "units", "activation"),
    [
        (BINARY, ("no", "yes"), 1, "sigmoid"),
        (MULTICLASS, ("a", "b", "c"), 3, "softmax"),
        (MULTILABEL, ("a", "b"), 2, "sigmoid"),
    ],
)
def test_the_head_has_the_units_of_its_task(
    task, classes, units, activation, tiny, state, batch
):
    found = replace(state, task=task, classes=classes)
    model = build_model(tiny, found)

    result = np.array(model(batch))

    assert result.shape == (8, units)
    assert ((result > 0) & (result < 1)).all()
    last = model.get_layer("head").get_layer("probabilities")
    assert last.activation is getattr(keras.activations, activation)
    if task == MULTICLASS:
        np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("absent", MODALITIES)
def test_an_absent_branch_cannot_change_the_result(absent, model, batch):
    present = np.ones((8, 3), "float32")
    present[:, MODALITIES.index(absent)] = 0
    shape = batch[absent].shape
    fillings = [np.zeros(shape), np.full(shape, 255)]
    if absent != "image":
        fillings.append(np.full(shape, np.nan))

    results = [
        np.array(
            model({**batch, "present": present, absent: f.astype(batch[absent].dtype)})
        )
        for f in fillings
    ]

    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("changed", MODALITIES)
def test_each_branch_that_is_there_changes_the_result(changed, model, batch):
    other = {**batch, "present": np.ones((8, 3), "float32")}
    one = np.array(model(other))
    other[changed] = np.flip(other[changed], axis=-1)
    assert not np.allclose(one, model(other), atol=1e-6)


def test_each_row_is_judged_on_its_own(model, batch):
    together = np.array(model(batch))
    for i in range(8):
        alone = model({name: x[i : i + 1] for name, x in batch.items()})
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-4)


@pytest.mark.parametrize(
    "modalities", [("text",), ("image",), ("audio",), ("text", "audio")]
)
def test_fewer_modalities_make_a_smaller_model(modalities, tiny, state, batch):
    model = build_model(tiny, replace(state, modalities=modalities))
    assert set(model.input) == {*modalities, "present"}
    inputs = {m: batch[m] for m in modalities}
    inputs["present"] = np.ones((8, len(modalities)), "float32")
    assert model(inputs).shape == (8, 3)


def test_a_gradient_reaches_every_trainable_weight(tiny, state, batch):
    keras.utils.set_random_seed(1)
    model = build_model(tiny, state)
    target = keras.ops.one_hot(np.arange(8) % 3, 3)
    with tf.GradientTape() as tape:
        # training=False: dropout would hide branches at random
        loss = keras.losses.categorical_crossentropy(target, model(batch))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient).all(), weight.path
        assert np.abs(gradient).max() > 0, weight.path


def test_a_frozen_encoder_is_not_trained_and_the_head_is(tiny, state):
    config = replace(tiny, image=replace(tiny.image, frozen="yes"))
    model = build_model(config, state)
    assert not model.get_layer("image_encoder").trainable_weights
    assert len(model.trainable_weights) == len(
        model.get_layer("head").trainable_weights
    )


def test_a_saved_model_answers_the_same(model, batch, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded(batch), model(batch))
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]


def test_the_embedding_is_what_the_probabilities_come_from(model, batch):
    answer = with_outputs(model)(batch)
    probabilities, embedding = (
        np.array(answer[name]) for name in ("probabilities", "embedding")
    )

    np.testing.assert_allclose(probabilities, model(batch), rtol=1e-6)
    assert embedding.shape == (8, 8) and embedding.dtype == np.float32
    kernel, bias = model.get_layer("head").get_layer("logits").get_weights()
    logits = embedding @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4)


def test_the_embedding_of_a_loaded_model_is_the_same(model, batch, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    one, other = with_outputs(model)(batch), with_outputs(loaded)(batch)
    assert set(one) == set(other) == {"probabilities", "embedding"}
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_temperature_makes_answers_less_sure_and_keeps_their_order(model, batch):
    sure = np.array(model(batch))
    set_temperature(model, 2.0)
    try:
        calm = np.array(model(batch))
    finally:
        set_temperature(model, 1.0)
    expected = np.sqrt(sure) / np.sqrt(sure).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calm, expected, rtol=1e-4)
    assert (calm.max(axis=1) < sure.max(axis=1)).all()
    assert (calm.argmax(axis=1) == sure.argmax(axis=1)).all()


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_answers_in_float32(precision, tiny, state, model, batch):
    keras.config.set_dtype_policy(precision)
    try:
        mixed = build_model(tiny, state)
        mixed.set_weights(model.get_weights())
        answer = with_outputs(mixed)(batch)
    finally:
        keras.config.set_dtype_policy("float32")
    probabilities = answer["probabilities"]
    assert probabilities.dtype == answer["embedding"].dtype == tf.float32
    assert mixed.get_layer("head").get_layer("fused").compute_dtype == precision[6:]
    np.testing.assert_allclose(probabilities, model(batch), atol=0.02)


IN_JAX = """
import pickle, sys
import numpy as np
from mmkeras.models.model import build_model
assert "tensorflow" not in sys.modules, "the model's code imports TensorFlow"
import keras
assert keras.backend.backend() == "jax"
config, analysis, batch, weights, out = pickle.load(sys.stdin.buffer)
model = build_model(config, analysis)
model.load_weights(weights)
np.save(out, model.predict_on_batch(batch))
"""


def test_the_weights_move_to_jax_and_answer_the_same(
    model, tiny, state, batch, tmp_path
):
    model.save_weights(tmp_path / "m.weights.h5")
    paths = [str(tmp_path / name) for name in ("m.weights.h5", "answers.npy")]
    subprocess.run(
        [sys.executable, "-c", IN_JAX],
        input=pickle.dumps((tiny, state, batch, *paths)),
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    np.testing.assert_allclose(np.load(paths[1]), model(batch), atol=1e-5)

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
from mmkeras.modalities.preprocessing_state import BINARY, MULTICLASS, MULTILABEL
from mmkeras.models.model import (
    HEAD,
    Temperature,
    backbones,
    build_model,
    class_probabilities,
    get_temperature,
    list_branches,
    set_temperature,
    with_outputs,
)
from mmkeras.schema import MODALITIES
from tests.fitted_state import fitted_state
from tests.layer_test import run_layer_test
from tests.preset_models import model_inputs

REFERENCE_COLUMNS = {"text": {"width": 512}, "image": {}, "audio": {"width": 128}}


def test_layers():
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    run_layer_test(Temperature, {}, logits, (4, 3), expected_weights=(0, 1))


@pytest.fixture(scope="module")
def model(tiny, state):
    keras.utils.set_random_seed(1)
    return build_model(tiny, state)


@pytest.fixture(scope="module")
def reloaded(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return keras.models.load_model(path, compile=False)


def widths_of(model):
    """Returns the output shape of each layer, those of nested models included."""
    widths = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            widths.update(widths_of(layer))
        if layer.name != HEAD:
            widths[layer.name] = layer.output.shape[1:]
    return widths


def test_the_reference_model_is_as_its_paper_has_it(state):
    config = Config(image=ImageConfig(weights="none"))
    model = build_model(config, replace(state, columns=REFERENCE_COLUMNS))

    assert {name: x.shape[1:] for name, x in model.input.items()} == {
        "text": (512,),
        "image": (224, 224, 3),
        "audio": (128,),
        "present": (3,),
    }
    expected = {
        "image_encoder": (2048,),
        "text_dense": (256,),
        "audio_dense": (64,),
        "concatenate": (2368,),
        "fused": (128,),
        "logits": (3,),
    }
    assert expected.items() <= widths_of(model).items()
    head = model.get_layer(HEAD)
    parts = [x.shape[1] for x in head.get_layer("concatenate").input]
    assert parts == [256, 2048, 64]  # text, image, audio
    for name in ("text_encoder", "audio_encoder"):
        assert head.get_layer(name).layers[-1].activation is keras.activations.relu
    assert head.get_layer("fused").activation is keras.activations.relu
    # ResNet50, text, audio, absence embeddings, fused, logits, temperature
    parts = (23_587_712, 131_328, 8_256, 2_368, 303_232, 387, 1)
    assert model.count_params() == sum(parts) == 24_033_284


@pytest.mark.parametrize(
    ("task", "classes", "units", "activation"),
    [
        (BINARY, ("no", "yes"), 1, "sigmoid"),
        (MULTICLASS, ("a", "b", "c"), 3, "softmax"),
        (MULTILABEL, ("a", "b"), 2, "sigmoid"),
    ],
)
def test_the_head_fits_its_task(task, classes, units, activation, tiny, state, batch):
    model = build_model(tiny, replace(state, task=task, classes=classes))
    result = np.array(model(batch))

    assert result.shape == (8, units)
    assert ((result > 0) & (result < 1)).all()
    last = model.get_layer(HEAD).get_layer("probabilities")
    assert last.activation is getattr(keras.activations, activation)
    if task == MULTICLASS:
        np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_only_a_present_branch_changes_the_result(modality, model, batch):
    inputs = {**batch, "present": np.ones((8, 3), "float32")}
    before = np.array(model(inputs))
    inputs[modality] = np.flip(batch[modality], axis=-1)
    assert not np.allclose(model(inputs), before, atol=1e-6)

    inputs["present"][:, MODALITIES.index(modality)] = 0
    contents = [0, 255] if modality == "image" else [0, 255, np.nan]
    results = [
        np.array(model({**inputs, modality: np.full_like(batch[modality], content)}))
        for content in contents
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_a_row_does_not_depend_on_the_others_of_its_batch(model, batch):
    results = np.array(model(batch))
    for i in range(8):
        single = model({name: x[i : i + 1] for name, x in batch.items()})
        np.testing.assert_allclose(single[0], results[i], rtol=1e-4)


@pytest.mark.parametrize(
    "modalities", [("text",), ("image",), ("audio",), ("text", "audio")]
)
def test_fewer_modalities_make_a_smaller_model(modalities, tiny, state, batch):
    model = build_model(tiny, replace(state, branches={m: (m,) for m in modalities}))
    assert set(model.input) == {*modalities, "present"}
    inputs = {m: batch[m] for m in modalities}
    inputs["present"] = np.ones((8, len(modalities)), "float32")
    assert model(inputs).shape == (8, 3)


# Names of layers of the model, and of the encoder of another column.
NAMES = ("head", "fused", "image", "image_encoder")


@pytest.fixture(scope="module")
def model_of_columns(tiny):
    """A model of several columns of a type, one of which is a sequence."""
    columns = {name: "image" if "image" in name else "text" for name in NAMES}
    columns["fused"] = {"type": "text", "encoder": "gru", "max_tokens": 5}
    config = replace(tiny, columns=columns, text=replace(tiny.text, vocab_size=30))
    keras.utils.set_random_seed(1)
    state = fitted_state(config, {b"w%d" % i: 9 for i in range(30)})
    return config, state, build_model(config, state)


def test_each_column_has_an_encoder_of_its_own_whatever_its_name(model_of_columns):
    config, state, model = model_of_columns
    branches = list_branches(config, state)
    keys = {branch.name: branch.key for branch in branches}
    assert tuple(keys) == NAMES and set(model.input) == {*keys.values(), "present"}
    assert set(backbones(model)) == {keys["image"], keys["image_encoder"]}
    inputs = model_inputs(model)
    inputs["present"] = np.ones((8, 4), "float32")
    before = np.array(model(inputs))
    for name, key in keys.items():
        changed = inputs[key][::-1].copy()
        after = np.array(model({**inputs, key: changed}))
        assert not np.allclose(after, before, atol=1e-6), name


def test_a_model_of_several_columns_of_a_type_is_saved(model_of_columns, tmp_path):
    _, _, model = model_of_columns
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    inputs = model_inputs(model)
    inputs["present"] = np.ones((8, 4), "float32")
    np.testing.assert_allclose(loaded(inputs), model(inputs), atol=1e-6)


def test_columns_of_images_can_share_one_encoder(tiny, tmp_path):
    entries = {"front": "image", "back": "image", "text": "text"}
    image = replace(tiny.image, share=True)
    config = replace(tiny, image=image, columns=entries)
    model = build_model(config, fitted_state(config))
    front, back = (backbones(model)[key] for key in sorted(backbones(model)))
    assert front is back
    alone = replace(config, image=tiny.image)
    separate = build_model(alone, fitted_state(alone))
    weights = len(front.weights)
    assert len(model.weights) == len(separate.weights) - weights
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len({id(encoder) for encoder in backbones(loaded).values()}) == 1


def test_a_frozen_encoder_is_not_trained_and_the_head_is(tiny, state):
    config = replace(tiny, image=replace(tiny.image, frozen="yes"))
    model = build_model(config, state)
    assert not model.get_layer("image_encoder").trainable_weights
    head = model.get_layer(HEAD)
    assert len(model.trainable_weights) == len(head.trainable_weights) > 0


def test_a_saved_model_gives_the_same(model, reloaded, batch):
    assert [w.path for w in reloaded.weights] == [w.path for w in model.weights]
    outputs, expected = with_outputs(reloaded)(batch), with_outputs(model)(batch)
    assert set(outputs) == set(expected) == {"probabilities", "embedding"}
    for name in outputs:
        np.testing.assert_array_equal(outputs[name], expected[name])
    np.testing.assert_array_equal(reloaded(batch), model(batch))


def test_the_probabilities_are_computed_from_the_embedding(model, batch):
    outputs = with_outputs(model)(batch)
    probabilities, embedding = (
        np.array(outputs[name]) for name in ("probabilities", "embedding")
    )

    np.testing.assert_allclose(probabilities, model(batch), rtol=1e-6)
    assert embedding.shape == (8, 8) and embedding.dtype == np.float32
    kernel, bias = model.get_layer(HEAD).get_layer("logits").get_weights()
    logits = embedding @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4)


def test_a_temperature_lowers_the_confidence_and_keeps_the_order(reloaded, batch):
    before = np.array(reloaded(batch))
    assert get_temperature(reloaded) == 1
    set_temperature(reloaded, 2.0)
    try:
        assert get_temperature(reloaded) == 2
        after = np.array(reloaded(batch))
    finally:
        set_temperature(reloaded, 1.0)
    expected = np.sqrt(before) / np.sqrt(before).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(after, expected, rtol=1e-4)
    assert (after.max(axis=1) < before.max(axis=1)).all()
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()


def test_a_binary_task_has_a_probability_per_class_too():
    one = np.float32([[0.25], [1]])
    two = class_probabilities(one, BINARY)
    np.testing.assert_array_equal(two, [[0.75, 0.25], [0, 1]])
    assert class_probabilities(one, MULTILABEL) is one


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_float32(precision, tiny, state, model, batch):
    keras.config.set_dtype_policy(precision)
    try:
        mixed = build_model(tiny, state)
        mixed.set_weights(model.get_weights())
        outputs = with_outputs(mixed)(batch)
    finally:
        keras.config.set_dtype_policy("float32")
    probabilities = outputs["probabilities"]
    assert probabilities.dtype == outputs["embedding"].dtype == tf.float32
    assert mixed.get_layer(HEAD).get_layer("fused").compute_dtype == precision[6:]
    np.testing.assert_allclose(probabilities, model(batch), atol=0.02)


IN_JAX = """
import pickle, sys
import numpy as np
from mmkeras.models.model import build_model
assert "tensorflow" not in sys.modules, "the model's code imports TensorFlow"
import keras
assert keras.backend.backend() == "jax"
config, state, batch, weights, out = pickle.load(sys.stdin.buffer)
model = build_model(config, state)
model.load_weights(weights)
np.save(out, model.predict_on_batch(batch))
"""


def test_the_weights_move_to_jax_and_give_the_same(model, tiny, state, batch, tmp_path):
    model.save_weights(tmp_path / "m.weights.h5")
    paths = [str(tmp_path / name) for name in ("m.weights.h5", "out.npy")]
    subprocess.run(
        [sys.executable, "-c", IN_JAX],
        input=pickle.dumps((tiny, state, batch, *paths)),
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    np.testing.assert_allclose(np.load(paths[1]), model(batch), atol=1e-5)

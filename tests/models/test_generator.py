"""Generators: memory and decoder, and an encoder of texts that branches align with."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.config import Config, GenerateConfig, LossConfig, TableConfig
from mmkeras.modalities.preprocessing_state import GENERATE, TextStatistics
from mmkeras.models.decoder import select_decoder_inputs
from mmkeras.models.generator import build_generator, get_decoder, get_label_encoder
from mmkeras.models.model import (
    HEAD,
    backbones,
    build_model,
    run_head,
    with_outputs,
)

SMALL = GenerateConfig(width=8, layers=1, heads=2, max_tokens=3)
TOKENS = np.array([[2, 5, 6, 3]] * 8, "int32")


def build(config, state, **changes):
    keras.utils.set_random_seed(1)
    fusion = replace(config.fusion, kind="concat", width=8)
    config = replace(config, task=GENERATE, generate=SMALL, fusion=fusion, **changes)
    texts = TextStatistics(vocabulary=("a", "b", "c"), longest=3, most_frequent="a")
    state = replace(state, task=GENERATE, classes=(), class_rows=(), texts=texts)
    return build_model(config, state)


@pytest.fixture(scope="module")
def model(tiny, state):
    return build(tiny, state)


@pytest.fixture(scope="module")
def aligned_model(tiny, state):
    table = TableConfig(label="caption")
    return build(tiny, state, table=table, loss=LossConfig(text_image=1.0, width=4))


@pytest.fixture
def inputs(model, batch):
    """Inputs of eight rows, some of which lack a branch, with the same text."""
    shape = (8, *model.input["text"].shape[1:])
    text = np.random.default_rng(1).normal(size=shape).astype("float32")
    return {**batch, "text": text, "tokens": TOKENS}


def test_a_model_gives_logits_of_the_token_after_each(model, inputs):
    logits = np.array(model(inputs))
    assert logits.shape == (8, 4, 4 + 3) and logits.dtype == np.float32
    assert np.isfinite(logits).all()
    changed = {**inputs, "tokens": TOKENS.copy()}
    changed["tokens"][:, 2] = 4
    after = np.array(model(changed))
    np.testing.assert_allclose(after[:, :2], logits[:, :2], atol=1e-5)
    assert np.abs(after[:, 2:] - logits[:, 2:]).max() > 1e-4


@pytest.mark.parametrize(("place", "name"), list(enumerate(["text", "image", "audio"])))
def test_only_a_present_branch_changes_the_logits(place, name, model, inputs):
    inputs["present"] = np.ones((8, 3), "float32")
    inputs["present"][:4, place] = 0
    before = np.array(model(inputs))
    value = inputs[name]
    after = np.array(model({**inputs, name: 255 - value}))
    np.testing.assert_allclose(after[:4], before[:4], atol=1e-5)
    assert np.abs(after[4:] - before[4:]).max() > 1e-5


def test_a_row_does_not_depend_on_the_others(model, inputs):
    part = {name: x[2:4] for name, x in inputs.items()}
    np.testing.assert_allclose(model(part), np.array(model(inputs))[2:4], atol=1e-5)


def test_outputs_have_the_memory_and_on_demand_those_of_the_decoder(model, inputs):
    without = with_outputs(model)
    assert "tokens" not in without.input
    assert {"memory", "memory_mask", "embedding"} == set(without.output)
    complete = with_outputs(model, has_tokens=True)
    outputs = complete(inputs)
    assert {"logits", "attention"} == set(outputs) - set(without.output)
    np.testing.assert_allclose(outputs["logits"], model(inputs), atol=1e-5)
    memory = without({k: v for k, v in inputs.items() if k != "tokens"})
    np.testing.assert_allclose(memory["memory"], outputs["memory"], atol=1e-6)
    counts = np.array(outputs["memory_mask"]).sum(axis=1)
    # Rows 1 to 3 lack a branch, and that of the image has several tokens.
    assert counts[2] < counts[1] == counts[3] == counts[0]


def test_the_decoder_of_a_model_continues_the_output_of_its_head(model, inputs):
    head = model.get_layer(HEAD)
    encoded = {name: inputs[name] for name in head.input if name in inputs}
    encoded = with_encoded(model, encoded)
    outputs = run_head(model, encoded)
    tokens = keras.ops.convert_to_tensor(TOKENS)
    logits = get_decoder(model)({**select_decoder_inputs(outputs), "tokens": tokens})[
        "logits"
    ]
    np.testing.assert_allclose(logits, model(inputs), atol=1e-5)


def with_encoded(model, inputs):
    """Returns the inputs of the head: those of backbones are encoded."""
    encode = backbones(model)
    tensors = {name: keras.ops.convert_to_tensor(x) for name, x in inputs.items()}
    return {n: encode[n](x) if n in encode else x for n, x in tensors.items()}


def test_an_aligned_label_has_an_encoder_and_a_vector(aligned_model, model, inputs):
    outputs = with_outputs(aligned_model, has_tokens=True)(inputs)
    vectors = np.array(outputs["caption_embedding"])
    assert vectors.shape == (8, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(
        vectors, get_label_encoder(aligned_model)({"tokens": TOKENS})
    )
    assert outputs["image_embedding"].shape == outputs["text_embedding"].shape == (8, 4)
    assert "alignment_scale" in outputs
    with pytest.raises(ValueError, match="label_encoder"):
        get_label_encoder(model)


def test_the_number_of_parameters_is_pinned():
    config = Config(
        task=GENERATE, generate=SMALL, loss=LossConfig(text_image=1, width=4)
    )
    plain, aligned = (
        build_generator(config, vocab_size=7, is_aligned=is_aligned).count_params()
        for is_aligned in (False, True)
    )
    assert (plain, aligned) == (2855, 2855 + 7 * 4 + 40 + 36)


def test_a_saved_model_gives_the_same(aligned_model, inputs, tmp_path):
    aligned_model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_array_equal(loaded(inputs), aligned_model(inputs))
    np.testing.assert_array_equal(
        get_label_encoder(loaded)({"tokens": TOKENS}),
        get_label_encoder(aligned_model)({"tokens": TOKENS}),
    )

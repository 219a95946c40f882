import keras
import numpy as np
import pytest

from tests.models.fusion.fusion_models import (
    TOKEN_KINDS,
    branch_inputs,
    presence,
    shared_fusion,
)


def output_of(model, layer, inputs):
    part = keras.Model(model.inputs, model.get_layer(layer).output)
    return np.array(part([*inputs, presence()]))


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_padding_cannot_change_the_result(kind):
    model, inputs = shared_fusion(kind), branch_inputs(kind)
    before = np.array(model([*inputs, presence()]))
    assert before.shape == (6, 4)
    for tokens, mask in zip(inputs[::2], inputs[1::2], strict=True):
        tokens[~mask] = 100.0
    after = model([*inputs, presence()])
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_pairwise_transformers_are_saved_and_loaded(tmp_path):
    model, inputs = shared_fusion("mult"), [*branch_inputs("mult"), presence()]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


@pytest.mark.parametrize("kind", ["cross_attention", "mult"])
def test_each_modality_attends_to_all_others(kind):
    model, inputs = shared_fusion(kind), branch_inputs(kind)
    before = output_of(model, "pool_0", inputs)
    for i in (2, 4):
        changed = list(inputs)
        changed[i] = inputs[i] + 1
        assert not np.allclose(output_of(model, "pool_0", changed), before, atol=1e-4)


def test_the_mean_of_aligned_tokens_weighs_modalities_alike_whatever_their_lengths():
    model, inputs = shared_fusion("mean_tokens"), branch_inputs("mean_tokens")
    pooled = [output_of(model, f"pool_{i}", inputs) for i in range(3)]
    result = output_of(model, "mean", inputs)
    np.testing.assert_allclose(result, np.mean(pooled, axis=0), rtol=1e-5, atol=1e-6)

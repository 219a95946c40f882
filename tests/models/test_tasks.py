"""Heads of the tasks: units, activations, and values of outputs."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.modalities.preprocessing_state import BINARY, MULTILABEL, LabelScale
from mmkeras.models.model import build_model
from mmkeras.models.tasks import (
    class_probabilities,
    head_activation,
    head_units,
    predicted_values,
)


@pytest.fixture
def regression(state):
    scale = LabelScale(mean=100.0, deviation=20.0)
    return replace(
        state, task="regression", classes=(), class_rows=(), label_scale=scale
    )


def test_a_binary_task_has_a_probability_per_class_too():
    one = np.float32([[0.25], [1]])
    two = class_probabilities(one, BINARY)
    np.testing.assert_array_equal(two, [[0.75, 0.25], [0, 1]])
    assert class_probabilities(one, MULTILABEL) is one


def test_a_regression_has_one_linear_unit_in_the_unit_of_the_labels(regression):
    assert head_units(regression) == 1
    assert head_activation("regression") == "linear"
    values = predicted_values(np.float32([[0], [-1.5]]), regression)
    np.testing.assert_array_equal(values, [[100], [70]])


@pytest.mark.parametrize("kind", ["concat", "late"])
def test_a_regression_can_predict_any_number(tiny, regression, kind):
    config = replace(tiny, fusion=replace(tiny.fusion, kind=kind))
    model = build_model(config, regression)
    rows = {
        name: np.zeros((2, *x.shape[1:]), x.dtype) for name, x in model.input.items()
    }
    rows["present"][:] = 1
    head = model.get_layer("head")
    assert "temperature" not in {layer.name for layer in head._flatten_layers()}
    for layer in head._flatten_layers():
        if isinstance(layer, keras.layers.Dense) and layer.name.endswith("logits"):
            layer.bias.assign(keras.ops.full(layer.bias.shape, -50.0))
    assert model.output_shape == (None, 1)
    np.testing.assert_allclose(model(rows, training=False), [[-50], [-50]], atol=9)

from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.config import LossConfig
from mmkeras.models.auxiliary_heads import AlignmentScale, UnitVector
from mmkeras.models.model import HEAD, build_model, with_outputs
from mmkeras.schema import MODALITIES
from tests.layer_test import run_layer_test

VECTORS = np.float32([[3, 4], [1, 1], [0, 0], [np.nan, 1]])
PRESENT = np.float32([[1], [0], [1], [0]])


def test_layers():
    run_layer_test(UnitVector, {}, (VECTORS[:3], PRESENT[:3]), (3, 2))
    run_layer_test(AlignmentScale, {}, PRESENT, (4, 1), expected_weights=(1, 0))


def test_a_unit_vector_has_length_one_and_an_absent_one_is_zero():
    unit = np.array(UnitVector()(VECTORS, PRESENT))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0], [0, 0], [0, 0]], atol=1e-6)


def test_the_scale_starts_as_in_its_source_and_is_clipped_to_100():
    layer = AlignmentScale()
    scale = np.array(layer(np.zeros((2, 5), "float32")))
    np.testing.assert_allclose(scale, [[1 / 0.07]] * 2, rtol=1e-5)
    assert float(layer.log_scale.constraint(9.0)) == pytest.approx(np.log(100))
    assert float(layer.log_scale.constraint(1.0)) == 1.0


@pytest.fixture(scope="module", params=["concat", "late", "mean_tokens"])
def head(request, tiny, state):
    keras.utils.set_random_seed(1)
    fusion = replace(tiny.fusion, kind=request.param)
    loss = LossConfig(text=0.5, audio=0.1, text_image=0.2, width=5)
    config = replace(tiny, fusion=fusion, loss=loss)
    model = build_model(config, state)
    return config, model


def test_each_term_has_its_outputs_which_depend_on_one_modality(head, batch):
    _, model = head
    outputs, changed = (
        {name: np.array(x) for name, x in with_outputs(model)(inputs).items()}
        for inputs in (batch, {**batch, "text": batch["text"][::-1].copy()})
    )
    assert set(outputs) == {
        *("probabilities", "embedding", "text_probabilities", "audio_probabilities"),
        *("text_embedding", "image_embedding", "alignment_scale"),
    }
    np.testing.assert_allclose(outputs["text_probabilities"].sum(1), 1, rtol=1e-5)
    lengths = np.linalg.norm(outputs["image_embedding"], axis=1)
    np.testing.assert_allclose(lengths, batch["present"][:, 1], atol=1e-5)
    for name in ("image_embedding", "audio_probabilities"):
        np.testing.assert_array_equal(changed[name], outputs[name])
    assert not np.allclose(changed["text_embedding"], outputs["text_embedding"])


def test_late_fusion_and_the_loss_share_their_classifiers(head):
    config, model = head
    names = [layer.name for layer in model.get_layer(HEAD).layers]
    assert names.count("text_logits") == names.count("audio_logits") == 1
    late = config.fusion.kind == "late"
    assert names.count("image_logits") == (1 if late else 0)


def types_of(names):
    return {name: name for name in names}


def test_settings_list_the_classifiers_and_pairs_in_use():
    config = LossConfig(text=1, text_image=0.5, image_audio=0.25)
    pairs = {("text", "image"): 0.5, ("image", "audio"): 0.25}
    assert config.pairs(types_of(MODALITIES)) == pairs
    assert config.aligned(types_of(MODALITIES)) == ["text", "image", "audio"]
    assert config.pairs(types_of(("text", "audio"))) == {}
    assert config.aligned(types_of(("image", "text"))) == ["image", "text"]
    assert config.classifiers(types_of(("image", "audio"))) == {}


def test_a_weight_of_a_type_is_that_of_each_of_its_branches():
    config = LossConfig(text=0.5, text_image=0.25)
    types = {"title": "text", "photo": "image", "body": "text", "age": "tabular"}
    assert config.classifiers(types) == {"title": 0.5, "body": 0.5}
    assert config.pairs(types) == {("title", "photo"): 0.25, ("photo", "body"): 0.25}
    assert config.aligned(types) == ["title", "photo", "body"]


def test_a_weight_of_a_type_without_a_branch_is_unavailable():
    config = LossConfig(text=0.5, text_image=0.25, image_audio=0.1, tabular=1)
    types = {"title": "text", "photo": "image"}
    assert config.unavailable(types) == ["tabular", "image_audio"]
    assert LossConfig(text=0.5).unavailable(types) == []

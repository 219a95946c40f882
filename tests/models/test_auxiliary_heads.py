from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.config import LossConfig
from mmkeras.models.auxiliary_heads import AlignmentScale, UnitVector
from mmkeras.models.model import HEAD, build_model, with_outputs
from tests.models.test_model import rows

ALL_THREE = ("text", "image", "audio")


def test_a_unit_vector_has_length_one_and_an_absent_one_is_zero():
    vectors = np.float32([[3, 4], [1, 1], [0, 0], [np.nan, 1]])
    present = np.float32([[1], [0], [1], [0]])
    found = np.array(UnitVector()(vectors, present))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, 0], [0, 0]], atol=1e-6)


def test_the_scale_begins_as_in_its_source_and_ends_at_a_hundred():
    layer = AlignmentScale()
    first = np.array(layer(np.zeros((2, 5), "float32")))
    np.testing.assert_allclose(first, [[1 / 0.07]] * 2, rtol=1e-5)
    # Clipped after a step, so that it may come down again.
    assert float(layer.log_scale.constraint(9.0)) == pytest.approx(np.log(100))
    assert float(layer.log_scale.constraint(1.0)) == 1.0


def test_weights_of_zero_cost_nothing(tiny, state):
    model = build_model(tiny, state)
    assert set(model.get_layer(HEAD).output) == {"probabilities", "embedding"}


@pytest.fixture(scope="module", params=["concat", "late", "mean_tokens"])
def head(request, tiny, state):
    keras.utils.set_random_seed(1)
    fusion = replace(tiny.fusion, kind=request.param)
    loss = LossConfig(text=0.5, audio=0.1, text_image=0.2, width=5)
    config = replace(tiny, fusion=fusion, loss=loss)
    model = build_model(config, state)
    return config, model


def test_each_term_has_its_outputs(head, state, tiny):
    config, model = head
    inputs = rows(tiny, state)
    found = {k: np.array(v) for k, v in with_outputs(model)(inputs).items()}
    assert set(found) == {
        *("probabilities", "embedding", "text_probabilities", "audio_probabilities"),
        *("text_embedding", "image_embedding", "alignment_scale"),
    }
    np.testing.assert_allclose(found["text_probabilities"].sum(1), 1, rtol=1e-5)
    lengths = np.linalg.norm(found["image_embedding"], axis=1)
    np.testing.assert_allclose(lengths, inputs["present"][:, 1], atol=1e-5)
    # Of one modality, whatever the others hold.
    other = dict(inputs, text=inputs["text"][::-1].copy())
    again = {k: np.array(v) for k, v in with_outputs(model)(other).items()}
    np.testing.assert_array_equal(again["image_embedding"], found["image_embedding"])
    np.testing.assert_array_equal(
        again["audio_probabilities"], found["audio_probabilities"]
    )
    assert not np.allclose(again["text_embedding"], found["text_embedding"])


def test_late_fusion_and_the_loss_share_their_classifiers(head, state):
    config, model = head
    names = [layer.name for layer in model.get_layer(HEAD).layers]
    assert names.count("text_logits") == names.count("audio_logits") == 1
    late = config.fusion.kind == "late"
    assert names.count("image_logits") == (1 if late else 0)


def test_settings_know_pairs_of_what_is_in_use():
    config = LossConfig(text=1, text_image=0.5, image_audio=0.25)
    assert config.pairs(ALL_THREE) == {
        ("text", "image"): 0.5,
        ("image", "audio"): 0.25,
    }
    assert config.aligned(ALL_THREE) == ["text", "image", "audio"]
    assert config.pairs(("text", "audio")) == {}
    assert config.aligned(("image", "text")) == ["image", "text"]
    assert config.classifiers(("image", "audio")) == {}

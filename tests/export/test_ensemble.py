from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.config import LossConfig
from mmkeras.errors import UserError
from mmkeras.export.ensemble import combine_models, save_ensemble
from mmkeras.export.inference import Predictor, load_trained
from mmkeras.export.saved_model import export
from mmkeras.export.two_stage_inference import TwoStagePredictor
from mmkeras.modalities.preprocessing_state import LabelScale
from mmkeras.models.model import HEAD, backbones, get_temperature, set_temperature
from mmkeras.training.run_folder import write_config
from tests import table_factory
from tests.preset_models import new_model, preset_state, tiny_preset, untrained_model

WEIGHTS = [0.5, 0.3, 0.2]
# Texts as tf-idf vectors, and as word ids; two folds share a frozen image encoder.
NAMES = ["small-concat", "small-concat-2", "cross-attention"]


def frozen(name="small-concat", **state):
    config = tiny_preset(name)
    config = replace(config, image=replace(config.image, frozen="yes"))
    return new_model(config, replace(preset_state(config, 20), **state))


def of_tokens():
    """Returns a model of tokens, whose frames of audio are standardized and padded."""
    config = tiny_preset("cross-attention")
    state = preset_state(config, 20)
    scale = {"width": 8, "mean": [0.0] * 8, "deviation": [1.0] * 8}
    columns = {**state.columns, "audio": scale}
    return new_model(config, replace(state, columns=columns))


@pytest.fixture(scope="module")
def members():
    keras.utils.set_random_seed(3)
    first, second = frozen(), frozen()
    shared = backbones(first.model)["image"].get_weights()
    backbones(second.model)["image"].set_weights(shared)
    set_temperature(second.model, 0.2)
    return [first, second, of_tokens()]


@pytest.fixture(scope="module")
def ensemble(members):
    return combine_models(iter(members), WEIGHTS, names=NAMES)


def columns_of(model):
    return model.preprocessor.columns.items()


@pytest.fixture(scope="module")
def data():
    """Complete rows, rows that lack one column, and one with a broken image."""
    rows = table_factory.make_rows(["train"] * 9)
    data = {name: [row[name] for row in rows] for name in ("text", "image", "audio")}
    data["text"] = [text.encode() for text in data["text"]]
    data["audio"][1] = data["text"][2] = data["image"][3] = b""
    data["image"][4] = data["image"][4][:50]
    return data


def mean_of(members, data, name="probabilities", weights=WEIGHTS):
    each = [Predictor(member)(data)[name] for member in members]
    return np.tensordot(weights, each, axes=1)


def test_the_ensemble_predicts_the_weighted_mean(members, ensemble, data):
    result, expected = Predictor(ensemble)(data), mean_of(members, data)
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-6)
    assert result["status"][4] == b"image unreadable"
    assert list(result["status"]) == list(Predictor(members[0])(data)["status"])


def test_equal_preprocessing_and_equal_encoders_are_there_once(ensemble):
    keys = {"text": ("text", "text_2"), "image": ("image", "image_2")}
    keys["audio"] = ("audio", "audio_2")
    assert ensemble.preprocessor.keys == keys
    assert set(backbones(ensemble.model)) == {"image", "image_2"}
    inputs, _ = ensemble.preprocessor({n: [c.absent] for n, c in columns_of(ensemble)})
    assert inputs["image"] is inputs["image_2"]  # decoded once
    assert inputs["text"].dtype != inputs["text_2"].dtype


def test_cosines_of_embeddings_are_weighted_means(members, ensemble, data):
    def cosines(model):
        vectors = Predictor(model)(data)["embedding"]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors @ vectors.T

    expected = np.tensordot(WEIGHTS, [cosines(member) for member in members], axes=1)
    np.testing.assert_allclose(cosines(ensemble), expected, atol=1e-5)


def test_the_two_stages_treat_all_inputs_of_a_branch_alike(members, ensemble, data):
    predictor = TwoStagePredictor(ensemble)
    inputs = predictor.encode(data)
    without = {**data, "text": [b""] * 9}
    expected = mean_of(members, without)
    result = predictor.predict(inputs, ["text"])
    np.testing.assert_allclose(result, expected, atol=1e-6)
    texts = data["text"][::-1]
    replaced = predictor.replace_branch(inputs, "text", {"text": texts})
    expected = mean_of(members, {**data, "text": texts})
    np.testing.assert_allclose(predictor.predict(replaced), expected, atol=1e-6)


def test_a_saved_ensemble_predicts_the_same_after_loading(ensemble, data, tmp_path):
    write_config(tmp_path, ensemble.config)
    ensemble.model.save(tmp_path / "model.keras")
    save_ensemble(tmp_path, ensemble)
    loaded = load_trained(tmp_path)
    before, after = (Predictor(x)(data) for x in (ensemble, loaded))
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
    assert [m.weight for m in loaded.preprocessor.members] == WEIGHTS
    assert loaded.preprocessor.keys == ensemble.preprocessor.keys


def test_the_export_is_verified_and_has_the_signatures_of_one_model(ensemble, tmp_path):
    rows = table_factory.make_rows(["test"] * 3)
    rows = [{**row, "text": row["text"].encode()} for row in rows]
    rows = [{name: row[name] for name, _ in columns_of(ensemble)} for row in rows]
    export(ensemble, rows, tmp_path)
    assert (tmp_path / "1" / "saved_model.pb").exists()


def test_a_temperature_divides_the_logits_of_the_mean(members, data):
    ensemble = combine_models(members[:2], [1, 1])
    assert get_temperature(ensemble.model) == 1
    mean = mean_of(members[:2], data, weights=[0.5, 0.5])
    set_temperature(ensemble.model, 2.0)
    expected = mean**0.5 / (mean**0.5).sum(axis=1, keepdims=True)
    result = Predictor(ensemble)(data)["probabilities"]
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("task", ["binary", "multilabel", "regression"])
def test_other_tasks_are_averaged_as_well(task, data):
    classes = {"binary": ("a", "b"), "multilabel": ("a", "b", "c")}.get(task, ())
    scale = LabelScale(mean=3.0, deviation=2.0) if task == "regression" else None
    state = {"task": task, "classes": classes, "label_scale": scale}
    members = [frozen(**state, class_rows=(1,) * len(classes)) for _ in range(2)]
    name = "value" if task == "regression" else "probabilities"
    ensemble = combine_models(members, [3, 1])
    expected = mean_of(members, data, name, [0.75, 0.25])
    np.testing.assert_allclose(Predictor(ensemble)(data)[name], expected, atol=2e-6)


def test_members_without_weight_are_left_out(members, data):
    ensemble = combine_models(members, [0, 0, 1.0])
    assert [m.name for m in ensemble.preprocessor.members] == ["member-3"]
    assert set(ensemble.model.input) == {"text", "image", "audio", "present"}
    result = Predictor(ensemble)(data)["probabilities"]
    expected = Predictor(members[2])(data)["probabilities"]
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_aligned_vectors_are_those_of_the_members_that_have_them(data):
    config = tiny_preset("small-concat")
    aligned = replace(config, loss=LossConfig(text_image=0.5, width=4))
    members = [untrained_model(aligned), untrained_model(config)]
    ensemble = combine_models(members, [0.5, 0.5])
    result, expected = (Predictor(x)(data) for x in (ensemble, members[0]))
    for name in ("text_embedding", "image_embedding"):
        np.testing.assert_allclose(result[name], expected[name], atol=1e-6)


def test_members_of_other_classes_are_refused():
    members = [frozen(), frozen(classes=("x", "y"), class_rows=(1, 1))]
    with pytest.raises(UserError, match=r"same classes.*\('x', 'y'\)"):
        combine_models(members, [1, 1])


def test_the_head_has_the_outputs_of_a_single_model(ensemble):
    assert set(ensemble.model.get_layer(HEAD).output) == {"probabilities", "embedding"}

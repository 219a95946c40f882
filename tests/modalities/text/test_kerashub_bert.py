import json

import numpy as np
import pytest

from mmkeras.config import TextConfig
from mmkeras.environment import extras
from mmkeras.errors import UserError
from mmkeras.modalities.kerashub import keras_hub
from mmkeras.modalities.text.column import Text
from mmkeras.modalities.text.kerashub_bert import PRESETS

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cow", "##s"]
IDS = np.int32([[2, 5, 6, 3], [2, 5, 3, 0]])


@pytest.fixture(scope="module")
def backbone():
    return keras_hub().models.BertBackbone(len(PIECES), 2, 2, 8, 32, 0.1, 6)


@pytest.fixture(scope="module")
def preset(tmp_path_factory, backbone):
    """Folder of a preset, as KerasHub writes it."""
    folder = tmp_path_factory.mktemp("preset")
    backbone.save_to_preset(str(folder))
    vocabulary = folder / "assets" / "tokenizer" / "vocabulary.txt"
    vocabulary.parent.mkdir(parents=True)
    vocabulary.write_text("".join(f"{piece}\n" for piece in PIECES))
    return folder


def column(**settings):
    settings = {"encoder": "bert", "max_tokens": 4} | settings
    return Text("title", TextConfig(**settings))


def expected(backbone):
    mask = (IDS != 0).astype("int32")
    segments = np.zeros_like(IDS)
    inputs = {"token_ids": IDS, "segment_ids": segments, "padding_mask": mask}
    return backbone.predict_on_batch(inputs)["sequence_output"] * mask[..., None]


def test_a_preset_has_its_tokens_and_its_vocabulary(preset, backbone):
    title = column(weights=str(preset))
    title.fetch()
    tokens = title.build_backbone(tokens=True)(IDS)
    np.testing.assert_allclose(tokens, expected(backbone), atol=1e-5)
    graph = title.graph({"title": title.fit(None)})
    np.testing.assert_array_equal(graph.finish_batch(["Cows", "cöw"]), IDS)


def test_a_weights_file_has_sizes_and_vocabulary_of_the_settings(preset, backbone):
    settings = {
        "weights": str(preset / "model.weights.h5"),
        "vocab_file": str(preset / "assets" / "tokenizer" / "vocabulary.txt"),
        "heads": 2,
    }
    title = column(units=8, layers=2, max_tokens=6, **settings)
    ids = np.pad(IDS, ((0, 0), (0, 2)))
    tokens = title.build_backbone(tokens=True)(ids)[:, :4]
    np.testing.assert_allclose(tokens, expected(backbone), atol=1e-5)
    with pytest.raises(UserError, match="model.weights.h5' do not fit the sizes"):
        column(units=4, layers=2, **settings).build_backbone(tokens=True)
    settings["weights"] = "gone.weights.h5"
    with pytest.raises(UserError, match="text.weights='gone.weights.h5' is no file"):
        column(units=8, **settings).fetch()


def test_a_preset_of_another_model_is_refused(preset, tmp_path):
    for name in ("config.json", "metadata.json"):
        content = json.loads((preset / name).read_text())
        content["class_name"] = "RobertaBackbone"
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match="is a preset of RobertaBackbone.*BertBackbone"):
        column(weights=str(tmp_path)).fetch()


def test_names_of_presets_are_those_of_kerashub():
    known = keras_hub().models.BertBackbone.presets
    handles = {name: known[name]["kaggle_handle"] for name in PRESETS}
    assert {n: h.rpartition("/")[0] for n, h in handles.items()} == PRESETS


def test_a_preset_needs_kerashub_from_the_start(preset, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs keras_hub.*extra 'bert'"):
        column(weights=str(preset)).fetch()
